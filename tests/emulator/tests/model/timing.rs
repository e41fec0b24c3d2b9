use servicebus_emulator::model::{
    Condition, EntityInfo, Input, Message, MessageState, Outcome, ReceiveMode, Span, Time,
};

use crate::world::{LOCK, ME, World, abandon, condition, defer, ids, message, path, reason, token};

#[test]
fn scheduled_messages_arrive_in_time_with_a_new_number() {
    let mut world = World::queue(|_| {});
    let at = world.now + Span(1000);
    assert_eq!(world.schedule("q", message("later"), at), 1);
    world
        .send("q", &[Message { scheduled_enqueue_time: Some(at), ..message("also") }, message("now")])
        .unwrap();
    let peeked = world.peek("q");
    assert_eq!(ids(&peeked), ["later", "also", "now"]);
    assert_eq!((peeked[0].state, peeked[2].state), (MessageState::Scheduled, MessageState::Active));
    assert_eq!(ids(&world.drain("q")), ["now"]);
    world.wait(999);
    assert!(world.receive("q", 1).is_empty());
    world.wait(1);
    assert_eq!(world.woken, [path("q")]);
    let got = world.receive("q", 2);
    assert_eq!((ids(&got), got[0].sequence_number), (vec!["later", "also"], 4));
    assert_eq!((got[0].enqueued_time, got[0].state), (at, MessageState::Active));
}

#[test]
fn a_scheduled_message_can_be_cancelled_until_it_arrives() {
    let mut world = World::queue(|_| {});
    let at = world.now + Span(1000);
    let numbers = [world.schedule("q", message("a"), at), world.schedule("q", message("b"), at)];
    assert_eq!(condition(world.cancel("q", &[numbers[0], 99])), Condition::MessageNotFound);
    world.cancel("q", &numbers[..1]).unwrap();
    assert_eq!(condition(world.cancel("q", &numbers[..1])), Condition::MessageNotFound);
    world.wait(1000);
    assert_eq!(condition(world.cancel("q", &numbers[1..])), Condition::MessageNotFound);
    assert_eq!(ids(&world.drain("q")), ["b"]);
    let never = Message { scheduled_enqueue_time: Some(Time::NEVER), ..message("x") };
    assert_eq!(condition(world.send("q", &[never])), Condition::ArgumentError);
    let untimed = Input::Schedule { entity: path("q"), messages: vec![message("x")] };
    assert_eq!(condition(world.apply(untimed)), Condition::ArgumentError);
}

#[test]
fn a_topic_holds_its_scheduled_messages() {
    let mut world = World::new();
    world.add_topic("t", |_| {});
    let at = world.now + Span(1000);
    let number = world.schedule("t", message("a"), at);
    world.schedule("t", message("b"), at);
    world.subscribe("t/subscriptions/late", &[], |_| {});
    assert_eq!(ids(&world.peek("t")), ["a", "b"]);
    world.cancel("t", &[number]).unwrap();
    world.wait(1000);
    assert_eq!(ids(&world.drain("t/subscriptions/late")), ["b"]);
}

#[test]
fn expired_messages_are_dropped_or_dead_lettered() {
    for dead_letter in [false, true] {
        let mut world = World::queue(|settings| {
            settings.default_message_time_to_live = Span(5000);
            settings.dead_lettering_on_message_expiration = dead_letter;
        });
        let brief = Message { time_to_live: Some(Span(2000)), ..message("brief") };
        let long = Message { time_to_live: Some(Span(60_000)), ..message("long") };
        world.send("q", &[brief, long, message("default")]).unwrap();
        assert_eq!(
            world.peek("q")[1].expires,
            Some(world.now + Span(5000)),
            "the entity's default is a ceiling"
        );
        world.wait(1999);
        assert_eq!(world.peek("q").len(), 3);
        world.wait(1);
        assert_eq!(ids(&world.peek("q")), ["long", "default"]);
        world.wait(3000);
        assert!(world.peek("q").is_empty());
        let dead = world.peek("q/$deadletterqueue");
        if dead_letter {
            assert_eq!(ids(&dead), ["brief", "long", "default"]);
            assert_eq!((reason(&dead[0]), dead[0].expires), ("TTLExpiredException", None));
        } else {
            assert!(dead.is_empty());
        }
    }
}

#[test]
fn a_locked_message_expires_when_its_lock_ends() {
    let mut world = World::queue(|settings| {
        settings.default_message_time_to_live = Span(1000);
        settings.dead_lettering_on_message_expiration = true;
    });
    world.send("q", &[message("done"), message("back"), message("lost")]).unwrap();
    let got = world.receive("q", 3);
    world.wait(2000);
    assert_eq!(world.peek("q").len(), 3);
    world.settle("q", &got[0], Outcome::Complete).unwrap();
    world.settle("q", &got[1], abandon()).unwrap();
    assert!(world.receive("q", 1).is_empty());
    assert_eq!(ids(&world.peek("q/$deadletterqueue")), ["back"]);
    world.wait(LOCK);
    let dead = world.peek("q/$deadletterqueue");
    assert_eq!((ids(&dead), reason(&dead[1])), (vec!["back", "lost"], "TTLExpiredException"));
}

#[test]
fn a_scheduled_message_lives_from_its_arrival_on() {
    let mut world = World::queue(|settings| settings.default_message_time_to_live = Span(1000));
    let at = world.now + Span(5000);
    world.schedule("q", message("a"), at);
    assert_eq!(world.peek("q")[0].expires, None, "that is known when it arrives");
    world.wait(5000);
    assert_eq!(world.peek("q")[0].expires, Some(at + Span(1000)));
    let got = world.receive("q", 1).remove(0);
    world.settle("q", &got, defer()).unwrap();
    world.wait(2000);
    assert_eq!(world.peek("q").len(), 1);
}

#[test]
fn duplicates_within_the_window_are_dropped() {
    let mut world = World::queue(|settings| {
        settings.requires_duplicate_detection = true;
        settings.duplicate_detection_history_time_window = Span(20_000);
    });
    let at = world.now + Span(1000);
    assert_eq!(world.send("q", &[message("a"), message("a"), message("A")]).unwrap(), [1, 0, 2]);
    assert_eq!(world.schedule("q", message("a"), at), 0, "scheduled and ordinary sends share one history");
    world.schedule("q", message("s"), at);
    world.send("q", &[message("s")]).unwrap();
    assert_eq!(ids(&world.drain("q")), ["a", "A"]);
    world.wait(1000);
    assert_eq!(ids(&world.drain("q")), ["s"], "one's own arrival is no duplicate");
    world.wait(18_999);
    world.send("q", &[message("a")]).unwrap();
    assert!(world.peek("q").is_empty());
    world.wait(1);
    world.send("q", &[message("a"), Message::default(), Message::default()]).unwrap();
    assert_eq!(world.peek("q").len(), 3);

    world.add_queue("many", |settings| {
        settings.requires_duplicate_detection = true;
        settings.enable_partitioning = true;
    });
    let mut other = message("a");
    other.properties.partition_key = Some("p".to_owned());
    world.send("many", &[message("a"), other.clone(), other]).unwrap();
    assert_eq!(world.peek("many").len(), 2);
}

#[test]
fn a_topic_detects_duplicates_once_for_all_subscriptions() {
    let mut world = World::new();
    world.add_topic("t", |settings| settings.requires_duplicate_detection = true);
    world.subscribe("t/subscriptions/s", &[], |_| {});
    world.send("t", &[message("a"), message("a")]).unwrap();
    assert_eq!(world.drain("t/subscriptions/s").len(), 1);
    world.wait(600_000);
    world.send("t", &[message("a")]).unwrap();
    assert_eq!(world.drain("t/subscriptions/s").len(), 1);
}

#[test]
fn an_idle_entity_deletes_itself() {
    let mut world = World::queue(|settings| settings.auto_delete_on_idle = Span(300_000));
    world.wait(299_999);
    world.send("q", &[message("a")]).unwrap();
    world.wait(299_999);
    world.open("q", ME).unwrap();
    let at = world.now + Span(1_000_000);
    world.schedule("q", message("wakes the entity up"), at);
    world.wait(1_000_000);
    assert!(matches!(world.info("q"), Some(EntityInfo::Queue(_))), "a receiver that waits keeps it");
    world.close(ME);
    world.wait(300_000);
    assert_eq!(world.info("q"), None);
    assert!(world.woken.contains(&path("q")), "receivers must learn that it is gone");
    assert_eq!(world.model.next_deadline(), None);
    world.add_topic("t", |settings| settings.auto_delete_on_idle = Span(300_000));
    world.subscribe("t/subscriptions/s", &[], |_| {});
    world.wait(300_000);
    assert_eq!((world.info("t"), world.info("t/subscriptions/s")), (None, None));
}

#[test]
fn many_messages_do_not_slow_the_first_one_down() {
    // A linear search would make the second a thousand times slower than the first; loaded machines make no such odds.
    let few = receive_and_release(1);
    let many = receive_and_release(1000);
    assert!(many < few * 50 + std::time::Duration::from_secs(1), "{many:?} after {few:?}");
}

/// The time that receiving and releasing takes where so many hundred messages wait.
fn receive_and_release(hundreds: usize) -> std::time::Duration {
    let world = World::queue(|settings| settings.default_message_time_to_live = Span(1 << 40));
    // Without what `World` checks after each input, which takes longer the more there is.
    let (mut model, now) = (world.model, world.now);
    let batch: Vec<Message> = (0..100).map(|n| message(&n.to_string())).collect();
    for _ in 0..hundreds {
        model.apply(now, Input::Send { entity: path("q"), messages: batch.clone() }).output.unwrap();
    }
    let started = std::time::Instant::now();
    for _ in 0..2000 {
        let (entity, receiver, session) = (path("q"), None, None);
        let receive = Input::Receive { entity, receiver, session, mode: ReceiveMode::PeekLock, max: 1 };
        let got = model.apply(now, receive).output.unwrap().into_deliveries().unwrap();
        let (entity, session, tokens) = (path("q"), None, vec![token(&got[0])]);
        let settle = Input::Settle { entity, receiver, session, tokens, outcome: Outcome::Release };
        model.apply(now, settle).output.unwrap();
    }
    started.elapsed()
}
