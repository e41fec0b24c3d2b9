//! What operators ask and do.

use std::time::Duration;

use distributed_events::storage::{
    AdminStorage, Attempt, DeadRow, DeadRowFilter, Delivery, NewEvent, SentRows, StateCounts, Storage, Table,
    Verdict,
};

use super::{
    Fixture, SUBSCRIPTION, bodies, due, event, events, inbox_of, ingest, of_session, pending, process,
    publish, take, texts,
};

async fn dead<F: Fixture>(fixture: &F, table: Table, filter: &DeadRowFilter) -> Vec<DeadRow> {
    F::DB::dead_rows(&mut *fixture.conn().await, table, filter).await.unwrap()
}

async fn all_dead<F: Fixture>(fixture: &F, table: Table) -> Vec<DeadRow> {
    dead(fixture, table, &DeadRowFilter::default()).await
}

async fn requeue<F: Fixture>(fixture: &F, table: Table, seqs: &[i64], delay: u64) -> u64 {
    let delay = Duration::from_secs(delay);
    F::DB::requeue(&mut *fixture.conn().await, table, seqs, delay, None).await.unwrap()
}

async fn discard<F: Fixture>(fixture: &F, table: Table, seqs: &[i64]) -> u64 {
    F::DB::discard(&mut *fixture.conn().await, table, seqs, None).await.unwrap()
}

async fn kill<F: Fixture>(fixture: &F, event: &NewEvent, reason: &str) {
    assert!(F::DB::mark_outbox_dead(&mut *fixture.conn().await, event.envelope.id, reason).await.unwrap());
}

/// A dead inbox row that had two attempts.
async fn dead_inbox_row<F: Fixture>(fixture: &F, body: &str) -> i64 {
    ingest(fixture, &[of_session("s", body)]).await;
    let seq = inbox_of(fixture, "s").await.last().unwrap().seq;
    let fence = take(fixture, &format!("shard of {body}")).await.fence;
    let attempt = Attempt::new(seq, &fence, Verdict::Dead).counting(2).because("no card");
    assert!(F::DB::record_attempt(&mut *fixture.conn().await, &attempt).await.unwrap());
    seq
}

fn assert_counts(counts: &StateCounts, pending: u64, dead: u64, oldest: Option<u64>) {
    assert_eq!((counts.pending, counts.dead), (pending, dead));
    let expected = oldest.map(Duration::from_secs);
    let close = match (counts.oldest_pending, expected) {
        (Some(found), Some(expected)) => found >= expected && found < expected + Duration::from_secs(50),
        (found, expected) => found == expected,
    };
    assert!(close, "{:?} instead of {expected:?}", counts.oldest_pending);
}

/// The dashboard's numbers.
pub async fn counts_tell_open_rows_by_owner_and_age<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut conn = fixture.conn().await;
    assert!(F::DB::count_outbox(&mut *conn).await.unwrap().lanes.is_empty());
    assert!(F::DB::count_inbox(&mut *conn).await.unwrap().subscriptions.is_empty());
    drop(conn);
    let published = events(5);
    publish(&fixture, &published).await;
    let mut critical = event("critical");
    critical.envelope.lane = "critical".to_owned();
    critical.deliver = Delivery::In(Duration::from_secs(300));
    publish(&fixture, &[critical]).await;
    kill(&fixture, &published[0], "too big").await;
    F::DB::mark_sent(&mut *fixture.conn().await, &[published[1].envelope.id], Default::default())
        .await
        .unwrap();
    fixture.age(Table::Outbox, Duration::from_secs(100)).await;
    let counts = F::DB::count_outbox(&mut *fixture.conn().await).await.unwrap();
    assert_eq!(counts.lanes.len(), 2);
    assert_counts(&counts.lanes["default"], 3, 1, Some(100));
    assert_counts(&counts.lanes["critical"], 1, 0, None);
    fixture.age(Table::Outbox, Duration::from_secs(300)).await;
    let counts = F::DB::count_outbox(&mut *fixture.conn().await).await.unwrap();
    assert_counts(&counts.lanes["default"], 3, 1, Some(400));
    assert_counts(&counts.lanes["critical"], 1, 0, Some(100));

    let dead = dead_inbox_row(&fixture, "dead").await;
    ingest(&fixture, &[of_session("s", "1"), of_session("t", "2"), of_session("u", "3")]).await;
    process(&fixture, &[inbox_of(&fixture, "s").await[0].seq]).await;
    fixture.age(Table::Inbox, Duration::from_secs(100)).await;
    F::DB::ingest(&mut *fixture.conn().await, "shipping", &[of_session("s", "4")]).await.unwrap();
    let counts = F::DB::count_inbox(&mut *fixture.conn().await).await.unwrap();
    assert_eq!(counts.subscriptions.len(), 2);
    assert_counts(&counts.subscriptions[SUBSCRIPTION], 2, 1, Some(100));
    assert_counts(&counts.subscriptions["shipping"], 1, 0, Some(0));
    discard(&fixture, Table::Inbox, &[dead]).await;
    let counts = F::DB::count_inbox(&mut *fixture.conn().await).await.unwrap();
    assert_counts(&counts.subscriptions[SUBSCRIPTION], 2, 0, Some(100));
}

/// Nothing is dropped silently: the bytes and the reason are there.
pub async fn dead_rows_are_listed_with_bytes_and_reason<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = event("{\"n\":1}");
    published.envelope.session_id = Some("order-1".to_owned());
    published.envelope.lane = "critical".to_owned();
    publish(&fixture, std::slice::from_ref(&published)).await;
    kill(&fixture, &published, "too big").await;
    let rows = all_dead(&fixture, Table::Outbox).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (row.id, row.owner.as_str(), row.event.as_str()),
        (published.envelope.id, "critical", "test.happened")
    );
    assert_eq!(
        (row.session_id.as_deref(), row.reason.as_str(), row.attempts),
        (Some("order-1"), "too big", 0)
    );
    assert_eq!(row.data, b"{\"n\":1}");
    let age = std::time::SystemTime::now().duration_since(row.created_at).unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");

    let seq = dead_inbox_row(&fixture, "body").await;
    let rows = all_dead(&fixture, Table::Inbox).await;
    let row = &rows[0];
    assert_eq!(
        (row.seq, row.owner.as_str(), row.attempts, row.reason.as_str()),
        (seq, SUBSCRIPTION, 2, "no card")
    );
    assert_eq!((row.session_id.as_deref(), row.data.as_slice()), (Some("s"), b"body".as_slice()));
}

/// Any number of dead rows can be looked through.
pub async fn dead_rows_are_paged_and_filtered<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = events(10);
    for (n, event) in published.iter_mut().enumerate() {
        event.envelope.lane = ["a", "b"][n % 2].to_owned();
        event.envelope.name = ["x", "y", "z"][n % 3].to_owned();
    }
    publish(&fixture, &published).await;
    for event in &published[..9] {
        kill(&fixture, event, "too big").await;
    }
    let bodies = |rows: Vec<DeadRow>| {
        rows.into_iter().map(|row| String::from_utf8(row.data).unwrap()).collect::<Vec<_>>()
    };
    let mut filter = DeadRowFilter::default();
    filter.limit = 4;
    let mut pages = Vec::new();
    loop {
        let page = dead(&fixture, Table::Outbox, &filter).await;
        let Some(last) = page.last() else { break };
        assert!(last.seq > filter.after, "a page that starts again");
        filter.after = last.seq;
        pages.push(bodies(page));
    }
    assert_eq!(pages, [vec!["0", "1", "2", "3"], vec!["4", "5", "6", "7"], vec!["8"]]);
    let mut filter = DeadRowFilter::default();
    filter.owner = Some("b".to_owned());
    assert_eq!(bodies(dead(&fixture, Table::Outbox, &filter).await), ["1", "3", "5", "7"]);
    filter.event = Some("x".to_owned());
    assert_eq!(bodies(dead(&fixture, Table::Outbox, &filter).await), ["3"]);
    filter.owner = None;
    assert_eq!(bodies(dead(&fixture, Table::Outbox, &filter).await), ["0", "3", "6"]);
    filter.event = Some("X".to_owned());
    assert!(dead(&fixture, Table::Outbox, &filter).await.is_empty(), "names are exact");
    let seq = dead_inbox_row(&fixture, "1").await;
    let mut filter = DeadRowFilter::default();
    filter.owner = Some(SUBSCRIPTION.to_owned());
    filter.event = Some("test.happened".to_owned());
    assert_eq!(dead(&fixture, Table::Inbox, &filter).await.len(), 1);
    filter.after = seq;
    assert!(dead(&fixture, Table::Inbox, &filter).await.is_empty());
}

/// With a delay they wait like any delayed event.
pub async fn requeued_outbox_rows_are_pending_again<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = events(3);
    published[1].deliver = Delivery::In(Duration::from_secs(1_000));
    publish(&fixture, &published).await;
    for event in &published {
        kill(&fixture, event, "too big").await;
    }
    let rows = all_dead(&fixture, Table::Outbox).await;
    let seqs: Vec<_> = rows.iter().map(|row| row.seq).collect();
    assert_eq!(requeue(&fixture, Table::Outbox, &seqs[..2], 0).await, 2);
    assert_eq!(requeue(&fixture, Table::Outbox, &seqs[2..], 600).await, 1);
    assert!(all_dead(&fixture, Table::Outbox).await.is_empty());
    let again = pending(&fixture).await;
    assert_eq!(bodies(&again), ["0", "1"], "at once, whatever their first delay was");
    assert_eq!(again.iter().map(|row| row.seq).collect::<Vec<_>>(), seqs[..2], "in their old places");
    assert!(due(&fixture).await.is_empty());
    fixture.age(Table::Outbox, Duration::from_secs(601)).await;
    assert_eq!(bodies(&due(&fixture).await), ["2"]);
    let open = "SELECT count(*) FROM outbox WHERE processed_at IS NULL";
    assert_eq!(fixture.number(open).await, 3);
}

/// With fresh attempts.
pub async fn requeued_inbox_rows_are_pending_again<F: Fixture>() {
    let fixture = F::fresh().await;
    let first = dead_inbox_row(&fixture, "1").await;
    let second = dead_inbox_row(&fixture, "2").await;
    assert_eq!(requeue(&fixture, Table::Inbox, &[first], 0).await, 1);
    assert_eq!(requeue(&fixture, Table::Inbox, &[second, first], 600).await, 1);
    let rows = inbox_of(&fixture, "s").await;
    assert_eq!(texts(&rows), ["1", "2"]);
    assert_eq!((rows[0].attempts, rows[0].due_in), (0, Duration::ZERO));
    assert!(rows[1].due_in > Duration::from_secs(550), "{:?}", rows[1].due_in);
    assert_eq!(process(&fixture, &[first, second]).await, 2);
}

/// An operator's list may be old.
pub async fn only_dead_rows_are_requeued_or_discarded<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(2);
    publish(&fixture, &published).await;
    let seqs: Vec<_> = pending(&fixture).await.iter().map(|row| row.seq).collect();
    F::DB::mark_sent(&mut *fixture.conn().await, &[published[0].envelope.id], Default::default())
        .await
        .unwrap();
    ingest(&fixture, &[of_session("s", "1"), of_session("s", "2")]).await;
    let rows: Vec<_> = inbox_of(&fixture, "s").await.iter().map(|row| row.seq).collect();
    process(&fixture, &rows[..1]).await;
    for (table, seqs) in [(Table::Outbox, &seqs), (Table::Inbox, &rows)] {
        assert_eq!(requeue(&fixture, table, seqs, 0).await, 0);
        assert_eq!(discard(&fixture, table, seqs).await, 0);
        assert_eq!(requeue(&fixture, table, &[], 0).await, 0);
    }
    assert_eq!((pending(&fixture).await.len(), inbox_of(&fixture, "s").await.len()), (1, 1));
}

/// Nothing needs its key.
pub async fn discard_deletes_from_the_outbox<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(2);
    publish(&fixture, &published).await;
    kill(&fixture, &published[0], "too big").await;
    let seq = all_dead(&fixture, Table::Outbox).await[0].seq;
    assert_eq!(discard(&fixture, Table::Outbox, &[seq, seq + 1]).await, 1);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox").await, 1);
}

/// Rule 15: a redelivery must not run what was given up.
pub async fn discard_keeps_the_key_in_the_inbox<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut event = of_session("s", "1");
    event.dead = Some("expired".to_owned());
    ingest(&fixture, std::slice::from_ref(&event)).await;
    let seq = all_dead(&fixture, Table::Inbox).await[0].seq;
    assert_eq!(discard(&fixture, Table::Inbox, &[seq]).await, 1);
    assert!(all_dead(&fixture, Table::Inbox).await.is_empty());
    assert_eq!(discard(&fixture, Table::Inbox, &[seq]).await, 0);
    assert_eq!(requeue(&fixture, Table::Inbox, &[seq], 0).await, 0, "discarded is for good");
    event.dead = None;
    assert_eq!(ingest(&fixture, &[event]).await.duplicates, 1);
    assert!(inbox_of(&fixture, "s").await.is_empty());
    assert_eq!(fixture.number("SELECT count(*) FROM inbox WHERE status = 'discarded'").await, 1);
}

/// What was sent a while ago, or under another name, stays sent; the rest is read again in its order.
pub async fn sent_rows_are_sent_again<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut other = event("other");
    other.envelope.name = "test.other".to_owned();
    let mut delayed = event("delayed");
    delayed.deliver = Delivery::In(Duration::from_millis(1));
    let recent = [event("1"), delayed, other, event("2")];
    publish(&fixture, &[event("old")]).await;
    let ids: Vec<_> = pending(&fixture).await.iter().map(|row| row.envelope.id).collect();
    let mut conn = fixture.conn().await;
    F::DB::mark_sent(&mut *conn, &ids, SentRows::Keep).await.unwrap();
    fixture.age(Table::Outbox, Duration::from_secs(3_600)).await;
    publish(&fixture, &recent).await;
    let ids: Vec<_> = recent.iter().map(|event| event.envelope.id).collect();
    F::DB::mark_sent(&mut *conn, &ids, SentRows::Keep).await.unwrap();
    publish(&fixture, &[event("3")]).await;
    let within = Duration::from_secs(600);
    assert_eq!(F::DB::resend(&mut *conn, within, Some("test.other")).await.unwrap(), 1);
    assert_eq!(bodies(&pending(&fixture).await), ["other", "3"]);
    assert_eq!(F::DB::resend(&mut *conn, within, None).await.unwrap(), 3);
    assert_eq!(F::DB::resend(&mut *conn, within, None).await.unwrap(), 0);
    assert_eq!(bodies(&pending(&fixture).await), ["1", "delayed", "other", "2", "3"]);
}
