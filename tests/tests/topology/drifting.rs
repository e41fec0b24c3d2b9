//! What is there already, and not as it should be, or somebody else's.

use serde_json::{Value, json};
use tests::emulator::Emulator;

use crate::door::{delete, put, rules_of};
use crate::{billing, broker, shown, with};

/// Topic `orders` with a subscription `billing`, as one makes it in a hurry.
fn hasty(subscription: &Value) -> Emulator {
    with(&json!([{ "Name": "orders", "Properties": {}, "Subscriptions": [
        { "Name": "billing", "Properties": subscription }
    ]}]))
}

#[tokio::test]
async fn every_field_that_is_otherwise_is_told_with_what_it_should_be() {
    let emulator = hasty(&json!({
        "LockDuration": "PT30S", "MaxDeliveryCount": 3, "DefaultMessageTimeToLive": "PT1H",
        "DeadLetteringOnMessageExpiration": false
    }));
    let broker = broker(&emulator);
    let report = broker.check_topology(&billing()).await.unwrap();
    let drift: Vec<_> = report
        .drift
        .iter()
        .map(|drift| {
            (drift.entity.to_string(), drift.field.as_str(), drift.found.as_str(), drift.wanted.as_str())
        })
        .collect();
    let of = |field, found, wanted| ("subscription billing on topic orders".to_owned(), field, found, wanted);
    assert_eq!(
        drift,
        [
            ("topic orders".to_owned(), "requiresDuplicateDetection", "false", "true"),
            of("lockDuration", "30 s", "1 min"),
            of("requiresSession", "false", "true"),
            of("defaultMessageTimeToLive", "1 h", "unlimited"),
            of("deadLetteringOnMessageExpiration", "false", "true"),
            of("maxDeliveryCount", "3", "100"),
        ]
    );
    assert_eq!(shown(&report.missing).len(), 2, "its rules: {report}");
    let harmful: Vec<_> = report.harmful().collect();
    assert_eq!(harmful.len(), 1, "{report}");
    assert!(harmful[0].remedy.contains("subscription of another name"), "{report}");
    let printed = report.to_string();
    assert!(
        printed.contains("HARMFUL: subscription billing on topic orders: requiresSession is false"),
        "{printed}"
    );

    // Nothing of that is changed.
    let ensured = broker.ensure_topology(&billing()).await.unwrap();
    assert_eq!(ensured.drift, report.drift);
    assert_eq!(broker.check_topology(&billing()).await.unwrap().drift, report.drift);
}

#[tokio::test]
async fn what_takes_events_away_is_harmful() {
    let topic = json!({ "Name": "orders", "Properties": { "RequiresDuplicateDetection": true,
        "DuplicateDetectionHistoryTimeWindow": "PT1M" }, "Subscriptions": [] });
    let emulator = with(&json!([topic, { "Name": "elsewhere", "Properties": {}, "Subscriptions": [] }]));
    let description = "<SubscriptionDescription><ForwardTo>elsewhere</ForwardTo>\
                       <AutoDeleteOnIdle>PT10M</AutoDeleteOnIdle></SubscriptionDescription>";
    put(&emulator, "/orders/subscriptions/billing", description).await;
    let mut topology = billing();
    topology.subscribe("orders", "billing", crate::events(&[]), true).settings.sessions = false;
    let report = broker(&emulator).check_topology(&topology).await.unwrap();
    let harmful: Vec<_> =
        report.harmful().map(|drift| (drift.field.as_str(), drift.found.as_str())).collect();
    assert_eq!(harmful.len(), 2, "{report}");
    assert!(harmful[0].0 == "forwardTo" && harmful[0].1.ends_with("/elsewhere"), "{report}");
    assert_eq!(harmful[1], ("autoDeleteOnIdle", "10 min"));
    let window = &report.drift[0];
    assert_eq!((window.found.as_str(), window.wanted.as_str()), ("1 min", "10 min"));
}

#[tokio::test]
async fn a_queue_is_no_topic() {
    let emulator = Emulator::start(&json!({ "Name": "sbemulatorns", "Topics": [],
        "Queues": [{ "Name": "orders", "Properties": {} }] }));
    let report = broker(&emulator).ensure_topology(&billing()).await.unwrap();
    let [drift] = report.drift.as_slice() else { panic!("{report}") };
    assert!(
        (drift.field.as_str(), drift.found.as_str(), drift.harmful) == ("kind", "queue", true),
        "{report}"
    );
    assert!(report.created.is_empty(), "{report}");
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone_and_told() {
    let emulator = hasty(&json!({ "RequiresSession": true }));
    let rules = "/orders/subscriptions/billing/rules";
    let sql = "<RuleDescription><Filter i:type=\"SqlFilter\"><SqlExpression>amount &gt; 1000</SqlExpression></Filter>\
               <Action i:type=\"SqlRuleAction\"><SqlExpression>SET big = 1</SqlExpression></Action></RuleDescription>";
    put(&emulator, &format!("{rules}/large"), sql).await;
    let label =
        "<RuleDescription><Filter i:type=\"CorrelationFilter\"><Label>old</Label></Filter></RuleDescription>";
    put(&emulator, &format!("{rules}/old"), label).await;
    put(&emulator, &format!("{rules}/by-hand"), label).await;
    put(&emulator, "/orders/subscriptions/shipping", "<SubscriptionDescription></SubscriptionDescription>")
        .await;

    let broker = broker(&emulator);
    let report = broker.ensure_topology(&billing()).await.unwrap();
    assert_eq!(report.created.len(), 2, "its rules: {report}");
    let foreign: Vec<_> = report.foreign.iter().map(|it| (it.entity.to_string(), it.removable)).collect();
    let rule = |name| format!("rule {name} of subscription billing on topic orders");
    assert_eq!(
        foreign,
        [
            (rule("$Default"), true),
            (rule("by-hand"), false),
            (rule("large"), false),
            (rule("old"), true),
            ("subscription shipping on topic orders".to_owned(), false),
        ]
    );
    let printed = report.to_string();
    assert!(
        printed.contains("left alone: rule $Default of subscription billing on topic orders"),
        "{printed}"
    );
    assert!(printed.contains("SqlFilter `amount > 1000`"), "{printed}");
    assert_eq!(rules_of(&emulator, "orders", "billing").await.len(), 6);

    // And removed when it is asked for, as far as this library made it.
    let report = broker.remove_surplus_rules(&billing()).await.unwrap();
    assert_eq!(shown(&report.removed), [rule("$Default"), rule("old")]);
    assert_eq!(rules_of(&emulator, "orders", "billing").await, ["by-hand", "large", "paid", "placed"]);
    let again = broker.remove_surplus_rules(&billing()).await.unwrap();
    assert!(again.removed.is_empty() && again.created.is_empty(), "{again}");
}

#[tokio::test]
async fn nothing_is_removed_before_what_is_wanted_is_there() {
    let emulator = hasty(&json!({ "RequiresSession": true }));
    let report = broker(&emulator).remove_surplus_rules(&billing()).await.unwrap();
    assert_eq!((report.created.len(), report.removed.len()), (2, 1), "{report}");
    assert_eq!(rules_of(&emulator, "orders", "billing").await, ["paid", "placed"]);

    // A rule that somebody has changed is not mended, and what may make up for it stays.
    let path = "/orders/subscriptions/billing/rules/paid";
    delete(&emulator, path).await;
    let other = "<RuleDescription><Filter i:type=\"SqlFilter\"><SqlExpression>1=0 OR x=1</SqlExpression></Filter></RuleDescription>";
    put(&emulator, path, other).await;
    put(&emulator, "/orders/subscriptions/billing/rules/$Default", "<RuleDescription></RuleDescription>")
        .await;
    let report = broker(&emulator).remove_surplus_rules(&billing()).await.unwrap();
    let [drift] = report.harmful().collect::<Vec<_>>()[..] else { panic!("{report}") };
    assert_eq!((drift.field.as_str(), drift.wanted.as_str()), ("filter", "events of name paid"), "{report}");
    assert!(report.removed.is_empty(), "{report}");
}

/// As others make them: under names of their own, and as `to_bicep` leaves `$Default`.
#[tokio::test]
async fn rules_count_by_what_they_let_through() {
    let emulator = hasty(&json!({ "RequiresSession": true }));
    let rules = "/orders/subscriptions/billing/rules";
    delete(&emulator, &format!("{rules}/$Default")).await;
    for (name, filter) in [
        ("$Default", "<Filter i:type=\"SqlFilter\"><SqlExpression>1=0</SqlExpression></Filter>"),
        ("one", "<Filter i:type=\"CorrelationFilter\"><Label>placed</Label></Filter>"),
        ("two", "<Filter i:type=\"CorrelationFilter\"><Label>paid</Label></Filter>"),
    ] {
        put(&emulator, &format!("{rules}/{name}"), &format!("<RuleDescription>{filter}</RuleDescription>"))
            .await;
    }
    let report = broker(&emulator).ensure_topology(&billing()).await.unwrap();
    assert!(report.created.is_empty() && report.foreign.is_empty(), "{report}");
}
