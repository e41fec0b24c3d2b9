//! Service Bus over a real wire, which the tests cut, freeze and slow, against the emulator.

#[path = "service_bus/access.rs"]
mod access;
#[path = "service_bus/kinds.rs"]
mod kinds;
#[path = "service_bus/identity.rs"]
mod identity;
#[path = "service_bus/scheduled.rs"]
mod scheduled;
#[path = "service_bus/sessions.rs"]
mod sessions;

use tests::street::entities;

/// This way.
type Street = tests::street::Street<tests::street::Amqp>;

tests::street!(tests::street::Amqp);
