//! The macros of `distributed-events`, documented where that crate re-exports them.
//!
//! Each macro is three files, in the order in which they run: `attr` (what was written), `model` (what it means, with
//! every rule), `expand` (what comes of it).

mod diagnostics;
mod event;
mod handler;
mod keys;

use proc_macro::TokenStream;

/// Makes a type an event: implements `DistributedEvent`, with its `publish` methods.
///
/// The type also derives serde's `Serialize` and `Deserialize`; its JSON is what travels.
///
/// | key of `#[event(...)]` | meaning | default |
/// |---|---|---|
/// | `name = "..."` | wire name; keep it when the type is renamed | the type's identifier |
/// | `topic = "..."` | topic | the relay's default topic |
/// | `session = field`, `= 0`, `= self::function` | keeps events of one session in order | no session |
/// | `version = 2` | version of this shape | 1 |
/// | `upcast_from = OldType` | older version, converted through `From` | none |
/// | `alias = "..."` | further name under which it is received; may be repeated | none |
/// | `lane = "..."` | which of the service's brokers carries it | `default` |
/// | `max_size = 1_000_000` | largest encoded size in bytes | 240 KiB |
/// | `crate = path` | where `distributed-events` is, if renamed | `::distributed_events` |
///
/// ```text
/// #[derive(DistributedEvent, Serialize, Deserialize)]
/// #[event(name = "ordering.order-placed", topic = "orders", session = order_id)]
/// struct OrderPlaced { order_id: i64, total_cents: i64 }
/// ```
#[proc_macro_derive(DistributedEvent, attributes(event))]
pub fn derive_distributed_event(input: TokenStream) -> TokenStream {
    event::derive(input.into()).into()
}

/// Makes an async function a handler: leaves it as it is, and adds a type of the same name to register it by.
///
/// | key | meaning | default |
/// |---|---|---|
/// | `subscription = EXPR` | subscription it handles for; a constant | required |
/// | `retry(attempts = 5, initial = "1s", max = "5m", multiplier = 2.0, jitter = 0.2)` | retry policy | the bus's |
/// | `batch = 50` | events that may share one transaction; effects outside it may happen twice | one each |
/// | `timeout = "30s"` | longest run | the bus's |
/// | `unordered` | takes events with a session in any order | in order |
/// | `crate = path` | where `distributed-events` is, if renamed | `::distributed_events` |
///
/// The function takes its event first, by value or by reference, and then, in any order, `&mut Transaction<'_, DB>` (or
/// an alias), `&EventContext`, and `State<T>`. It returns `Result<(), E>`, where `E` is `HandlerError` or any error.
///
/// ```text
/// #[event_handler(subscription = "billing")]
/// async fn charge_card(order: OrderPlaced, tx: &mut Transaction<'_, Sqlite>) -> Result<(), HandlerError> { Ok(()) }
/// ```
///
/// Not supported: associated functions, generic functions, private events in public handlers, and a glob re-export that
/// gives the handler's name to a module.
#[proc_macro_attribute]
pub fn event_handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(attribute.into(), &item.into()).into()
}
