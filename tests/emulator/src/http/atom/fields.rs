//! Settings as a client writes them. All mistakes are told at once; what is not a setting (counts, times, what later
//! versions add) is skipped.

use super::{SERVICE_BUS, Version};
use crate::http::xml::Element;
use crate::model::Condition::ArgumentError;
use crate::model::{EntityPath, Fault, QueueSettings, Span, Status, SubscriptionSettings, TopicSettings};

/// The settings of a `QueueDescription`; what isn't there has its default.
pub(crate) fn read_queue(element: &Element, version: Version) -> Result<QueueSettings, Fault> {
    let mut fields = Fields::of(element);
    let mut settings = QueueSettings::default();
    fields.span("LockDuration", &mut settings.lock_duration);
    fields.number("MaxSizeInMegabytes", &mut settings.max_size_in_megabytes);
    fields.truth("RequiresDuplicateDetection", &mut settings.requires_duplicate_detection);
    fields.truth("RequiresSession", &mut settings.requires_session);
    fields.span("DefaultMessageTimeToLive", &mut settings.default_message_time_to_live);
    fields.truth("DeadLetteringOnMessageExpiration", &mut settings.dead_lettering_on_message_expiration);
    fields.span("DuplicateDetectionHistoryTimeWindow", &mut settings.duplicate_detection_history_time_window);
    fields.number("MaxDeliveryCount", &mut settings.max_delivery_count);
    fields.truth("EnableBatchedOperations", &mut settings.enable_batched_operations);
    fields.status(&mut settings.status);
    fields.path("ForwardTo", &mut settings.forward_to);
    fields.text("UserMetadata", &mut settings.user_metadata);
    fields.span("AutoDeleteOnIdle", &mut settings.auto_delete_on_idle);
    fields.truth("EnablePartitioning", &mut settings.enable_partitioning);
    fields.path("ForwardDeadLetteredMessagesTo", &mut settings.forward_dead_lettered_messages_to);
    fields.truth("EnableExpress", &mut settings.enable_express);
    fields.message_size(version, &mut settings.max_message_size_in_kilobytes);
    fields.finish(settings)
}

/// The settings of a `TopicDescription`.
pub(crate) fn read_topic(element: &Element, version: Version) -> Result<TopicSettings, Fault> {
    let mut fields = Fields::of(element);
    let mut settings = TopicSettings::default();
    fields.span("DefaultMessageTimeToLive", &mut settings.default_message_time_to_live);
    fields.number("MaxSizeInMegabytes", &mut settings.max_size_in_megabytes);
    fields.truth("RequiresDuplicateDetection", &mut settings.requires_duplicate_detection);
    fields.span("DuplicateDetectionHistoryTimeWindow", &mut settings.duplicate_detection_history_time_window);
    fields.truth("EnableBatchedOperations", &mut settings.enable_batched_operations);
    fields.truth("FilteringMessagesBeforePublishing", &mut settings.filtering_messages_before_publishing);
    fields.status(&mut settings.status);
    fields.truth("SupportOrdering", &mut settings.support_ordering);
    fields.span("AutoDeleteOnIdle", &mut settings.auto_delete_on_idle);
    fields.truth("EnablePartitioning", &mut settings.enable_partitioning);
    fields.truth("EnableExpress", &mut settings.enable_express);
    fields.text("UserMetadata", &mut settings.user_metadata);
    fields.message_size(version, &mut settings.max_message_size_in_kilobytes);
    fields.finish(settings)
}

/// The settings of a `SubscriptionDescription`.
pub(crate) fn read_subscription(element: &Element) -> Result<SubscriptionSettings, Fault> {
    let mut fields = Fields::of(element);
    let mut settings = SubscriptionSettings::default();
    fields.span("LockDuration", &mut settings.lock_duration);
    fields.truth("RequiresSession", &mut settings.requires_session);
    fields.span("DefaultMessageTimeToLive", &mut settings.default_message_time_to_live);
    fields.truth("DeadLetteringOnMessageExpiration", &mut settings.dead_lettering_on_message_expiration);
    fields.truth(
        "DeadLetteringOnFilterEvaluationExceptions",
        &mut settings.dead_lettering_on_filter_evaluation_exceptions,
    );
    fields.number("MaxDeliveryCount", &mut settings.max_delivery_count);
    fields.truth("EnableBatchedOperations", &mut settings.enable_batched_operations);
    fields.status(&mut settings.status);
    fields.path("ForwardTo", &mut settings.forward_to);
    fields.text("UserMetadata", &mut settings.user_metadata);
    fields.path("ForwardDeadLetteredMessagesTo", &mut settings.forward_dead_lettered_messages_to);
    fields.span("AutoDeleteOnIdle", &mut settings.auto_delete_on_idle);
    fields.finish(settings)
}

struct Fields<'a> {
    element: &'a Element,
    mistakes: Vec<String>,
}

impl<'a> Fields<'a> {
    fn of(element: &'a Element) -> Self {
        Self { element, mistakes: Vec::new() }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.element.child(SERVICE_BUS, key).map(|child| child.text.trim())
    }

    fn set<T>(&mut self, key: &str, into: &mut T, parse: impl FnOnce(&str) -> Result<T, String>) {
        match self.get(key).map(parse) {
            None => {}
            Some(Ok(value)) => *into = value,
            Some(Err(mistake)) => self.mistakes.push(format!("{key}: {mistake}")),
        }
    }

    fn span(&mut self, key: &str, into: &mut Span) {
        self.set(key, into, Span::parse);
    }

    fn number(&mut self, key: &str, into: &mut u32) {
        self.set(key, into, |text| text.parse().map_err(|_| format!("`{text}` is not a whole number")));
    }

    fn truth(&mut self, key: &str, into: &mut bool) {
        self.set(key, into, |text| match text {
            "true" | "1" | "True" => Ok(true),
            "false" | "0" | "False" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        });
    }

    fn status(&mut self, into: &mut Status) {
        self.set("Status", into, |text| match text {
            "Active" => Ok(Status::Active),
            "Disabled" => Ok(Status::Disabled),
            "SendDisabled" => Ok(Status::SendDisabled),
            "ReceiveDisabled" => Ok(Status::ReceiveDisabled),
            _ => Err(format!("`{text}` is not Active, Disabled, SendDisabled or ReceiveDisabled")),
        });
    }

    fn path(&mut self, key: &str, into: &mut Option<EntityPath>) {
        self.set(key, into, |text| match text {
            "" => Ok(None),
            path => EntityPath::parse(path).map(Some).map_err(|fault| fault.text),
        });
    }

    fn text(&mut self, key: &str, into: &mut Option<String>) {
        // Text is kept as it stands, with the spaces around it.
        *into = self.element.child(SERVICE_BUS, key).map(|child| child.text.clone());
    }

    fn message_size(&mut self, version: Version, into: &mut u32) {
        let key = "MaxMessageSizeInKilobytes";
        if !version.large_messages && self.get(key).is_some() {
            self.mistakes.push(format!("{key}: there is no such setting before api-version 2021-05"));
            return;
        }
        self.number(key, into);
    }

    fn finish<T>(self, settings: T) -> Result<T, Fault> {
        if self.mistakes.is_empty() {
            return Ok(settings);
        }
        let kind = &self.element.name.local;
        Err(Fault::new(ArgumentError, format!("{kind} is not valid: {}.", self.mistakes.join("; "))))
    }
}
