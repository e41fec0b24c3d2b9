use servicebus_emulator::model::{
    Condition, EntityInfo, Filter, Input, QueueSettings, RuleSettings, Span, SubscriptionSettings,
    TopicSettings,
};

use crate::world::{ME, World, acting, condition, message, path, sql};

fn create(name: &str, change: impl FnOnce(&mut QueueSettings)) -> Input {
    let mut settings = QueueSettings::default();
    change(&mut settings);
    Input::CreateQueue { path: path(name), settings }
}

#[test]
fn names_are_taken_once_whatever_their_case() {
    let mut world = World::queue(|_| {});
    assert_eq!(condition(world.apply(create("Q", |_| {}))), Condition::EntityAlreadyExists);
    let topic = Input::CreateTopic { path: path("q"), settings: TopicSettings::default() };
    assert_eq!(condition(world.apply(topic)), Condition::EntityAlreadyExists);
    assert_eq!(condition(world.apply(create("t/subscriptions/s", |_| {}))), Condition::ArgumentError);
    assert_eq!(condition(world.apply(create("q/$deadletterqueue", |_| {}))), Condition::ArgumentError);
}

#[test]
fn wrong_settings_are_told_all_at_once() {
    let mut world = World::new();
    let wrong = create("q", |settings| {
        settings.lock_duration = Span::seconds(301);
        settings.max_delivery_count = 0;
    });
    let fault = world.apply(wrong).unwrap_err();
    assert_eq!(fault.condition, Condition::ArgumentError);
    assert!(fault.text.contains("LockDuration") && fault.text.contains("MaxDeliveryCount"), "{fault}");
    let elsewhere = create("q", |settings| settings.forward_to = Some(path("nowhere")));
    assert_eq!(condition(world.apply(elsewhere)), Condition::ArgumentError);
    let itself = create("q", |settings| settings.forward_to = Some(path("q")));
    assert_eq!(condition(world.apply(itself)), Condition::ArgumentError);
    world.apply(create("q", |settings| settings.lock_duration = Span::seconds(1))).unwrap();
    let session = create("s", |settings| {
        settings.requires_session = true;
        settings.forward_to = Some(path("q"));
    });
    assert_eq!(condition(world.apply(session)), Condition::ArgumentError);
}

#[test]
fn updates_replace_what_may_change() {
    let mut world = World::queue(|settings| settings.max_delivery_count = 7);
    let update = |settings| Input::UpdateQueue { path: path("q"), settings };
    let with_sessions = QueueSettings { requires_session: true, ..QueueSettings::default() };
    assert_eq!(condition(world.apply(update(with_sessions))), Condition::ArgumentError);
    let with_detection = QueueSettings { requires_duplicate_detection: true, ..QueueSettings::default() };
    assert_eq!(condition(world.apply(update(with_detection))), Condition::ArgumentError);
    let created = world.now;
    world.wait(10);
    world.apply(update(QueueSettings::default())).unwrap();
    let Some(EntityInfo::Queue(info)) = world.info("q") else { panic!() };
    assert_eq!((info.settings.max_delivery_count, info.stamps.created), (10, created));
    assert_eq!(info.stamps.updated, world.now);
    let missing = Input::UpdateQueue { path: path("x"), settings: QueueSettings::default() };
    assert_eq!(condition(world.apply(missing)), Condition::NotFound);
}

#[test]
fn counts_and_lists_show_what_is_there() {
    let mut world = World::queue(|_| {});
    world.add_topic("a", |_| {});
    world.subscribe("a/subscriptions/s2", &[sql("1=1"), sql("1=0")], |_| {});
    world.subscribe("a/subscriptions/S1", &[], |_| {});
    world.send("q", &[message("1"), message("2"), message("3")]).unwrap();
    let at = world.now + Span(1000);
    world.schedule("q", message("4"), at);
    let got = world.receive("q", 1).remove(0);
    world.settle("q", &got, crate::world::dead_letter("", "")).unwrap();
    let Some(EntityInfo::Queue(info)) = world.info("q") else { panic!() };
    assert_eq!((info.counts.active, info.counts.dead_letter, info.counts.scheduled), (2, 1, 1));
    assert!(info.size_in_bytes > 0);
    let Some(EntityInfo::Topic(topic)) = world.info("A") else { panic!() };
    assert_eq!((topic.subscription_count, topic.sql_filter_count, topic.correlation_filter_count), (2, 3, 0));
    let name = |info: EntityInfo| match info {
        EntityInfo::Queue(info) => info.path.to_string(),
        EntityInfo::Topic(info) => info.path.to_string(),
        EntityInfo::Subscription(info) => info.path.name().to_owned(),
    };
    let names: Vec<_> = world.model.entities().into_iter().map(name).collect();
    assert_eq!(names, ["a", "q"]);
    let names: Vec<_> = world.model.subscriptions(&path("a")).unwrap().into_iter().map(name).collect();
    assert_eq!(names, ["S1", "s2"]);
    let rules: Vec<_> = world.model.rules(&path("a/subscriptions/s2")).unwrap();
    assert_eq!(rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["rule0", "rule1"]);
    assert_eq!(world.model.rules(&path("a/subscriptions/s1")).unwrap()[0].name, "$Default");
    assert_eq!(world.model.rules(&path("a/subscriptions/s3")), None);
}

#[test]
fn deleting_takes_all_that_is_inside() {
    let mut world = World::new();
    world.add_topic("t", |_| {});
    world.subscribe("t/subscriptions/s", &[], |_| {});
    world.open("t/subscriptions/s", ME).unwrap();
    world.apply(Input::DeleteEntity { path: path("t") }).unwrap();
    assert!(world.woken.contains(&path("t/subscriptions/s/$deadletterqueue")));
    assert_eq!((world.info("t"), world.info("t/subscriptions/s")), (None, None));
    world.close(ME);
    assert_eq!(condition(world.apply(Input::DeleteEntity { path: path("t") })), Condition::NotFound);
    world.add_topic("t", |_| {});
    assert_eq!(world.info("t/subscriptions/s"), None);
    let orphan = Input::CreateSubscription {
        path: path("x/subscriptions/s"),
        settings: Default::default(),
        rule: None,
    };
    assert_eq!(condition(world.apply(orphan)), Condition::NotFound);
}

#[test]
fn rules_come_change_and_go() {
    let mut world = World::new();
    world.add_topic("t", |_| {});
    let subscription = path("t/subscriptions/s");
    let rule = Some(("First".to_owned(), sql("1=0")));
    let settings = SubscriptionSettings::default();
    let input = Input::CreateSubscription { path: subscription.clone(), settings, rule };
    world.apply(input.clone()).unwrap();
    assert_eq!(condition(world.apply(input)), Condition::EntityAlreadyExists);
    let create = |name: &str, rule| Input::CreateRule {
        subscription: path("t/subscriptions/s"),
        name: name.to_owned(),
        rule,
    };
    assert_eq!(
        condition(world.apply(create("first", RuleSettings::default()))),
        Condition::EntityAlreadyExists
    );
    assert_eq!(condition(world.apply(create("a/b", RuleSettings::default()))), Condition::ArgumentError);
    assert_eq!(condition(world.apply(create("x", sql("color =")))), Condition::ArgumentError);
    let bad_action = acting(RuleSettings::default(), "DELETE x");
    assert_eq!(condition(world.apply(create("x", bad_action))), Condition::ArgumentError);
    let update = |name: &str| Input::UpdateRule {
        subscription: path("t/subscriptions/s"),
        name: name.to_owned(),
        rule: RuleSettings::default(),
    };
    assert_eq!(condition(world.apply(update("second"))), Condition::NotFound);
    world.apply(update("FIRST")).unwrap();
    assert_eq!(world.model.rules(&subscription).unwrap()[0].rule.filter, Filter::True);
    let delete = Input::DeleteRule { subscription, name: "first".to_owned() };
    world.apply(delete.clone()).unwrap();
    assert_eq!(condition(world.apply(delete)), Condition::NotFound);
}
