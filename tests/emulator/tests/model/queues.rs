use std::collections::BTreeMap;

use bytes::Bytes;
use servicebus_emulator::model::{
    Condition, EntityInfo, Input, Message, MessageState, Outcome, ReceiveMode, Span, Status, Time, Value,
};

use crate::world::{
    LOCK, ME, OTHER, World, abandon, condition, dead_letter, defer, ids, message, path, reason, string, token,
};

#[test]
fn a_message_is_locked_completed_and_gone() {
    let mut world = World::queue(|_| {});
    assert_eq!(world.send("Q", &[message("a"), message("b")]).unwrap(), [1, 2]);
    assert_eq!(world.woken, [path("q")]);
    let first = world.receive("q", 1);
    assert_eq!(ids(&first), ["a"]);
    assert_eq!((first[0].delivery_count, first[0].sequence_number), (0, 1));
    assert_eq!(first[0].lock.unwrap().1, world.now + Span(LOCK));
    assert_eq!((first[0].enqueued_sequence_number, first[0].state), (None, MessageState::Active));
    assert_eq!(first[0].message.raw, "<a>");
    assert_eq!(ids(&world.receive("q", 10)), ["b"]);
    assert!(world.receive("q", 10).is_empty());
    world.settle("q", &first[0], Outcome::Complete).unwrap();
    assert_eq!(condition(world.settle("q", &first[0], Outcome::Complete)), Condition::MessageLockLost);
    assert_eq!(ids(&world.peek("q")), ["b"]);
}

#[test]
fn a_message_received_and_deleted_has_no_lock_and_does_not_come_back() {
    let mut world = World::queue(|_| {});
    world.send("q", &[message("a")]).unwrap();
    let got = world.try_receive("q", Some(ME), None, ReceiveMode::ReceiveAndDelete, 5).unwrap();
    assert_eq!((ids(&got), got[0].lock), (vec!["a"], None));
    world.wait(10 * LOCK);
    assert!(world.peek("q").is_empty());
}

#[test]
fn abandoned_messages_come_back_first_and_count() {
    let mut world = World::queue(|settings| settings.max_delivery_count = 3);
    world.send("q", &[message("a"), message("b")]).unwrap();
    for count in 0..3 {
        let got = world.receive("q", 1).remove(0);
        assert_eq!((ids(std::slice::from_ref(&got)), got.delivery_count), (vec!["a"], count));
        world
            .settle("q", &got, Outcome::Abandon { modify: [("try".to_owned(), Value::Int(1))].into() })
            .unwrap();
    }
    assert_eq!(ids(&world.receive("q", 1)), ["b"]);
    let dead = world.drain("q/$DeadLetterQueue").remove(0);
    assert_eq!(
        (reason(&dead), dead.delivery_count, dead.sequence_number),
        ("MaxDeliveryCountExceeded", 3, 1)
    );
    assert!(dead.message.application.contains_key("DeadLetterErrorDescription"));
    assert_eq!(dead.message.application["try"], Value::Int(1));
    assert!(dead.message.changed_application.contains("try"), "the door must write what raw does not say");
    assert_eq!(dead.message.raw, "<a>");
}

#[test]
fn released_messages_come_back_without_counting() {
    let mut world = World::queue(|settings| settings.max_delivery_count = 1);
    world.send("q", &[message("a")]).unwrap();
    for _ in 0..3 {
        let got = world.receive("q", 1).remove(0);
        assert_eq!(got.delivery_count, 0);
        world.settle("q", &got, Outcome::Release).unwrap();
        assert_eq!(world.woken, [path("q")]);
    }
}

#[test]
fn an_expired_lock_is_lost_and_counts() {
    let mut world = World::queue(|settings| settings.max_delivery_count = 2);
    world.send("q", &[message("a")]).unwrap();
    let first = world.receive("q", 1).remove(0);
    world.now = world.now + Span(LOCK - 1);
    assert!(world.receive("q", 1).is_empty());
    assert_eq!(world.model.next_deadline(), Some(world.now + Span(1)));
    // Nobody ticked: the lock is over all the same.
    world.now = world.now + Span(1);
    assert_eq!(condition(world.settle("q", &first, Outcome::Complete)), Condition::MessageLockLost);
    assert_eq!(world.woken, [path("q")]);
    let second = world.receive("q", 1).remove(0);
    assert_eq!(second.delivery_count, 1);
    assert_ne!(token(&second), token(&first));
    world.wait(LOCK);
    assert!(world.peek("q").is_empty());
    assert_eq!(reason(&world.peek("q/$deadletterqueue")[0]), "MaxDeliveryCountExceeded");
}

#[test]
fn renewing_starts_the_lock_anew_for_all_or_none() {
    let mut world = World::queue(|_| {});
    world.send("q", &[message("a"), message("b")]).unwrap();
    let got = world.receive("q", 2);
    let tokens: Vec<_> = got.iter().map(token).collect();
    world.wait(LOCK - 1);
    let renew =
        |tokens: &[_]| Input::RenewLocks { entity: path("q"), session: None, tokens: tokens.to_vec() };
    let times = world.apply(renew(&tokens)).unwrap().into_times().unwrap();
    assert_eq!(times, [world.now + Span(LOCK); 2]);
    world.wait(LOCK - 1);
    world.settle("q", &got[0], Outcome::Complete).unwrap();
    assert_eq!(condition(world.apply(renew(&tokens))), Condition::MessageLockLost);
    world.wait(1);
    assert_eq!(condition(world.settle("q", &got[1], Outcome::Complete)), Condition::MessageLockLost);
}

#[test]
fn a_lock_belongs_to_its_receiver() {
    let mut world = World::queue(|_| {});
    world.open("q", ME).unwrap();
    world.open("q", OTHER).unwrap();
    world.send("q", &[message("a"), message("b")]).unwrap();
    let mine = world.try_receive("q", Some(ME), None, ReceiveMode::PeekLock, 1).unwrap();
    let token = token(&mine[0]);
    let lost = world.settle_as("q", Some(OTHER), None, token, Outcome::Complete);
    assert_eq!(condition(lost), Condition::MessageLockLost);
    // A link that is gone takes its locks with it.
    world.close(ME);
    assert_eq!(
        condition(world.settle_as("q", None, None, token, Outcome::Complete)),
        Condition::MessageLockLost
    );
    let again = world.try_receive("q", Some(OTHER), None, ReceiveMode::PeekLock, 1).unwrap();
    assert_eq!((ids(&again), again[0].delivery_count), (vec!["a"], 1));
    world.apply(Input::Restart).unwrap();
    assert_eq!(ids(&world.drain("q")), ["a", "b"]);
}

#[test]
fn deferred_messages_are_found_by_number_alone() {
    let mut world = World::queue(|settings| settings.default_message_time_to_live = Span(5 * LOCK));
    world.send("q", &[message("a"), message("b"), message("c")]).unwrap();
    for got in world.receive("q", 2) {
        world.settle("q", &got, defer()).unwrap();
    }
    assert_eq!(ids(&world.drain("q")), ["c"]);
    world.wait(6 * LOCK);
    let peeked = world.peek("q");
    assert_eq!(
        (ids(&peeked), peeked[0].state),
        (vec!["a", "b"], MessageState::Deferred),
        "they don't expire"
    );
    assert_eq!(condition(world.deferred("q", &[1, 3])), Condition::MessageNotFound);
    assert_eq!(condition(world.deferred("q", &[1, 1])), Condition::MessageNotFound);
    let got = world.deferred("q", &[2, 1]).unwrap();
    assert_eq!((ids(&got), got[0].delivery_count, got[0].state), (vec!["b", "a"], 0, MessageState::Deferred));
    assert_eq!(condition(world.deferred("q", &[1])), Condition::MessageNotFound);
    world.settle("q", &got[0], Outcome::Complete).unwrap();
    world.settle("q", &got[1], abandon()).unwrap();
    assert!(world.receive("q", 1).is_empty(), "an abandoned deferred message stays deferred");
    let got = world.deferred("q", &[1]).unwrap();
    assert_eq!(got[0].delivery_count, 1);
    world.settle("q", &got[0], dead_letter("why", "because")).unwrap();
    assert_eq!(reason(&world.drain("q/$deadletterqueue")[0]), "why");
}

#[test]
fn dead_lettering_keeps_what_the_application_says() {
    let mut world = World::queue(|_| {});
    world.send("q", &[message("a")]).unwrap();
    let got = world.receive("q", 1).remove(0);
    let long =
        Outcome::DeadLetter { reason: Some("x".repeat(4097)), description: None, modify: BTreeMap::new() };
    assert_eq!(condition(world.settle("q", &got, long)), Condition::ArgumentError);
    world.settle("q", &got, dead_letter("bad", "very bad")).unwrap();
    assert_eq!(world.woken, [path("q/$DeadLetterQueue")]);
    let dead = world.receive("q/$DeadLetterQueue", 1).remove(0);
    assert_eq!(dead.message.application["DeadLetterErrorDescription"], string("very bad"));
    let again = world.settle("q/$DeadLetterQueue", &dead, dead_letter("worse", ""));
    assert_eq!(condition(again), Condition::NotAllowed);
    // There is no dead-letter queue behind the dead-letter queue, so deliveries may fail for ever.
    for count in 1..20 {
        world.wait(LOCK);
        assert_eq!(world.receive("q/$DeadLetterQueue", 1)[0].delivery_count, count);
    }
    assert_eq!(condition(world.send("q/$deadletterqueue", &[message("b")])), Condition::NotAllowed);
}

#[test]
fn too_large_and_ill_formed_messages_are_refused_whole() {
    let mut world = World::queue(|settings| settings.max_message_size_in_kilobytes = 1);
    let sized = |bytes| Message { raw: Bytes::from(vec![0; bytes]), ..message("a") };
    world.send("q", &[sized(1024)]).unwrap();
    assert_eq!(condition(world.send("q", &[sized(1025)])), Condition::MessageSizeExceeded);
    assert_eq!(condition(world.send("q", &[sized(1000), sized(25)])), Condition::MessageSizeExceeded);
    let mut long = message(&"i".repeat(129));
    assert_eq!(condition(world.send("q", &[message("b"), long.clone()])), Condition::ArgumentError);
    long.properties.message_id = Some("b".to_owned());
    long.properties.session_id = Some("s".to_owned());
    long.properties.partition_key = Some("p".to_owned());
    assert_eq!(condition(world.send("q", &[long])), Condition::ArgumentError);
    assert_eq!(world.peek("q").len(), 1);
}

#[test]
fn a_full_entity_refuses_until_there_is_room() {
    let mut world = World::queue(|settings| settings.max_size_in_megabytes = 1);
    let large = || vec![Message { raw: Bytes::from(vec![0; 250_000]), ..message("a") }];
    for _ in 0..4 {
        world.send("q", &large()).unwrap();
    }
    assert_eq!(condition(world.send("q", &large())), Condition::ResourceLimitExceeded);
    world.try_receive("q", None, None, ReceiveMode::ReceiveAndDelete, 1).unwrap();
    world.send("q", &large()).unwrap();
}

#[test]
fn a_message_without_an_id_gets_one() {
    let mut world = World::queue(|_| {});
    world.send("q", &[Message::default(), Message::default()]).unwrap();
    let got = world.drain("q");
    let ids = ids(&got);
    assert!(ids[0].len() == 32 && ids[0] != ids[1]);
    assert!(!got[0].message.is_untouched());
}

#[test]
fn a_disabled_or_busy_entity_says_so() {
    let mut world = World::queue(|_| {});
    let update = |status| {
        let settings = servicebus_emulator::model::QueueSettings { status, ..Default::default() };
        Input::UpdateQueue { path: path("q"), settings }
    };
    world.apply(update(Status::SendDisabled)).unwrap();
    assert_eq!(condition(world.send("q", &[message("a")])), Condition::EntityDisabled);
    assert_eq!(condition(world.model.check_sender(&path("q"))), Condition::EntityDisabled);
    assert!(world.receive("q", 1).is_empty());
    world.apply(update(Status::ReceiveDisabled)).unwrap();
    world.send("q", &[message("a")]).unwrap();
    let refused = world.try_receive("q", None, None, ReceiveMode::PeekLock, 1);
    assert_eq!(condition(refused), Condition::EntityDisabled);
    world.apply(update(Status::Active)).unwrap();

    let until = world.now + Span(2000);
    world.apply(Input::InjectServerBusy { entity: Some(path("q")), until }).unwrap();
    assert_eq!(condition(world.send("q", &[message("b")])), Condition::ServerBusy);
    assert_eq!(condition(world.open("q", ME)), Condition::ServerBusy);
    world.wait(2000);
    world.send("q", &[message("b")]).unwrap();
    world.apply(Input::InjectServerBusy { entity: None, until: Time::NEVER }).unwrap();
    assert_eq!(
        condition(world.try_receive("q", None, None, ReceiveMode::PeekLock, 1)),
        Condition::ServerBusy
    );
    assert_eq!(ids(&world.peek("q")), ["a", "b"]);
}

#[test]
fn forwarding_goes_on_until_the_hops_are_used_up() {
    let mut world = World::new();
    world.add_queue("q6", |_| {});
    for number in (1..6).rev() {
        let to = Some(path(&format!("q{}", number + 1)));
        world.add_queue(&format!("q{number}"), |settings| settings.forward_to = to);
    }
    world.send("q2", &[message("far")]).unwrap();
    let arrived = world.drain("q6").remove(0);
    assert_eq!((arrived.sequence_number, arrived.enqueued_sequence_number), (1, Some(1)));
    world.send("q1", &[message("too far")]).unwrap();
    assert!(world.peek("q6").is_empty());
    assert_eq!(reason(&world.peek("q5/$deadletterqueue")[0]), "MaxTransferHopCountExceeded");
    let refused = world.try_receive("q1", None, None, ReceiveMode::PeekLock, 1);
    assert_eq!(condition(refused), Condition::NotAllowed);
    world.apply(Input::DeleteEntity { path: path("q6") }).unwrap();
    world.send("q5", &[message("nowhere")]).unwrap();
    let dead = world.drain("q5/$deadletterqueue");
    assert_eq!(ids(&dead), ["too far", "nowhere"]);
}

#[test]
fn dead_letters_can_be_forwarded() {
    let mut world = World::new();
    world.add_queue("graves", |_| {});
    world.add_queue("q", |settings| settings.forward_dead_lettered_messages_to = Some(path("graves")));
    world.send("q", &[message("a")]).unwrap();
    let got = world.receive("q", 1).remove(0);
    world.settle("q", &got, dead_letter("bad", "")).unwrap();
    let dead = world.drain("graves").remove(0);
    assert_eq!((reason(&dead), dead.dead_letter_source.as_deref()), ("bad", Some("q")));
    assert!(world.peek("q/$deadletterqueue").is_empty());
    let Some(EntityInfo::Queue(info)) = world.info("graves") else { panic!() };
    assert_eq!(info.counts.active, 0);
}

#[test]
fn many_messages_are_deleted_at_once() {
    let mut world = World::queue(|_| {});
    world.send("q", &[message("a"), message("b"), message("c")]).unwrap();
    world.receive("q", 1);
    let delete = |max, before| Input::DeleteMessages { entity: path("q"), session: None, max, before };
    let now = world.now;
    assert_eq!(world.apply(delete(10, now)), Ok(servicebus_emulator::model::Output::Deleted(0)));
    assert_eq!(world.apply(delete(1, Time::NEVER)), Ok(servicebus_emulator::model::Output::Deleted(1)));
    assert_eq!(ids(&world.peek("q")), ["a", "c"]);
}
