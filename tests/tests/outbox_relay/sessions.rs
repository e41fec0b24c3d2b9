//! Rule 6: a session's next event leaves only after the outcome of the one before is known.

use std::collections::HashMap;

use distributed_events::broker::SendError;

use super::{Outbox, event, of};

#[tokio::test]
async fn a_session_waits_for_the_outcome_of_its_event_and_others_do_not() {
    let outbox = Outbox::new().await;
    outbox.broker.hold_sends();
    let relay = outbox.start();
    outbox.publish(vec![of("s", "s1")]).await;
    outbox.under_way(1).await;
    outbox.publish(vec![of("s", "s2"), event("free"), of("other", "o1")]).await;
    outbox.batches(2).await;
    let second = outbox.broker.batches().remove(1);
    assert_eq!(second.bodies, ["free", "o1"]);
    // The first is refused, so it comes again before the second.
    outbox.broker.refuse_next_send(SendError::Unavailable { reason: "busy".to_owned(), retry_after: None });
    outbox.broker.release_sends();
    outbox.sent(4).await;
    relay.stop().await.unwrap();
    let accepted = outbox.broker.accepted();
    let of_session: Vec<_> = accepted.iter().filter(|body| body.starts_with('s')).collect();
    assert_eq!(of_session, ["s1", "s2"]);
}

#[tokio::test]
async fn sessions_keep_their_order_through_every_kind_of_failure() {
    let outbox = Outbox::new().await;
    let unavailable = || SendError::Unavailable { reason: "busy".to_owned(), retry_after: None };
    let held = || SendError::Topic { topic: "events".to_owned(), reason: "full".to_owned() };
    for number in 0..10 {
        match number % 4 {
            0 => outbox.broker.refuse_next_send(unavailable()),
            1 => outbox.broker.lose_next_answer(),
            2 => outbox.broker.refuse_next_send(SendError::BatchTooBig("half of it".to_owned())),
            _ => outbox.broker.refuse_next_send(held()),
        }
    }
    // What is too big alone would end dead here, which is another test's matter: batches of two or more only.
    for round in 0..20 {
        let events =
            (0..20).map(|session| of(&format!("s{}", session % 10), &format!("{session:02} {round:02}")));
        outbox.publish(events.collect()).await;
    }
    let relay = outbox.start_with(7, 4);
    let sent_or_dead = "SELECT COUNT(*) FROM outbox WHERE status IN ('sent', 'dead')";
    let count = || outbox.database.number(sent_or_dead);
    tests::eventually::eventually("all 400 are settled", count, |count| *count == 400).await;
    relay.stop().await.unwrap();
    let batches = outbox.broker.batches();
    assert!(batches.iter().all(|batch| batch.overlap.is_empty()), "a session was in two batches under way");
    assert!(batches.iter().all(|batch| batch.depth <= 4 && batch.bodies.len() <= 7));
    // By the session and the place in it; what comes twice counts where it came first.
    let mut last: HashMap<String, String> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for body in outbox.broker.accepted().into_iter().filter(|body| seen.insert(body.clone())) {
        let (session, round) = body.split_once(' ').unwrap();
        let number: u32 = session.parse().unwrap();
        let place = format!("{round} {number:02}");
        if let Some(before) = last.insert((number % 10).to_string(), place.clone()) {
            assert!(before < place, "session s{}: {place} after {before}", number % 10);
        }
    }
    assert_eq!(seen.len(), 400, "and none is missing");
}

#[tokio::test]
async fn the_parts_of_a_split_batch_leave_in_order_one_after_the_other() {
    let outbox = Outbox::new().await;
    outbox.broker.refuse_batches_above(2);
    outbox.publish((0..11).map(|number| of("s", &number.to_string())).collect()).await;
    let relay = outbox.start();
    outbox.sent(11).await;
    relay.stop().await.unwrap();
    assert_eq!(outbox.broker.accepted(), (0..11).map(|number| number.to_string()).collect::<Vec<_>>());
    let batches = outbox.broker.batches();
    assert!(batches.iter().all(|batch| batch.depth == 1), "no part while another is under way");
    assert_eq!(batches[0].bodies.len(), 11, "it was one batch");
}
