//! The official emulator's config.json.

#![allow(clippy::unwrap_used, reason = "a failed unwrap here is a failed test")]

use servicebus_emulator::config::{Config, Mistakes};
use servicebus_emulator::host::{Clock, Host};
use servicebus_emulator::model::{EntityInfo, EntityPath, Filter, Input, QueueSettings, Span, Value};

const OFFICIAL: &str = include_str!("official.json");

fn path(text: &str) -> EntityPath {
    EntityPath::parse(text).unwrap()
}

#[test]
fn the_official_file_is_understood() {
    let config = Config::parse(OFFICIAL).unwrap();
    assert_eq!(config.namespace, "sbemulatorns");
    let (name, queue) = &config.queues[0];
    assert_eq!((name, queue.max_delivery_count, &queue.forward_to), (&path("queue.1"), 3, &None));
    assert_eq!(queue.default_message_time_to_live, Span::seconds(3600));
    assert_eq!(queue.duplicate_detection_history_time_window, Span::seconds(20));
    assert_eq!(config.topics.len(), 1);
    let first = &config.subscriptions[0];
    assert_eq!((first.settings.lock_duration, first.settings.requires_session), (Span::seconds(1), true));
    assert_eq!(first.settings.forward_dead_lettered_messages_to, Some(path("queue.1")));
    let Filter::Correlation(filter) = &first.rules[0].1.filter else { panic!() };
    assert_eq!((filter.label.as_deref(), filter.reply_to.as_deref()), (Some("subject1"), Some("someQueue")));
    assert_eq!(filter.properties["prop2"], Value::Long(2));
    let second = &config.subscriptions[1];
    assert_eq!(second.rules[0].1.action.as_ref().unwrap().expression, "SET sys.To = 'Entity'");
    assert_eq!(second.rules[1].1.filter, Filter::True);
    assert_eq!(config.subscriptions[2].settings.max_delivery_count, 10);
}

#[tokio::test]
async fn a_namespace_gets_what_the_file_asks_for() {
    let host = Host::in_memory(Clock::System);
    let config = Config::parse(OFFICIAL).unwrap();
    config.apply(&host).await.unwrap();
    host.read(|model, _| {
        assert_eq!(model.entities().len(), 2);
        let names = |subscription: &str| -> Vec<String> {
            let rules = model.rules(&path(&format!("topic.1/subscriptions/{subscription}"))).unwrap();
            rules.into_iter().map(|rule| rule.name).collect()
        };
        assert_eq!(names("subscription.1"), ["app-prop-filter-1"], "no $Default beside the file's rules");
        assert_eq!(names("subscription.2"), ["all", "sql-filter-1"]);
        assert_eq!(names("subscription.3"), ["$Default"]);
        let Some(EntityInfo::Subscription(info)) =
            model.entity(&path("topic.1/subscriptions/subscription.1"))
        else {
            panic!()
        };
        assert_eq!(info.settings, config.subscriptions[0].settings);
        assert_eq!(config.inputs(model), [], "it is all there");
    });
}

#[tokio::test]
async fn a_namespace_that_is_there_is_changed_to_what_the_file_says() {
    let host = Host::in_memory(Clock::System);
    Config::parse(OFFICIAL).unwrap().apply(&host).await.unwrap();
    let settings = QueueSettings::default();
    host.apply(Input::CreateQueue { path: path("mine"), settings }).await.unwrap();
    let changed = OFFICIAL
        .replace("\"MaxDeliveryCount\": 3", "\"MaxDeliveryCount\": 5")
        .replace("userProp1 = 'value1'", "userProp1 = 'value2'");
    let config = Config::parse(&changed).unwrap();
    assert_eq!(host.read(|model, _| config.inputs(model)).len(), 3);
    config.apply(&host).await.unwrap();
    host.read(|model, _| {
        let Some(EntityInfo::Queue(info)) = model.entity(&path("queue.1")) else { panic!() };
        assert_eq!(info.settings.max_delivery_count, 5);
        assert!(model.entity(&path("mine")).is_some(), "what the file does not name stays");
        assert_eq!(config.inputs(model), []);
    });
    let impossible = OFFICIAL.replace("\"RequiresSession\": false", "\"RequiresSession\": true");
    let faults = Config::parse(&impossible).unwrap().apply(&host).await.unwrap_err();
    assert!(faults.len() == 1 && faults[0].text.contains("RequiresSession"), "{faults:?}");
}

#[test]
fn forwarding_may_name_what_comes_later() {
    let text = r#"{"UserConfig": {"Namespaces": [{"Queues": [
        {"Name": "a", "Properties": {"ForwardTo": "B"}},
        {"Name": "b"}
    ]}]}}"#;
    assert_eq!(Config::parse(text).unwrap().queues[0].1.forward_to, Some(path("b")));
}

fn mistakes(text: &str) -> Vec<(usize, String, String)> {
    let Mistakes(mistakes) = Config::parse(text).unwrap_err();
    mistakes.into_iter().map(|mistake| (mistake.line, mistake.key, mistake.text)).collect()
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = r#"{
  "UserConfig": {
    "Namespaces": [{
      "Name": "n",
      "Queues": [
        { "Name": "a b" },
        { "Properties": {} },
        { "Name": "q", "Properties": {
          "LockDuration": "1 minute",
          "MaxDeliveryCount": "3",
          "RequiresSession": "yes",
          "DefaultMessageTimeToLive": "PT0S",
          "ForwardTo": "nowhere",
          "ForwardDeadLetteredMessagesTo": "q",
          "Colour": 1
        } },
        { "Name": "Q", "Properties": { "LockDuration": "PT0.5S", "LockDuration": "PT10M" } },
        7
      ],
      "Topics": [
        { "Name": "t", "Subscriptions": [
          { "Name": "s", "Rules": [
            { "Name": "r1", "Properties": { "FilterType": "Sql", "SqlFilter": { "SqlExpression": "a = " } } },
            { "Name": "R1", "Properties": { "FilterType": "Sql" } },
            { "Name": "r1", "Properties": { "FilterType": "Odd" } },
            { "Properties": { "CorrelationFilter": { "Properties": { "x": [] } }, "Action": { "SqlExpression": "SET" } } }
          ] },
          { "Name": "s/2", "Properties": { "MaxDeliveryCount": -1, "Status": "Asleep" } }
        ] },
        { "Name": "q" }
      ]
    }, {}]
  },
  "Extra": true
}"#;
    let found = mistakes(text);
    let places: Vec<(usize, &str)> = found
        .iter()
        .map(|(line, key, _)| (*line, key.strip_prefix("UserConfig.Namespaces[0].").unwrap_or(key)))
        .collect();
    assert_eq!(
        places,
        [
            (6, "Queues[0].Name"),
            (7, "Queues[1].Name"),
            (9, "Queues[2].Properties.LockDuration"),
            (10, "Queues[2].Properties.MaxDeliveryCount"),
            (11, "Queues[2].Properties.RequiresSession"),
            (12, "Queues[2].Properties.DefaultMessageTimeToLive"),
            (13, "Queues[2].Properties.ForwardTo"),
            (14, "Queues[2].Properties.ForwardDeadLetteredMessagesTo"),
            (15, "Queues[2].Properties.Colour"),
            (17, "Queues[3].Name"),
            (17, "Queues[3].Properties.LockDuration"),
            (17, "Queues[3].Properties.LockDuration"),
            (18, "Queues[4]"),
            (23, "Topics[0].Subscriptions[0].Rules[0].Properties.SqlFilter"),
            (24, "Topics[0].Subscriptions[0].Rules[1].Properties.FilterType"),
            (25, "Topics[0].Subscriptions[0].Rules[2].Properties.FilterType"),
            (26, "Topics[0].Subscriptions[0].Rules[3].Name"),
            (26, "Topics[0].Subscriptions[0].Rules[3].Properties.Action"),
            (26, "Topics[0].Subscriptions[0].Rules[3].Properties.CorrelationFilter.Properties.x"),
            (28, "Topics[0].Subscriptions[1].Name"),
            (28, "Topics[0].Subscriptions[1].Properties.MaxDeliveryCount"),
            (28, "Topics[0].Subscriptions[1].Properties.Status"),
            (30, "Topics[1].Name"),
            (32, "UserConfig.Namespaces[1]"),
            (34, "Extra"),
        ]
    );
    let shown = Config::parse(text).unwrap_err().to_string();
    let first = shown.lines().next().unwrap();
    assert!(first.starts_with("line 6: UserConfig.Namespaces[0].Queues[0].Name: `a b` is not"), "{first}");
}

#[test]
fn broken_json_is_told_with_its_line() {
    let found = mistakes("{\n  \"UserConfig\": {\n    \"Namespaces\": [\n  }\n}\n");
    assert_eq!((found.len(), found[0].0), (1, 4));
    assert_eq!(mistakes("{}")[0].1, "UserConfig");
    assert_eq!(mistakes("[]")[0].2, "an array stands where an object is expected");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(std::path::Path::new("/nowhere/config.json")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/config.json: "), "{error}");
}
