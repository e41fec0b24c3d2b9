//! The pure model of a Service Bus namespace: a value that changes by [`Input`]s and by nothing else.
//!
//! Time always comes in as an argument and identifiers are derived from counters, so applying the same inputs at the
//! same times gives an equal model: that is what the journal relies on.

mod admin;
pub mod api;
mod container;
mod fault;
#[cfg(feature = "__fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod message;
mod namespace;
mod path;
mod queue;
mod sending;
mod sessions;
mod settings;
mod span;
mod sql;
mod topic;
mod turn;
mod view;

pub use api::*;
pub use fault::{Condition, Fault};
pub use message::{Message, Number, Properties, SystemProperty, Value};
pub use namespace::Model;
pub use path::{EntityPath, SubQueue};
pub use settings::{
    CorrelationFilter, Filter, Mistake, QueueSettings, RuleSettings, SqlAction, Status, SubscriptionSettings,
    TopicSettings,
};
pub use span::{Span, Time};
