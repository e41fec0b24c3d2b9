//! When all is done, and what is not.

use std::collections::{BTreeMap, HashMap};

/// An event in an outbox or an inbox.
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) status: String,
}

/// A service's rows.
pub(crate) struct Way {
    pub(crate) service: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// The events that are still on their way, and where, in words.
///
/// Every event here has one subscriber, so that it is handled when its id is in an inbox and not pending there. The
/// inboxes are to be read before the outboxes: what a handler publishes is there as soon as its event is handled.
pub(crate) fn on_their_way(inboxes: &[Way], outboxes: &[Way]) -> BTreeMap<String, u64> {
    let mut received = HashMap::new();
    for Way { service, rows } in inboxes {
        received.extend(rows.iter().map(|row| (row.id.as_str(), (service, row))));
    }
    let mut waiting = BTreeMap::new();
    for Way { service, rows } in outboxes {
        for sent in rows {
            let place = match (sent.status.as_str(), received.get(sent.id.as_str())) {
                (_, Some((service, row))) if row.status == "pending" => format!("in {service}'s inbox"),
                // Dead in the outbox: it goes nowhere, and the books will show it.
                (_, Some(_)) | ("dead", None) => continue,
                ("pending", None) => format!("in {service}'s outbox"),
                (_, None) => "at Service Bus".to_owned(),
            };
            *waiting.entry(format!("{} {place}", sent.event)).or_default() += 1;
        }
    }
    waiting
}
