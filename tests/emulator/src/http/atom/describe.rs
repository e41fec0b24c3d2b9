//! Descriptions of entities, their elements in the order that Service Bus writes.

use super::{COUNTS, Version, description};
use crate::http::dates;
use crate::http::xml::Writer;
use crate::model::{Counts, EntityPath, QueueInfo, Stamps, Status, SubscriptionInfo, TopicInfo};

/// A `QueueDescription`. `base` is what forwarding targets' URLs begin with.
#[must_use]
pub(crate) fn queue(info: &QueueInfo, base: &str, version: Version) -> String {
    let settings = &info.settings;
    description("QueueDescription", |writer| {
        writer.shown("LockDuration", settings.lock_duration);
        writer.shown("MaxSizeInMegabytes", settings.max_size_in_megabytes);
        writer.shown("RequiresDuplicateDetection", settings.requires_duplicate_detection);
        writer.shown("RequiresSession", settings.requires_session);
        writer.shown("DefaultMessageTimeToLive", settings.default_message_time_to_live);
        writer.shown("DeadLetteringOnMessageExpiration", settings.dead_lettering_on_message_expiration);
        writer.shown("DuplicateDetectionHistoryTimeWindow", settings.duplicate_detection_history_time_window);
        writer.shown("MaxDeliveryCount", settings.max_delivery_count);
        writer.shown("EnableBatchedOperations", settings.enable_batched_operations);
        writer.shown("SizeInBytes", info.size_in_bytes);
        writer.shown("MessageCount", all(&info.counts));
        writer.shown("IsAnonymousAccessible", false);
        writer.empty("AuthorizationRules", &[]);
        writer.shown("Status", status(settings.status));
        forward(writer, "ForwardTo", settings.forward_to.as_ref(), base);
        writer.optional("UserMetadata", settings.user_metadata.as_deref());
        stamps(writer, &info.stamps);
        writer.shown("SupportOrdering", true);
        counts(writer, &info.counts);
        writer.shown("AutoDeleteOnIdle", settings.auto_delete_on_idle);
        writer.shown("EnablePartitioning", settings.enable_partitioning);
        writer.shown("EntityAvailabilityStatus", "Available");
        let dead = settings.forward_dead_lettered_messages_to.as_ref();
        forward(writer, "ForwardDeadLetteredMessagesTo", dead, base);
        writer.shown("EnableExpress", settings.enable_express);
        message_size(writer, settings.max_message_size_in_kilobytes, version);
    })
}

/// A `TopicDescription`.
#[must_use]
pub(crate) fn topic(info: &TopicInfo, version: Version) -> String {
    let settings = &info.settings;
    description("TopicDescription", |writer| {
        writer.shown("DefaultMessageTimeToLive", settings.default_message_time_to_live);
        writer.shown("MaxSizeInMegabytes", settings.max_size_in_megabytes);
        writer.shown("RequiresDuplicateDetection", settings.requires_duplicate_detection);
        writer.shown("DuplicateDetectionHistoryTimeWindow", settings.duplicate_detection_history_time_window);
        writer.shown("EnableBatchedOperations", settings.enable_batched_operations);
        writer.shown("SizeInBytes", info.size_in_bytes);
        writer.shown("FilteringMessagesBeforePublishing", settings.filtering_messages_before_publishing);
        writer.shown("IsAnonymousAccessible", false);
        writer.empty("AuthorizationRules", &[]);
        writer.shown("Status", status(settings.status));
        stamps(writer, &info.stamps);
        writer.shown("SupportOrdering", settings.support_ordering);
        counts(writer, &info.counts);
        writer.shown("SubscriptionCount", info.subscription_count);
        if version.filter_counts {
            writer.shown("SqlFilterCount", info.sql_filter_count);
            writer.shown("CorrelationFilterCount", info.correlation_filter_count);
        }
        writer.shown("AutoDeleteOnIdle", settings.auto_delete_on_idle);
        writer.shown("EnablePartitioning", settings.enable_partitioning);
        writer.shown("EntityAvailabilityStatus", "Available");
        writer.shown("EnableSubscriptionPartitioning", false);
        writer.shown("EnableExpress", settings.enable_express);
        writer.optional("UserMetadata", settings.user_metadata.as_deref());
        message_size(writer, settings.max_message_size_in_kilobytes, version);
    })
}

/// A `SubscriptionDescription`.
#[must_use]
pub(crate) fn subscription(info: &SubscriptionInfo, base: &str) -> String {
    let settings = &info.settings;
    description("SubscriptionDescription", |writer| {
        writer.shown("LockDuration", settings.lock_duration);
        writer.shown("RequiresSession", settings.requires_session);
        writer.shown("DefaultMessageTimeToLive", settings.default_message_time_to_live);
        writer.shown("DeadLetteringOnMessageExpiration", settings.dead_lettering_on_message_expiration);
        writer.shown(
            "DeadLetteringOnFilterEvaluationExceptions",
            settings.dead_lettering_on_filter_evaluation_exceptions,
        );
        writer.shown("MessageCount", all(&info.counts));
        writer.shown("MaxDeliveryCount", settings.max_delivery_count);
        writer.shown("EnableBatchedOperations", settings.enable_batched_operations);
        writer.shown("Status", status(settings.status));
        forward(writer, "ForwardTo", settings.forward_to.as_ref(), base);
        stamps(writer, &info.stamps);
        counts(writer, &info.counts);
        writer.optional("UserMetadata", settings.user_metadata.as_deref());
        let dead = settings.forward_dead_lettered_messages_to.as_ref();
        forward(writer, "ForwardDeadLetteredMessagesTo", dead, base);
        writer.shown("AutoDeleteOnIdle", settings.auto_delete_on_idle);
        writer.shown("EntityAvailabilityStatus", "Available");
    })
}

fn all(counts: &Counts) -> u64 {
    counts.active + counts.dead_letter + counts.scheduled + counts.transfer + counts.transfer_dead_letter
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Active => "Active",
        Status::Disabled => "Disabled",
        Status::SendDisabled => "SendDisabled",
        Status::ReceiveDisabled => "ReceiveDisabled",
    }
}

fn forward(writer: &mut Writer, key: &str, path: Option<&EntityPath>, base: &str) {
    if let Some(path) = path {
        writer.shown(key, format_args!("{base}{path}"));
    }
}

fn stamps(writer: &mut Writer, stamps: &Stamps) {
    writer.shown("CreatedAt", dates::iso(stamps.created));
    writer.shown("UpdatedAt", dates::iso(stamps.updated));
    writer.shown("AccessedAt", dates::iso(stamps.accessed));
}

/// JavaScript's client looks for exactly one declaration, on this element, and takes its prefix.
fn counts(writer: &mut Writer, counts: &Counts) {
    writer.element("CountDetails", &[("xmlns:d2p1", COUNTS)], |writer| {
        writer.shown("d2p1:ActiveMessageCount", counts.active);
        writer.shown("d2p1:DeadLetterMessageCount", counts.dead_letter);
        writer.shown("d2p1:ScheduledMessageCount", counts.scheduled);
        writer.shown("d2p1:TransferMessageCount", counts.transfer);
        writer.shown("d2p1:TransferDeadLetterMessageCount", counts.transfer_dead_letter);
    });
}

fn message_size(writer: &mut Writer, kilobytes: u32, version: Version) {
    if version.large_messages {
        writer.shown("MaxMessageSizeInKilobytes", kilobytes);
    }
}
