use servicebus_emulator::model::{
    Condition, CorrelationFilter, Filter, Input, Message, Properties, RuleSettings, Span, SqlAction, Value,
};

use crate::world::{World, acting, condition, dead_letter, ids, message, path, reason, sql, string, with};

const SUB: &str = "t/Subscriptions/s";

fn world(rules: &[RuleSettings]) -> World {
    let mut world = World::new();
    world.add_topic("t", |_| {});
    world.subscribe(SUB, rules, |_| {});
    world
}

fn correlation(change: impl FnOnce(&mut CorrelationFilter)) -> RuleSettings {
    let mut filter = CorrelationFilter::default();
    change(&mut filter);
    RuleSettings { filter: Filter::Correlation(filter), action: None }
}

#[test]
fn every_subscription_gets_its_own_copy() {
    let mut world = world(&[]);
    world.subscribe("t/subscriptions/other", &[], |_| {});
    world.send("t", &[message("a"), message("b")]).unwrap();
    assert_eq!(world.woken, [path("t/subscriptions/other"), path(SUB)]);
    let got = world.receive(SUB, 1).remove(0);
    assert_eq!((got.sequence_number, got.enqueued_sequence_number), (1, Some(1)));
    world.settle(SUB, &got, dead_letter("no", "")).unwrap();
    assert_eq!(ids(&world.drain("t/subscriptions/other")), ["a", "b"]);
    assert_eq!(ids(&world.drain(SUB)), ["b"]);
    assert_eq!(ids(&world.drain("T/subscriptions/S/$deadletterqueue")), ["a"]);
}

#[test]
fn one_neither_sends_to_a_subscription_nor_receives_from_a_topic() {
    let mut world = world(&[]);
    assert_eq!(condition(world.send(SUB, &[message("a")])), Condition::NotAllowed);
    let peek_lock = servicebus_emulator::model::ReceiveMode::PeekLock;
    assert_eq!(condition(world.try_receive("t", None, None, peek_lock, 1)), Condition::NotAllowed);
    assert_eq!(
        condition(world.try_receive("t/subscriptions/x", None, None, peek_lock, 1)),
        Condition::NotFound
    );
    assert_eq!(condition(world.model.check_receiver(&path("t"), false)), Condition::NotAllowed);
}

#[test]
fn rules_decide_what_comes_through() {
    let mut world = world(&[sql("color = 'red' AND quantity > 5"), sql("sys.Label = 'special'")]);
    let special = Properties { subject: Some("special".to_owned()), ..message("both").properties };
    world
        .send(
            "t",
            &[
                with("red", &[("color", string("red")), ("quantity", Value::Int(6))]),
                with("few", &[("color", string("red")), ("quantity", Value::Int(5))]),
                message("plain"),
                Message {
                    properties: special,
                    ..with("", &[("color", string("red")), ("quantity", Value::Long(9))])
                },
            ],
        )
        .unwrap();
    assert_eq!(ids(&world.drain(SUB)), ["red", "both"], "rules without an action make one copy together");
}

#[test]
fn false_and_missing_rules_let_nothing_through() {
    let mut world = world(&[RuleSettings { filter: Filter::False, action: None }]);
    world.send("t", &[message("a")]).unwrap();
    world.apply(Input::DeleteRule { subscription: path(SUB), name: "RULE0".to_owned() }).unwrap();
    world.send("t", &[message("b")]).unwrap();
    assert!(world.peek(SUB).is_empty());
}

#[test]
fn correlation_filters_want_everything_equal() {
    let mut world = world(&[
        correlation(|filter| {
            filter.label = Some("order".to_owned());
            filter.properties.insert("kind".to_owned(), string("big"));
            filter.properties.insert("level".to_owned(), Value::Long(3));
        }),
        correlation(|filter| filter.correlation_id = Some("c1".to_owned())),
    ]);
    let labelled = |id: &str, label: &str, pairs: &[(&str, Value)]| {
        let mut message = with(id, pairs);
        message.properties.subject = Some(label.to_owned());
        message
    };
    let mut correlated = message("correlated");
    correlated.properties.correlation_id = Some("c1".to_owned());
    world
        .send(
            "t",
            &[
                labelled("yes", "order", &[("kind", string("big")), ("level", Value::Int(3))]),
                labelled("case", "Order", &[("kind", string("big")), ("level", Value::Int(3))]),
                labelled("missing", "order", &[("kind", string("big"))]),
                labelled("type", "order", &[("kind", string("big")), ("level", string("3"))]),
                correlated,
            ],
        )
        .unwrap();
    assert_eq!(ids(&world.drain(SUB)), ["yes", "correlated"]);
}

#[test]
fn every_rule_with_an_action_makes_a_copy_of_its_own() {
    let always = RuleSettings::default();
    let mut world = world(&[
        acting(always.clone(), "SET sys.Label = 'first'; SET n = n + 1; REMOVE color"),
        always.clone(),
        acting(sql("color = 'red'"), "SET color = color + '!'"),
        acting(sql("color = 'blue'"), "SET n = 0"),
    ]);
    world.send("t", &[with("a", &[("color", string("red")), ("n", Value::Int(1))])]).unwrap();
    let got = world.drain(SUB);
    assert_eq!(got.len(), 3);
    assert!(got[0].message.is_untouched());
    assert_eq!(got[1].message.application["n"], Value::Long(2));
    assert_eq!(got[1].message.application["RuleName"], string("rule0"));
    assert_eq!(got[1].message.properties.subject.as_deref(), Some("first"));
    assert!(!got[1].message.application.contains_key("color"));
    assert_eq!(got[2].message.application["color"], string("red!"));
    assert_eq!(got[2].message.application["RuleName"], string("rule2"));
}

#[test]
fn a_failing_rule_dead_letters_or_is_no_match() {
    for failing in [sql("sys.Colour = 1"), acting(RuleSettings::default(), "SET n = 1 / 0")] {
        for dead_letter in [true, false] {
            let mut world = World::new();
            world.add_topic("t", |_| {});
            world.subscribe(SUB, std::slice::from_ref(&failing), |settings| {
                settings.dead_lettering_on_filter_evaluation_exceptions = dead_letter;
            });
            world.send("t", &[message("a")]).unwrap();
            assert!(world.peek(SUB).is_empty());
            let dead = world.peek("t/subscriptions/s/$deadletterqueue");
            assert_eq!(dead.len(), usize::from(dead_letter));
            if let Some(dead) = dead.first() {
                assert_eq!(reason(dead), "RuleFilterEvaluationException");
            }
        }
    }
}

#[test]
fn time_to_live_is_capped_by_topic_and_subscription() {
    let mut world = World::new();
    world.add_topic("t", |settings| settings.default_message_time_to_live = Span(5000));
    world.subscribe(SUB, &[], |_| {});
    world.subscribe("t/subscriptions/brief", &[], |settings| {
        settings.default_message_time_to_live = Span(1000)
    });
    world.send("t", &[message("a")]).unwrap();
    assert_eq!(world.peek(SUB)[0].expires, Some(world.now + Span(5000)));
    assert_eq!(world.peek("t/subscriptions/brief")[0].expires, Some(world.now + Span(1000)));
}

#[test]
fn subscriptions_forward_to_queues_and_topics() {
    let mut world = World::new();
    world.add_queue("q", |_| {});
    world.add_topic("second", |_| {});
    world.subscribe("second/subscriptions/s", &[], |settings| settings.forward_to = Some(path("q")));
    world.add_topic("t", |_| {});
    world.subscribe(SUB, &[], |settings| settings.forward_to = Some(path("second")));
    world.send("t", &[message("a")]).unwrap();
    assert_eq!(ids(&world.drain("q")), ["a"]);
}

#[test]
fn a_circle_of_forwards_ends() {
    let mut world = World::new();
    world.add_queue("a", |_| {});
    world.add_queue("b", |settings| settings.forward_to = Some(path("a")));
    let settings =
        servicebus_emulator::model::QueueSettings { forward_to: Some(path("b")), ..Default::default() };
    world.send("a", &[message("waits")]).unwrap();
    world.apply(Input::UpdateQueue { path: path("a"), settings }).unwrap();
    assert_eq!(reason(&world.peek("a/$deadletterqueue")[0]), "MaxTransferHopCountExceeded");
    assert!(world.peek("b").is_empty() && world.peek("b/$deadletterqueue").is_empty());
}

#[test]
fn parameters_stand_for_values() {
    let filter = Filter::Sql {
        expression: "level >= @least".to_owned(),
        parameters: [("@least".to_owned(), Value::Int(3))].into(),
    };
    let action = SqlAction {
        expression: "SET note = @note".to_owned(),
        parameters: [("note".to_owned(), string("hi"))].into(),
    };
    let mut world = world(&[RuleSettings { filter, action: Some(action) }]);
    world
        .send("t", &[with("a", &[("level", Value::UByte(3))]), with("b", &[("level", Value::UByte(2))])])
        .unwrap();
    let got = world.drain(SUB);
    assert_eq!((ids(&got), &got[0].message.application["note"]), (vec!["a"], &string("hi")));
}
