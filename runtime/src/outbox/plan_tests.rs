use std::time::Duration;

use super::*;

fn row(seq: i64, topic: &str, session: Option<&str>) -> OutboxRow {
    let mut envelope = Envelope::new(EventId::from_uuid(uuid::Uuid::from_u128(seq as u128)), "e", "{}");
    envelope.topic = Some(topic.to_owned());
    envelope.session_id = session.map(str::to_owned);
    OutboxRow::new(seq, envelope, false)
}

fn seqs(batch: &Planned) -> Vec<u128> {
    batch.events.iter().map(|event| event.id.as_uuid().as_u128()).collect()
}

const WIDE: BatchLimits = BatchLimits::new(1 << 20, 100);

#[test]
fn a_session_is_never_in_two_batches_under_way() {
    let mut plan = Plan::default();
    plan.add(vec![row(1, "t", Some("s")), row(2, "t", None)], "t", Instant::now());
    let first = plan.next_batch(WIDE).unwrap();
    assert_eq!(seqs(&first), [1, 2]);
    plan.add(vec![row(3, "t", Some("s")), row(4, "t", Some("other"))], "t", Instant::now());
    let second = plan.next_batch(WIDE).unwrap();
    assert_eq!(seqs(&second), [4], "session s waits for the outcome of its first event");
    plan.finished(&first.sessions(), &[]);
    assert_eq!(seqs(&plan.next_batch(WIDE).unwrap()), [3]);
}

#[test]
fn a_session_does_not_overtake_itself_across_topics_or_limits() {
    let mut plan = Plan::default();
    plan.add(vec![row(1, "a", None), row(2, "b", Some("s")), row(3, "a", Some("s"))], "t", Instant::now());
    assert_eq!(seqs(&plan.next_batch(WIDE).unwrap()), [1], "3 must not leave before 2");
    assert_eq!(seqs(&plan.next_batch(WIDE).unwrap()), [2]);
    assert!(plan.next_batch(WIDE).is_none());
}

#[test]
fn batches_are_cut_by_count_and_bytes_and_a_big_event_still_travels() {
    let mut plan = Plan::default();
    plan.add((1..=5).map(|seq| row(seq, "t", None)).collect(), "t", Instant::now());
    assert_eq!(plan.next_batch(BatchLimits::new(1 << 20, 2)).unwrap().events.len(), 2);
    let size = row(9, "t", None).envelope.encoded_size();
    assert_eq!(plan.next_batch(BatchLimits::new(2 * size, 100)).unwrap().events.len(), 2);
    assert_eq!(
        seqs(&plan.next_batch(BatchLimits::new(1, 100)).unwrap()),
        [5],
        "one event is a batch of its own"
    );
}

#[test]
fn a_held_topic_stops_its_own_rows_only_and_is_read_again() {
    let now = Instant::now();
    let mut plan = Plan::default();
    plan.add(vec![row(1, "a", None), row(2, "b", None)], "t", now);
    plan.hold("a", now + Duration::from_secs(1));
    assert_eq!(seqs(&plan.next_batch(WIDE).unwrap()), [2]);
    plan.add(vec![row(1, "a", None)], "t", now);
    assert!(plan.next_batch(WIDE).is_none());
    assert!(plan.release_holds(now + Duration::from_secs(1)));
    plan.add(vec![row(1, "a", None)], "t", now + Duration::from_secs(1));
    assert_eq!(seqs(&plan.next_batch(WIDE).unwrap()), [1]);
}

#[test]
fn a_held_topic_keeps_its_sessions_back_on_every_topic() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut plan = Plan::default();
    plan.hold("a", later);
    let rows = || vec![row(1, "a", Some("s")), row(2, "b", Some("s")), row(3, "b", Some("other"))];
    plan.add(rows(), "t", now);
    assert_eq!(seqs(&plan.next_batch(WIDE).unwrap()), [3], "2 must not leave before 1");
    plan.add(rows(), "t", now);
    assert!(plan.next_batch(WIDE).is_none(), "nor when it is read again");
    assert!(plan.release_holds(later));
    plan.add(rows(), "t", later);
    assert_eq!(seqs(&plan.next_batch(WIDE).unwrap()), [1]);
    assert!(plan.next_batch(WIDE).is_none(), "2 waits for the outcome of 1");
}

#[test]
fn a_row_read_twice_is_sent_once() {
    let mut plan = Plan::default();
    plan.add(vec![row(1, "t", None)], "t", Instant::now());
    let batch = plan.next_batch(WIDE).unwrap();
    plan.add(vec![row(1, "t", None)], "t", Instant::now());
    assert!(plan.next_batch(WIDE).is_none(), "under way");
    let ids: Vec<_> = batch.events.iter().map(|event| event.id).collect();
    plan.finished(&batch.sessions(), &ids);
    plan.add(vec![row(1, "t", None)], "t", Instant::now());
    assert_eq!(seqs(&plan.next_batch(WIDE).unwrap()), [1], "its batch failed");
}

#[test]
fn rows_of_no_topic_get_the_default() {
    let mut plan = Plan::default();
    let mut bare = row(1, "x", None);
    bare.envelope.topic = None;
    plan.add(vec![bare], "events", Instant::now());
    assert_eq!(plan.next_batch(WIDE).unwrap().topic, "events");
}

#[test]
fn what_can_never_be_sent_ends_once_and_takes_room_until_that_is_written() {
    let mut plan = Plan::default();
    let expired = || {
        let rows = [row(1, "t", None), row(2, "t", None)];
        rows.map(|row| OutboxRow { expired: true, ..row }).to_vec()
    };
    assert_eq!(plan.add(expired(), "t", Instant::now()).len(), 2);
    assert!(!plan.has_room(2, usize::MAX), "they are to be written before more is read");
    assert_eq!(
        plan.add(expired(), "t", Instant::now()),
        [],
        "a sweep that reads them again ends nothing twice"
    );
    plan.forget(&[1, 2].map(|seq| EventId::from_uuid(uuid::Uuid::from_u128(seq))));
    assert!(plan.has_room(2, usize::MAX));
}
