use bytes::Bytes;
use servicebus_emulator::model::{
    Condition, Input, Outcome, QueueSettings, ReceiveMode, ReceiverId, SessionWish, Span,
};

use crate::world::{
    LOCK, ME, OTHER, World, abandon, condition, ids, in_session, message, path, reason, token,
};

fn world() -> World {
    World::queue(|settings| {
        settings.requires_session = true;
        settings.max_delivery_count = 3;
    })
}

#[test]
fn plain_and_session_entities_refuse_each_others_receivers() {
    let mut world = world();
    world.add_queue("plain", |_| {});
    assert_eq!(condition(world.send("q", &[message("a")])), Condition::NotAllowed);
    assert_eq!(condition(world.open("q", ME)), Condition::NotAllowed);
    let received = world.try_receive("q", Some(ME), None, ReceiveMode::PeekLock, 1);
    assert_eq!(condition(received), Condition::NotAllowed);
    let accept = Input::AcceptSession { entity: path("plain"), receiver: ME, wish: SessionWish::Next };
    assert_eq!(condition(world.apply(accept)), Condition::NotAllowed);
    // The dead-letter queue of a session entity is a plain one.
    world.open("q/$deadletterqueue", ME).unwrap();
    world.send("plain", &[in_session("a", "s")]).unwrap();
    assert_eq!(world.receive("plain", 1).len(), 1);
}

#[test]
fn sessions_keep_their_order_and_exclude_each_other() {
    let mut world = world();
    world.send("q", &[in_session("a1", "a"), in_session("b1", "b"), in_session("a2", "a")]).unwrap();
    assert_eq!(world.accept(ME, None).unwrap().session_id, "a");
    assert_eq!(condition(world.accept(OTHER, Some("a"))), Condition::SessionCannotBeLocked);
    assert_eq!(condition(world.accept(ME, Some("c"))), Condition::ArgumentError);
    assert_eq!(world.accept(OTHER, None).unwrap().session_id, "b");
    assert_eq!(condition(world.accept(ReceiverId(3), None)), Condition::Timeout);
    assert_eq!(condition(world.next_in(OTHER, "a")), Condition::SessionLockLost);

    let first = world.next_in(ME, "a").unwrap().unwrap();
    assert_eq!(ids(std::slice::from_ref(&first)), ["a1"]);
    world.settle_as("q", Some(ME), Some("a"), token(&first), abandon()).unwrap();
    let first = world.next_in(ME, "a").unwrap().unwrap();
    assert_eq!((ids(std::slice::from_ref(&first)), first.delivery_count), (vec!["a1"], 1));
    // The session's holder alone may settle, and within that session.
    let settle = |world: &mut World, receiver, session| {
        world.settle_as("q", receiver, Some(session), token(&first), Outcome::Complete)
    };
    assert_eq!(condition(settle(&mut world, Some(OTHER), "a")), Condition::SessionLockLost);
    assert_eq!(condition(settle(&mut world, Some(OTHER), "b")), Condition::MessageLockLost);
    assert_eq!(condition(settle(&mut world, None, "b")), Condition::MessageLockLost);
    assert_eq!(condition(settle(&mut world, None, "c")), Condition::SessionLockLost);
    settle(&mut world, None, "a").unwrap();
    // What comes later belongs to the holder, too.
    world.send("q", &[in_session("a3", "a")]).unwrap();
    assert_eq!(world.next_in(ME, "a").unwrap().unwrap().sequence_number, 3);
    assert_eq!(world.next_in(ME, "a").unwrap().unwrap().sequence_number, 4);
    assert_eq!(world.next_in(ME, "a"), Ok(None));
}

#[test]
fn an_expired_session_lock_counts_its_messages_and_a_closed_one_does_not() {
    let mut world = world();
    world.send("q", &[in_session("a1", "a"), in_session("a2", "a")]).unwrap();
    world.accept(ME, None).unwrap();
    let held = world.next_in(ME, "a").unwrap().unwrap();
    world.wait(LOCK);
    assert_eq!(world.woken, [path("q")], "the link must learn that it lost the session");
    let settled = world.settle_as("q", Some(ME), Some("a"), token(&held), Outcome::Complete);
    assert_eq!(condition(settled), Condition::SessionLockLost);
    assert_eq!(condition(world.next_in(ME, "a")), Condition::SessionLockLost);
    world.accept(OTHER, None).unwrap();
    assert_eq!(world.next_in(OTHER, "a").unwrap().unwrap().delivery_count, 1);
    // The old link closes late: the session isn't its own any more.
    world.close(ME);
    assert_eq!(world.next_in(OTHER, "a").unwrap().unwrap().delivery_count, 0);
    world.close(OTHER);
    world.accept(ME, Some("a")).unwrap();
    let again = world.next_in(ME, "a").unwrap().unwrap();
    assert_eq!((ids(std::slice::from_ref(&again)), again.delivery_count), (vec!["a1"], 1));
    world.wait(LOCK);
    world.close(ME);
    world.accept(ME, Some("a")).unwrap();
    world.next_in(ME, "a").unwrap();
    world.wait(LOCK);
    assert_eq!(reason(&world.peek("q/$deadletterqueue")[0]), "MaxDeliveryCountExceeded");
}

#[test]
fn renewing_a_session_renews_its_messages() {
    let mut world = world();
    world.send("q", &[in_session("a1", "a")]).unwrap();
    let grant = world.accept(ME, None).unwrap();
    assert_eq!(grant.locked_until, world.now + Span(LOCK));
    let held = world.next_in(ME, "a").unwrap().unwrap();
    world.wait(LOCK - 1);
    let renew = |receiver| Input::RenewSession { entity: path("q"), receiver, session: "a".to_owned() };
    assert_eq!(condition(world.apply(renew(Some(OTHER)))), Condition::SessionLockLost);
    let until = world.now + Span(LOCK);
    assert_eq!(world.apply(renew(Some(ME))).unwrap().into_times(), Ok(vec![until]));
    let locks = Input::RenewLocks { entity: path("q"), session: None, tokens: vec![token(&held)] };
    assert_eq!(condition(world.apply(locks)), Condition::NotAllowed);
    world.wait(LOCK - 1);
    world.settle_as("q", Some(ME), Some("a"), token(&held), Outcome::Complete).unwrap();
    world.wait(1);
    assert_eq!(condition(world.apply(renew(None))), Condition::SessionLockLost);
}

#[test]
fn a_session_has_a_state_and_outlives_its_messages() {
    let mut world = world();
    world.accept(ME, Some("")).unwrap();
    let set = |receiver, state: Option<&'static str>| Input::SetSessionState {
        entity: path("q"),
        receiver,
        session: String::new(),
        state: state.map(Bytes::from),
    };
    let state = |world: &World| world.model.session_state(&path("q"), Some(ME), "");
    assert_eq!(state(&world), Ok(None));
    world.apply(set(Some(ME), Some("half way"))).unwrap();
    assert_eq!(condition(world.apply(set(Some(OTHER), None))), Condition::SessionLockLost);
    world.close(ME);
    assert_eq!(condition(state(&world)), Condition::SessionLockLost);
    let sessions = |world: &World, since| world.model.sessions(&path("q"), since, 0, 10).unwrap();
    assert_eq!(sessions(&world, None), [""]);
    assert_eq!(sessions(&world, Some(world.now)), [""]);
    assert!(sessions(&world, Some(world.now + Span(1))).is_empty());
    assert_eq!(condition(world.accept(ME, None)), Condition::Timeout, "a state alone is nothing to receive");
    world.accept(ME, Some("")).unwrap();
    assert_eq!(state(&world), Ok(Some(Bytes::from("half way"))));
    world.apply(set(None, None)).unwrap();
    world.close(ME);
    assert!(sessions(&world, None).is_empty());
    let large = Some("x".repeat(256 * 1024 + 1).leak() as &str);
    world.accept(ME, Some("")).unwrap();
    assert_eq!(condition(world.apply(set(None, large))), Condition::MessageSizeExceeded);
    let most = "x".repeat(256 * 1024).leak() as &str;
    let settings =
        QueueSettings { requires_session: true, max_size_in_megabytes: 1, ..QueueSettings::default() };
    world.apply(Input::UpdateQueue { path: path("q"), settings }).unwrap();
    for session in ["1", "2", "3", "4", "5"] {
        let receiver = ReceiverId(100 + session.parse::<u64>().unwrap());
        world.accept(receiver, Some(session)).unwrap();
        let (session, state) = (session.to_owned(), Some(Bytes::from(most)));
        let full = session == "5";
        let set = world.apply(Input::SetSessionState { entity: path("q"), receiver: None, session, state });
        assert_eq!(set.is_err(), full, "states count to the entity's size");
    }
    let long = "s".repeat(129);
    assert_eq!(condition(world.accept(OTHER, Some(&long))), Condition::ArgumentError);
}

#[test]
fn the_session_that_waits_longest_is_next() {
    let mut world = world();
    world.send("q", &[in_session("1", "z"), in_session("2", "a"), in_session("3", "m")]).unwrap();
    let order: Vec<_> = (1..4).map(|n| world.accept(ReceiverId(n), None).unwrap().session_id).collect();
    assert_eq!(order, ["z", "a", "m"]);
    assert_eq!(world.model.sessions(&path("q"), None, 1, 1).unwrap(), ["m"]);
    world.close(ReceiverId(2));
    assert_eq!(world.woken, [path("q")]);
    assert_eq!(world.accept(OTHER, None).unwrap().session_id, "a");
}

#[test]
fn a_deferred_message_stays_in_its_session() {
    let mut world = world();
    world.send("q", &[in_session("a1", "a")]).unwrap();
    world.accept(ME, None).unwrap();
    world.accept(OTHER, Some("b")).unwrap();
    let held = world.next_in(ME, "a").unwrap().unwrap();
    let defer = Outcome::Defer { modify: Default::default() };
    world.settle_as("q", Some(ME), Some("a"), token(&held), defer).unwrap();
    let get = |receiver, session: &str| Input::ReceiveDeferred {
        entity: path("q"),
        receiver,
        session: Some(session.to_owned()),
        mode: ReceiveMode::PeekLock,
        sequence_numbers: vec![1],
    };
    assert_eq!(condition(world.apply(get(Some(OTHER), "b"))), Condition::MessageNotFound);
    assert_eq!(condition(world.apply(get(Some(OTHER), "a"))), Condition::SessionLockLost);
    let got = world.apply(get(None, "a")).unwrap().into_deliveries().unwrap();
    world.close(ME);
    let settled = world.settle_as("q", None, Some("a"), token(&got[0]), Outcome::Complete);
    assert_eq!(condition(settled), Condition::SessionLockLost);
    world.accept(ME, Some("a")).unwrap();
    assert_eq!(world.next_in(ME, "a"), Ok(None));
    assert_eq!(world.apply(get(Some(ME), "a")).unwrap().into_deliveries().unwrap().len(), 1);
}

#[test]
fn a_forwarded_message_without_a_session_is_dead_lettered() {
    let mut world = world();
    world.add_queue("front", |settings| settings.forward_to = Some(path("q")));
    world.send("front", &[message("a"), in_session("b", "s")]).unwrap();
    assert_eq!(reason(&world.peek("q/$deadletterqueue")[0]), "Session ID is null.");
    assert_eq!(ids(&world.peek("q")), ["b"]);
}
