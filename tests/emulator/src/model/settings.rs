//! What an administrator decides about entities, with Service Bus's defaults and limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EntityPath, Fault, Span, Value};

/// What an entity lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Everything.
    #[default]
    Active,
    /// Nothing.
    Disabled,
    /// Receiving alone.
    SendDisabled,
    /// Sending alone.
    ReceiveDisabled,
}

/// A setting outside of its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting's name in the management API, such as `LockDuration`.
    pub key: &'static str,
    /// What is wrong with it.
    pub text: String,
}

/// A queue's settings. Those that nothing here obeys are kept, so that tools read back what they wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct QueueSettings {
    pub lock_duration: Span,
    pub max_size_in_megabytes: u32,
    pub requires_duplicate_detection: bool,
    pub requires_session: bool,
    pub default_message_time_to_live: Span,
    pub dead_lettering_on_message_expiration: bool,
    pub duplicate_detection_history_time_window: Span,
    pub max_delivery_count: u32,
    pub enable_batched_operations: bool,
    pub status: Status,
    pub forward_to: Option<EntityPath>,
    pub forward_dead_lettered_messages_to: Option<EntityPath>,
    pub user_metadata: Option<String>,
    pub auto_delete_on_idle: Span,
    pub enable_partitioning: bool,
    pub enable_express: bool,
    pub max_message_size_in_kilobytes: u32,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            lock_duration: Span::seconds(60),
            max_size_in_megabytes: 1024,
            requires_duplicate_detection: false,
            requires_session: false,
            default_message_time_to_live: Span::FOREVER,
            dead_lettering_on_message_expiration: false,
            duplicate_detection_history_time_window: Span::seconds(600),
            max_delivery_count: 10,
            enable_batched_operations: true,
            status: Status::Active,
            forward_to: None,
            forward_dead_lettered_messages_to: None,
            user_metadata: None,
            auto_delete_on_idle: Span::FOREVER,
            enable_partitioning: false,
            enable_express: false,
            max_message_size_in_kilobytes: 256,
        }
    }
}

/// A topic's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct TopicSettings {
    pub default_message_time_to_live: Span,
    pub max_size_in_megabytes: u32,
    pub requires_duplicate_detection: bool,
    pub duplicate_detection_history_time_window: Span,
    pub enable_batched_operations: bool,
    pub filtering_messages_before_publishing: bool,
    pub status: Status,
    pub support_ordering: bool,
    pub auto_delete_on_idle: Span,
    pub enable_partitioning: bool,
    pub enable_express: bool,
    pub user_metadata: Option<String>,
    pub max_message_size_in_kilobytes: u32,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            default_message_time_to_live: Span::FOREVER,
            max_size_in_megabytes: 1024,
            requires_duplicate_detection: false,
            duplicate_detection_history_time_window: Span::seconds(600),
            enable_batched_operations: true,
            filtering_messages_before_publishing: false,
            status: Status::Active,
            support_ordering: true,
            auto_delete_on_idle: Span::FOREVER,
            enable_partitioning: false,
            enable_express: false,
            user_metadata: None,
            max_message_size_in_kilobytes: 256,
        }
    }
}

/// A subscription's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct SubscriptionSettings {
    pub lock_duration: Span,
    pub requires_session: bool,
    pub default_message_time_to_live: Span,
    pub dead_lettering_on_message_expiration: bool,
    pub dead_lettering_on_filter_evaluation_exceptions: bool,
    pub max_delivery_count: u32,
    pub enable_batched_operations: bool,
    pub status: Status,
    pub forward_to: Option<EntityPath>,
    pub forward_dead_lettered_messages_to: Option<EntityPath>,
    pub user_metadata: Option<String>,
    pub auto_delete_on_idle: Span,
}

impl Default for SubscriptionSettings {
    fn default() -> Self {
        Self {
            lock_duration: Span::seconds(60),
            requires_session: false,
            default_message_time_to_live: Span::FOREVER,
            dead_lettering_on_message_expiration: false,
            dead_lettering_on_filter_evaluation_exceptions: true,
            max_delivery_count: 10,
            enable_batched_operations: true,
            status: Status::Active,
            forward_to: None,
            forward_dead_lettered_messages_to: None,
            user_metadata: None,
            auto_delete_on_idle: Span::FOREVER,
        }
    }
}

/// What a rule lets through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Filter {
    /// Everything.
    True,
    /// Nothing.
    False,
    /// What a SQL condition is true of.
    Sql {
        /// The condition.
        expression: String,
        /// Values of the `@names` in it, without the `@`.
        parameters: BTreeMap<String, Value>,
    },
    /// What has equal values.
    Correlation(CorrelationFilter),
}

/// All that is given must be equal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Service Bus's own")]
pub struct CorrelationFilter {
    pub correlation_id: Option<String>,
    pub message_id: Option<String>,
    pub to: Option<String>,
    pub reply_to: Option<String>,
    pub label: Option<String>,
    pub session_id: Option<String>,
    pub reply_to_session_id: Option<String>,
    pub content_type: Option<String>,
    /// Application properties.
    pub properties: BTreeMap<String, Value>,
}

/// A rule of a subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSettings {
    /// What goes through.
    pub filter: Filter,
    /// A SQL action such as `SET sys.Label = 'x'; REMOVE color`.
    pub action: Option<SqlAction>,
}

/// A SQL action and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SqlAction {
    /// Statements separated by semicolons.
    pub expression: String,
    /// Values of the `@names` in it, without the `@`.
    pub parameters: BTreeMap<String, Value>,
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self { filter: Filter::True, action: None }
    }
}

/// Collects mistakes, so that all are told at once.
#[derive(Default)]
struct Checks(Vec<Mistake>);

impl Checks {
    fn span(&mut self, key: &'static str, value: Span, least: Span, most: Span) {
        if value < least || value > most {
            self.0.push(Mistake { key, text: format!("{value} is not between {least} and {most}") });
        }
    }

    fn number(&mut self, key: &'static str, value: u32, least: u32, most: u32) {
        if value < least || value > most {
            self.0.push(Mistake { key, text: format!("{value} is not between {least} and {most}") });
        }
    }

    fn refuse(&mut self, wrong: bool, key: &'static str, text: &str) {
        if wrong {
            self.0.push(Mistake { key, text: text.to_owned() });
        }
    }

    fn metadata(&mut self, value: Option<&str>) {
        self.refuse(
            value.is_some_and(|text| text.chars().count() > 1024),
            "UserMetadata",
            "it has more than 1024 characters",
        );
    }
}

/// Service Bus's own least is 5 s; a second lets tests of lock expiry be quick.
const LOCK: (Span, Span) = (Span::seconds(1), Span::seconds(300));
const TTL: (Span, Span) = (Span::seconds(1), Span::FOREVER);
/// Service Bus's own least is 20 s, the official emulator's 5 s.
const WINDOW: (Span, Span) = (Span::seconds(1), Span::seconds(7 * 86_400));
/// Service Bus's own least is five minutes.
const IDLE: (Span, Span) = (Span::seconds(1), Span::FOREVER);
const DELIVERIES: (u32, u32) = (1, 2000);
const MEGABYTES: (u32, u32) = (1, 81_920);
const MESSAGE_KILOBYTES: (u32, u32) = (1, 102_400);

impl QueueSettings {
    /// All that is outside of its limits.
    #[must_use]
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut checks = Checks::default();
        checks.span("LockDuration", self.lock_duration, LOCK.0, LOCK.1);
        checks.number("MaxSizeInMegabytes", self.max_size_in_megabytes, MEGABYTES.0, MEGABYTES.1);
        checks.span("DefaultMessageTimeToLive", self.default_message_time_to_live, TTL.0, TTL.1);
        let window = self.duplicate_detection_history_time_window;
        checks.span("DuplicateDetectionHistoryTimeWindow", window, WINDOW.0, WINDOW.1);
        checks.number("MaxDeliveryCount", self.max_delivery_count, DELIVERIES.0, DELIVERIES.1);
        checks.span("AutoDeleteOnIdle", self.auto_delete_on_idle, IDLE.0, IDLE.1);
        let kilobytes = self.max_message_size_in_kilobytes;
        checks.number("MaxMessageSizeInKilobytes", kilobytes, MESSAGE_KILOBYTES.0, MESSAGE_KILOBYTES.1);
        let forwards = self.requires_session && self.forward_to.is_some();
        checks.refuse(forwards, "ForwardTo", "an entity that requires sessions cannot forward");
        checks.metadata(self.user_metadata.as_deref());
        checks.0
    }
}

impl TopicSettings {
    /// All that is outside of its limits.
    #[must_use]
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut checks = Checks::default();
        checks.number("MaxSizeInMegabytes", self.max_size_in_megabytes, MEGABYTES.0, MEGABYTES.1);
        checks.span("DefaultMessageTimeToLive", self.default_message_time_to_live, TTL.0, TTL.1);
        let window = self.duplicate_detection_history_time_window;
        checks.span("DuplicateDetectionHistoryTimeWindow", window, WINDOW.0, WINDOW.1);
        checks.span("AutoDeleteOnIdle", self.auto_delete_on_idle, IDLE.0, IDLE.1);
        let kilobytes = self.max_message_size_in_kilobytes;
        checks.number("MaxMessageSizeInKilobytes", kilobytes, MESSAGE_KILOBYTES.0, MESSAGE_KILOBYTES.1);
        checks.metadata(self.user_metadata.as_deref());
        checks.0
    }
}

impl SubscriptionSettings {
    /// All that is outside of its limits.
    #[must_use]
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut checks = Checks::default();
        checks.span("LockDuration", self.lock_duration, LOCK.0, LOCK.1);
        checks.span("DefaultMessageTimeToLive", self.default_message_time_to_live, TTL.0, TTL.1);
        checks.number("MaxDeliveryCount", self.max_delivery_count, DELIVERIES.0, DELIVERIES.1);
        checks.span("AutoDeleteOnIdle", self.auto_delete_on_idle, IDLE.0, IDLE.1);
        let forwards = self.requires_session && self.forward_to.is_some();
        checks.refuse(forwards, "ForwardTo", "an entity that requires sessions cannot forward");
        checks.metadata(self.user_metadata.as_deref());
        checks.0
    }
}

/// All mistakes as one refusal.
pub(crate) fn refuse(mistakes: &[Mistake]) -> Result<(), Fault> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> =
        mistakes.iter().map(|mistake| format!("{}: {}", mistake.key, mistake.text)).collect();
    Err(Fault::argument(texts.join("; ")))
}
