//! Received events into the inbox.

use std::collections::HashSet;

use distributed_events::EventId;
use distributed_events::storage::{
    AdminStorage, Body, DeadRowFilter, InboxQuery, IncomingEvent, Storage, Table, shard_of,
};
use uuid::Uuid;

use super::{
    Fixture, SUBSCRIPTION, inbox_of, incoming, ingest, of_session, process, read_inbox, report, texts,
};

/// A redelivery is harmless before and after processing; another subscription is another inbox.
pub async fn a_redelivery_changes_nothing<F: Fixture>() {
    let fixture = F::fresh().await;
    let events: Vec<_> = (0..3).map(|n| of_session("s", &n.to_string())).collect();
    assert_eq!(ingest(&fixture, &events).await, report(3, 0, 0, 0));
    assert_eq!(ingest(&fixture, &events).await, report(0, 3, 0, 0));
    let seqs: Vec<_> = inbox_of(&fixture, "s").await.iter().map(|row| row.seq).collect();
    assert_eq!(process(&fixture, &seqs[..1]).await, 1);
    let mut more = events.clone();
    more.insert(1, of_session("s", "new"));
    assert_eq!(ingest(&fixture, &more).await, report(1, 3, 0, 0));
    assert_eq!(
        texts(&inbox_of(&fixture, "s").await),
        ["1", "2", "new"],
        "what was processed stays processed"
    );
    let other = F::DB::ingest(&mut *fixture.conn().await, "Billing", &events).await.unwrap();
    assert_eq!(other, report(3, 0, 0, 0), "names are exact");
}

/// A broker may deliver a message twice in one batch.
pub async fn a_repetition_within_a_batch_is_stored_once<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut events: Vec<_> = (0..100).map(|n| of_session("s", &n.to_string())).collect();
    events.insert(50, events[0].clone());
    events.push(events[7].clone());
    assert_eq!(ingest(&fixture, &events).await, report(100, 2, 0, 0));
    let expected: Vec<_> = (0..100).map(|n: i32| n.to_string()).collect();
    assert_eq!(texts(&inbox_of(&fixture, "s").await), expected);
}

/// The same messages over several links at once.
pub async fn concurrent_ingests_store_once<F: Fixture>() {
    let fixture = F::fresh().await;
    let events: Vec<_> = (0..300).map(|n| of_session("s", &n.to_string())).collect();
    let link = async |first: usize| {
        let mut conn = fixture.conn().await;
        let mut inserted = 0;
        for n in 0..30 {
            let slice = &events[((first + n) % 30) * 10..][..10];
            let report = F::DB::ingest(&mut *conn, SUBSCRIPTION, slice).await.unwrap();
            assert_eq!(report.inserted + report.duplicates, 10);
            inserted += report.inserted;
        }
        inserted
    };
    let (a, b, c) = tokio::join!(link(0), link(10), link(20));
    assert_eq!(a + b + c, 300);
    let rows = inbox_of(&fixture, "s").await;
    let ids: HashSet<_> = rows.iter().map(|row| row.event.id).collect();
    assert_eq!((rows.len(), ids.len()), (300, 300));
}

/// Order within a session rests on it.
pub async fn the_order_of_arrival_is_kept<F: Fixture>() {
    let fixture = F::fresh().await;
    let events: Vec<_> = (0..777).map(|n| of_session("s", &n.to_string())).collect();
    for batch in events.chunks(173) {
        assert_eq!(ingest(&fixture, batch).await.inserted, batch.len() as u64);
    }
    let expected: Vec<_> = (0..777).map(|n: i32| n.to_string()).collect();
    assert_eq!(texts(&inbox_of(&fixture, "s").await), expected);
}

/// Rule 14: never one event in the place of another.
pub async fn an_id_used_by_another_event_is_kept_apart<F: Fixture>() {
    let fixture = F::fresh().await;
    let first = of_session("s", "first");
    let mut impostor = of_session("s", "impostor");
    impostor.id = first.id;
    impostor.name = "test.other".to_owned();
    assert_eq!(ingest(&fixture, std::slice::from_ref(&first)).await, report(1, 0, 0, 0));
    assert_eq!(ingest(&fixture, std::slice::from_ref(&impostor)).await, report(0, 0, 1, 0));
    assert_eq!(
        ingest(&fixture, &[impostor.clone(), first.clone()]).await,
        report(0, 2, 0, 0),
        "both are there"
    );
    assert_eq!(texts(&inbox_of(&fixture, "s").await), ["first"]);
    let dead =
        F::DB::dead_rows(&mut *fixture.conn().await, Table::Inbox, &DeadRowFilter::default()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].id, EventId::from_uuid(Uuid::new_v5(&first.id.as_uuid(), b"test.other")));
    assert_eq!(dead[0].event, "test.other");
    assert_eq!(dead[0].reason, "id already used by event test.happened");
    assert_eq!(dead[0].data, b"impostor");
    assert_eq!(dead[0].session_id.as_deref(), Some("s"));
}

/// The same where both come at once, among many others.
pub async fn a_conflict_within_a_batch_is_found<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut events: Vec<_> = (0..150).map(|n| of_session("s", &n.to_string())).collect();
    events[40].id = events[20].id;
    events[40].name = "test.other".to_owned();
    events[41].id = events[20].id;
    assert_eq!(ingest(&fixture, &events).await, report(148, 1, 1, 0));
    assert_eq!(ingest(&fixture, &events).await, report(0, 150, 0, 0));
    assert_eq!(fixture.number("SELECT count(*) FROM inbox WHERE status = 'dead'").await, 1);
}

/// Expired, older than the horizon, undecodable: such events arrive dead, with their bytes.
pub async fn a_dead_event_is_stored_dead<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut dead = of_session("s", "body");
    dead.dead = Some("older than the dedupe horizon".to_owned());
    assert_eq!(ingest(&fixture, &[dead.clone(), of_session("s", "live")]).await, report(2, 0, 0, 0));
    assert_eq!(ingest(&fixture, std::slice::from_ref(&dead)).await, report(0, 1, 0, 0));
    assert_eq!(texts(&inbox_of(&fixture, "s").await), ["live"]);
    let rows =
        F::DB::dead_rows(&mut *fixture.conn().await, Table::Inbox, &DeadRowFilter::default()).await.unwrap();
    assert_eq!(
        (rows[0].reason.as_str(), rows[0].data.as_slice()),
        ("older than the dedupe horizon", b"body".as_slice())
    );
}

/// One value that the database refuses costs its own body and nothing else.
pub async fn a_refused_value_is_bisected_to<F: Fixture>() {
    let fixture = F::fresh().await;
    fixture.refuse_body("refuse me").await;
    let mut events: Vec<_> = (0..150).map(|n| of_session("s", &n.to_string())).collect();
    events[77] = of_session("s", "refuse me");
    events[149] = of_session("s", "refuse me");
    assert_eq!(ingest(&fixture, &events).await, report(148, 0, 0, 2));
    let expected: Vec<_> = (0..149).filter(|n| *n != 77).map(|n: i32| n.to_string()).collect();
    assert_eq!(texts(&inbox_of(&fixture, "s").await), expected, "in order");
    let dead =
        F::DB::dead_rows(&mut *fixture.conn().await, Table::Inbox, &DeadRowFilter::default()).await.unwrap();
    assert_eq!(dead.iter().map(|row| row.id).collect::<Vec<_>>(), [events[77].id, events[149].id]);
    assert!(dead[0].data.is_empty());
    assert!(dead[0].reason.starts_with("the database refuses it"), "{}", dead[0].reason);
    assert_eq!(ingest(&fixture, &events).await, report(0, 150, 0, 0), "a redelivery finds it");
}

/// NUL is what some databases refuse and others cut at; it is kept dead on all of them.
pub async fn a_nul_in_a_name_is_kept_dead<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut session = of_session("a\0b", "session");
    session.message_id = "id\0".to_owned();
    let mut header = incoming("header");
    header.headers.insert("h".to_owned(), "\0".to_owned());
    let mut name = incoming("name");
    name.name = "test\0.happened".to_owned();
    let fine = of_session("a\u{fffd}b", "fine");
    let batch = [session.clone(), fine, header, name];
    assert_eq!(ingest(&fixture, &batch).await, report(1, 0, 0, 3));
    assert_eq!(ingest(&fixture, &batch).await, report(0, 4, 0, 0));
    assert_eq!(texts(&inbox_of(&fixture, "a\u{fffd}b").await), ["fine"]);
    let dead =
        F::DB::dead_rows(&mut *fixture.conn().await, Table::Inbox, &DeadRowFilter::default()).await.unwrap();
    let bodies: Vec<_> = dead.iter().map(|row| String::from_utf8(row.data.clone()).unwrap()).collect();
    assert_eq!(bodies, ["session", "header", "name"], "with their bodies");
    assert!(dead.iter().all(|row| row.reason.contains("NUL")));
    assert_eq!(dead[2].event, "test\u{fffd}.happened");
}

/// The hash is a part of the schema: other versions and languages rely on it.
pub async fn a_shard_is_stored_as_hashed<F: Fixture>() {
    let fixture = F::fresh().await;
    let vectors = [
        ("", 1),
        ("order-1", 50),
        ("a", 0),
        ("~00", 16),
        ("customer 4711", 48),
        ("Übergröße", 37),
        ("🙂", 51),
    ];
    for (session, shard) in vectors {
        assert_eq!(shard_of(session), shard, "{session}");
        ingest(&fixture, &[of_session(session, "x")]).await;
        let rows = read_inbox(&fixture, InboxQuery::new(SUBSCRIPTION, shard, 10)).await;
        assert!(rows.iter().any(|row| row.event.session_id.as_deref() == Some(session)), "{session}");
    }
    let id = EventId::from_uuid(Uuid::parse_str("0190a5f0-0000-7000-8000-000000000000").unwrap());
    ingest(&fixture, &[IncomingEvent::new(id, "e", Body::Text(String::new()))]).await;
    let rows = read_inbox(&fixture, InboxQuery::new(SUBSCRIPTION, 12, 10)).await;
    assert_eq!(rows[0].event.id, id, "without a session the id's text counts");
}

/// A receiver may come back with nothing.
pub async fn an_empty_batch_does_nothing<F: Fixture>() {
    let fixture = F::fresh().await;
    assert_eq!(ingest(&fixture, &[]).await, report(0, 0, 0, 0));
}
