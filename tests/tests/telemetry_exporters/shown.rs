//! A span as an exporter has shown it, and what must be true of the spans of the two services, whoever shows them.

use std::collections::HashMap;

/// A span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty at the root of a trace.
    pub(crate) parent: String,
    pub(crate) failed: bool,
    pub(crate) attributes: HashMap<String, String>,
    /// The ids of the spans that it is linked to.
    pub(crate) links: Vec<String>,
}

impl Shown {
    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// One order's trace goes from ordering to billing and back, and what carries the messages is linked to it, as far as the
/// exporter shows links.
pub(crate) fn assert_joined(spans: &[Shown], shows_links: bool) {
    let child = |parent: &Shown, service: &str, name: &str| -> Shown {
        let mut found = spans.iter().filter(|span| span.parent == parent.id && span.name == name);
        let found = found.next().unwrap_or_else(|| panic!("no `{name}` in {parent:#?}\namong {spans:#?}"));
        assert_eq!((found.service.as_str(), &found.trace), (service, &parent.trace), "{found:#?}");
        found.clone()
    };
    let mut placed: Vec<_> = spans.iter().filter(|span| span.name == "place an order").collect();
    placed.retain(|span| span.parent.is_empty() && span.service == "ordering");
    assert!(placed.len() >= 3, "{spans:#?}");
    let order = placed[0];
    let published = child(order, "ordering", "publish orders");
    let processed = child(&published, "billing", "process orders");
    child(&processed, "billing", "call the bank");
    let charged = child(&processed, "billing", "publish charges");
    child(&charged, "ordering", "process charges");
    assert_ne!(order.trace, placed[1].trace, "another order is another trace");

    assert_eq!(processed.attribute("messaging.system"), "servicebus");
    assert_eq!(processed.attribute("messaging.destination.subscription.name"), "billing");
    assert_eq!(processed.attribute("messaging.message.id"), published.attribute("messaging.message.id"));

    let attempts: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "process orders" && span.trace == placed[2].trace)
        .map(|span| (span.attribute("distributed_events.outcome"), span.failed))
        .collect();
    assert!(
        attempts.contains(&("retried", true)) && attempts.contains(&("processed", false)),
        "{attempts:?}"
    );

    for (name, service) in
        [("send orders", "ordering"), ("receive orders", "billing"), ("settle orders", "billing")]
    {
        let found = spans.iter().find(|span| span.name == name && span.service == service);
        let found = found.unwrap_or_else(|| panic!("no `{name}` among {spans:#?}"));
        assert_eq!(found.attribute("messaging.system"), "servicebus");
        assert_eq!(found.attribute("server.address"), "localhost");
        let linked = spans.iter().any(|span| span.name == name && span.links.contains(&published.id));
        assert!(!shows_links || name == "settle orders" || linked, "{name}: {published:#?}\n{spans:#?}");
    }
}
