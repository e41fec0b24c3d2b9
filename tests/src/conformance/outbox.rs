//! Into the outbox and out of it.

use std::time::{Duration, SystemTime};

use distributed_events::EventId;
use distributed_events::storage::{Delivery, OutboxQuery, SentRows, Storage, StorageError, Table};

use super::{Fixture, bodies, due, event, events, pending, publish, read_outbox};

/// Atomicity, which is what the library is for.
pub async fn a_rolled_back_event_is_never_seen<F: Fixture>() {
    let fixture = F::fresh().await;
    fixture.execute("CREATE TABLE orders (n INTEGER)").await;
    for commit in [false, true] {
        let mut tx = fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
        F::run(&mut *tx, "INSERT INTO orders (n) VALUES (1)").await.unwrap();
        F::DB::insert_outbox(&mut *tx, &[event("1")]).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        assert_eq!(pending(&fixture).await.len(), usize::from(commit));
        assert_eq!(fixture.number("SELECT count(*) FROM orders").await, i64::from(commit));
    }
}

/// What was published is what the relay reads.
pub async fn a_committed_event_keeps_every_field<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut full = event(r#"{"a":[1,null,"x"]}"#);
    full.envelope.name = "ordering.order-placed".to_owned();
    full.envelope.version = 7;
    full.envelope.topic = Some("orders".to_owned());
    full.envelope.session_id = Some("order-1".to_owned());
    full.envelope.correlation_id = Some("flow".to_owned());
    full.envelope.causation_id = Some("cause".to_owned());
    full.envelope.headers.insert("traceparent".to_owned(), "00-1-2-03".to_owned());
    full.envelope.headers.insert("quote\"d".to_owned(), String::new());
    full.ttl = Some(Duration::from_secs(60));
    let bare = event("2");
    publish(&fixture, &[full.clone(), bare.clone()]).await;

    let rows = pending(&fixture).await;
    let now = SystemTime::now();
    for row in &rows {
        let distance = now.duration_since(row.envelope.created_at).unwrap_or_else(|early| early.duration());
        assert!(distance < Duration::from_secs(60), "created {distance:?} from now");
        assert_eq!(row.envelope.deliver_at, None);
        assert!(!row.expired);
    }
    let times =
        |row: &distributed_events::storage::OutboxRow| (row.envelope.created_at, row.envelope.expires_at);
    let (created, expires) = times(&rows[0]);
    assert_eq!(expires, Some(created + Duration::from_secs(60)));
    (full.envelope.created_at, full.envelope.expires_at) = (created, expires);
    assert_eq!(rows[0].envelope, full.envelope);
    let mut expected = bare.envelope;
    expected.created_at = rows[1].envelope.created_at;
    assert_eq!(rows[1].envelope, expected, "what is not set stays not set");
}

/// Order of the call, also past what one statement can take.
pub async fn rows_come_in_the_order_of_publishing<F: Fixture>() {
    let fixture = F::fresh().await;
    publish(&fixture, &events(2_500)).await;
    publish(&fixture, &[event("2500")]).await;
    let rows = pending(&fixture).await;
    let expected: Vec<_> = (0..=2_500).map(|n: i32| n.to_string()).collect();
    assert_eq!(bodies(&rows), expected);
    assert!(rows.windows(2).all(|pair| pair[0].seq < pair[1].seq));
}

/// Paging by key to the end (rule 5).
pub async fn pages_meet_without_a_gap<F: Fixture>() {
    let fixture = F::fresh().await;
    publish(&fixture, &events(25)).await;
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = read_outbox(&fixture, OutboxQuery::new("default", 10).after(after)).await;
        assert!(page.len() <= 10);
        let Some(last) = page.last() else { break };
        assert!(last.seq > after, "a page that starts again");
        after = last.seq;
        seen.extend(page.into_iter().map(|row| row.envelope.data));
    }
    assert_eq!(seen, (0..25).map(|n: i32| n.to_string()).collect::<Vec<_>>());
}

/// A lane is read by its own relay only, and its name is exact.
pub async fn lanes_are_apart<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut other = event("other");
    other.envelope.lane = "Default".to_owned();
    let mut padded = event("padded");
    padded.envelope.lane = "default ".to_owned();
    publish(&fixture, &[event("mine"), other, padded]).await;
    assert_eq!(bodies(&pending(&fixture).await), ["mine"]);
    assert_eq!(bodies(&read_outbox(&fixture, OutboxQuery::new("Default", 10)).await), ["other"]);
}

/// A row that commits late is below the watermark: reads above it don't show it, the sweep from zero does, in its place
/// (rule 2).
pub async fn a_late_row_is_found_by_the_sweep<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut late = fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
    F::DB::insert_outbox(&mut *late, &[event("late")]).await.unwrap();
    assert!(pending(&fixture).await.is_empty(), "it is not committed");
    let mut conn = fixture.conn().await;
    if F::DB::SINGLE_WRITER {
        // Nothing can overtake it, so whatever a read has seen is all there is below.
        late.commit().await.unwrap();
        let first = pending(&fixture).await[0].seq;
        publish(&fixture, &[event("next")]).await;
        let mut horizon = F::DB::horizon(&mut *conn).await.unwrap();
        assert!(F::DB::has_passed(&mut *conn, &mut horizon).await.unwrap());
        assert_eq!(
            bodies(&read_outbox(&fixture, OutboxQuery::new("default", 10).after(first)).await),
            ["next"]
        );
    } else {
        publish(&fixture, &[event("next")]).await;
        let read = pending(&fixture).await;
        assert_eq!(bodies(&read), ["next"]);
        let mut horizon = F::DB::horizon(&mut *conn).await.unwrap();
        assert!(!F::DB::has_passed(&mut *conn, &mut horizon).await.unwrap(), "the late transaction is open");
        late.commit().await.unwrap();
        let above = OutboxQuery::new("default", 10).after(read[0].seq);
        assert!(read_outbox(&fixture, above).await.is_empty());
    }
    assert_eq!(bodies(&pending(&fixture).await), ["late", "next"]);
}

/// Rule 25.
pub async fn a_mark_takes_pending_rows_by_id_only<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(2_000);
    publish(&fixture, &published).await;
    let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
    let mut conn = fixture.conn().await;
    assert!(F::DB::mark_outbox_dead(&mut *conn, ids[1], "too big").await.unwrap());
    let mark = [ids[0], ids[1], EventId::new(), ids[0]];
    assert_eq!(
        F::DB::mark_sent(&mut *conn, &mark, SentRows::Keep).await.unwrap(),
        1,
        "the dead and unknown are not"
    );
    assert_eq!(F::DB::mark_sent(&mut *conn, &mark, SentRows::Keep).await.unwrap(), 0, "nor is it twice");
    assert_eq!(F::DB::mark_sent(&mut *conn, &[], SentRows::Keep).await.unwrap(), 0);
    assert_eq!(pending(&fixture).await.len(), 1_998);
    assert_eq!(F::DB::mark_sent(&mut *conn, &ids, SentRows::Keep).await.unwrap(), 1_998);
    assert!(pending(&fixture).await.is_empty());
    let sent = "SELECT count(*) FROM outbox WHERE status = 'sent' AND processed_at IS NOT NULL";
    assert_eq!(fixture.number(sent).await, 1_999);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox WHERE status = 'dead'").await, 1);
}

/// The relay's option to keep nothing.
pub async fn a_mark_may_delete<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(3);
    publish(&fixture, &published).await;
    let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
    let mut conn = fixture.conn().await;
    F::DB::mark_outbox_dead(&mut *conn, ids[2], "too big").await.unwrap();
    assert_eq!(F::DB::mark_sent(&mut *conn, &ids, SentRows::Delete).await.unwrap(), 2);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox").await, 1, "the dead row stays");
}

/// A dead row keeps its place for the operator and leaves the relay alone.
pub async fn a_dead_row_leaves_the_outbox_read<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(2);
    publish(&fixture, &published).await;
    let mut conn = fixture.conn().await;
    let id = published[0].envelope.id;
    assert!(F::DB::mark_outbox_dead(&mut *conn, id, "too big").await.unwrap());
    assert!(!F::DB::mark_outbox_dead(&mut *conn, id, "again").await.unwrap());
    assert!(!F::DB::mark_outbox_dead(&mut *conn, EventId::new(), "unknown").await.unwrap());
    assert_eq!(bodies(&pending(&fixture).await), ["1"]);
}

/// Rule 16; and nothing of a refused publish is in the outbox, whatever else the transaction then does.
pub async fn a_repeated_id_is_refused_whole<F: Fixture>() {
    let fixture = F::fresh().await;
    fixture.execute("CREATE TABLE orders (n INTEGER)").await;
    let first = event("first");
    publish(&fixture, std::slice::from_ref(&first)).await;
    let mut stored_twice = events(2_500);
    stored_twice.push(first.clone());
    let mut within = events(3);
    within[2].envelope.id = within[0].envelope.id;
    for (batch, repeated) in [(vec![first.clone()], 0), (stored_twice, 2_500), (within, 2)] {
        let mut tx = fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
        let error = F::DB::insert_outbox(&mut *tx, &batch).await.unwrap_err();
        let expected = batch[repeated].envelope.id.to_string();
        assert!(matches!(&error, StorageError::DuplicateId { id } if *id == expected), "{error:?}");
        F::run(&mut *tx, "INSERT INTO orders (n) VALUES (1)").await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(bodies(&pending(&fixture).await), ["first"]);
    assert_eq!(fixture.number("SELECT count(*) FROM orders").await, 3);
}

/// A delayed event never stands in the pending scan, and is found when its time has come.
pub async fn delayed_rows_wait_apart<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut later = event("later");
    later.deliver = Delivery::In(Duration::from_secs(3_600));
    let mut at = event("at");
    at.deliver = Delivery::At(SystemTime::now() + Duration::from_secs(7_200));
    let mut past = event("past");
    past.deliver = Delivery::At(SystemTime::now() - Duration::from_secs(60));
    publish(&fixture, &[later, at, past, event("now")]).await;
    assert_eq!(bodies(&pending(&fixture).await), ["now"]);
    assert_eq!(bodies(&due(&fixture).await), ["past"]);
    fixture.age(Table::Outbox, Duration::from_secs(3_500)).await;
    assert_eq!(bodies(&due(&fixture).await), ["past"], "a hundred seconds are missing");
    fixture.age(Table::Outbox, Duration::from_secs(101)).await;
    let rows = due(&fixture).await;
    assert_eq!(bodies(&rows), ["past", "later"]);
    let waited = rows[1].envelope.deliver_at.unwrap().duration_since(rows[1].envelope.created_at).unwrap();
    assert_eq!(waited, Duration::from_secs(3_600));
    assert_eq!(bodies(&pending(&fixture).await), ["now"]);
}

/// Due rows come by time, leave by being marked, and can be paged past those under way.
pub async fn due_rows_come_in_the_order_of_their_times<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = events(6);
    for (event, seconds) in published.iter_mut().zip([60, 50, 40, 30, 30, 30]) {
        event.deliver = Delivery::In(Duration::from_secs(seconds));
    }
    publish(&fixture, &published).await;
    fixture.age(Table::Outbox, Duration::from_secs(61)).await;
    let query = OutboxQuery::new("default", 2).due();
    let first = read_outbox(&fixture, query).await;
    assert_eq!(bodies(&first), ["3", "4"]);
    let second = read_outbox(&fixture, query.after(first[1].seq)).await;
    assert_eq!(bodies(&second), ["5", "2"], "the first page is under way");
    let third = read_outbox(&fixture, query.after(second[1].seq)).await;
    assert_eq!(bodies(&third), ["1", "0"]);
    assert!(read_outbox(&fixture, query.after(third[1].seq)).await.is_empty());
    let ids: Vec<_> = first.iter().map(|row| row.envelope.id).collect();
    F::DB::mark_sent(&mut *fixture.conn().await, &ids, SentRows::Delete).await.unwrap();
    assert_eq!(bodies(&read_outbox(&fixture, query).await), ["5", "2"]);
    let gone = first[1].seq;
    assert_eq!(
        bodies(&read_outbox(&fixture, query.after(gone)).await),
        ["5", "2"],
        "after a row that is gone nothing is missed"
    );
}

/// Rows under way take no place in a page, delayed ones neither.
pub async fn rows_under_way_are_left_out<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = events(20);
    for event in &mut published[10..] {
        event.deliver = Delivery::In(Duration::from_secs(60));
    }
    publish(&fixture, &published).await;
    fixture.age(Table::Outbox, Duration::from_secs(61)).await;
    for (all, query) in [
        (pending(&fixture).await, OutboxQuery::new("default", 3)),
        (due(&fixture).await, OutboxQuery::new("default", 3).due()),
    ] {
        let seqs: Vec<_> = all.iter().map(|row| row.seq).collect();
        let texts = bodies(&all);
        let except: Vec<_> = seqs[..8].iter().copied().filter(|seq| *seq != seqs[4]).collect();
        let rows = read_outbox(&fixture, query.except(&except)).await;
        assert_eq!(bodies(&rows), [texts[4], texts[8], texts[9]]);
        let rows = read_outbox(&fixture, query.except(&except).after(seqs[4])).await;
        assert_eq!(bodies(&rows), [texts[8], texts[9]]);
        assert!(read_outbox(&fixture, query.except(&seqs)).await.is_empty());
    }
}

/// The time to live counts from the publish and by the database's clock.
pub async fn a_time_to_live_ends_by_the_database<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut short = event("short");
    short.ttl = Some(Duration::from_secs(60));
    publish(&fixture, &[short, event("for ever")]).await;
    let expired = |rows: &[distributed_events::storage::OutboxRow]| {
        rows.iter().map(|row| row.expired).collect::<Vec<_>>()
    };
    fixture.age(Table::Outbox, Duration::from_secs(50)).await;
    assert_eq!(expired(&pending(&fixture).await), [false, false]);
    fixture.age(Table::Outbox, Duration::from_secs(11)).await;
    assert_eq!(expired(&pending(&fixture).await), [true, false]);
}

/// No events, no statement.
pub async fn an_empty_publish_writes_nothing<F: Fixture>() {
    let fixture = F::fresh().await;
    publish(&fixture, &[]).await;
    assert_eq!(fixture.number("SELECT count(*) FROM outbox").await, 0);
}
