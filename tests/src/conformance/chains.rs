//! What belongs together, and how it went: what a dashboard shows beside lists.

use std::time::{Duration, SystemTime};

use distributed_events::admin::{self, RowFilter, RowState};
use distributed_events::storage::{NewEvent, OperatorStorage, Storage, Table};
use distributed_events::{Envelope, EventId};

use super::{Fixture, SUBSCRIPTION, event, events, inbox_of, incoming, ingest, of_session, process, publish};

/// An event of a correlation, caused by another.
fn caused(name: &str, correlation: &str, cause: Option<EventId>) -> NewEvent {
    let mut envelope = Envelope::new(EventId::new(), name, "{}");
    envelope.correlation_id = Some(correlation.to_owned());
    envelope.causation_id = cause.map(|cause| cause.to_string());
    NewEvent::new(envelope)
}

async fn sent<F: Fixture>(fixture: &F, ids: &[EventId]) {
    F::DB::mark_sent(&mut *fixture.conn().await, ids, Default::default()).await.unwrap();
}

/// Causes by their ids, and what has come of them by the correlation, in every state and both tables.
pub async fn a_chain_is_found_across_both_tables<F: Fixture>() {
    let fixture = F::fresh().await;
    // Of another correlation: it is known by its id alone.
    let asked = caused("asked", "cart-9", None);
    let placed = caused("placed", "order-1", Some(asked.envelope.id));
    let charged = caused("charged", "order-1", Some(placed.envelope.id));
    let mut reminded = caused("reminded", "order-1", Some(placed.envelope.id));
    reminded.deliver = distributed_events::storage::Delivery::In(Duration::from_secs(3_600));
    let mailed = caused("mailed", "order-1", Some(charged.envelope.id));
    let shipped = caused("shipped", "order-1", Some(charged.envelope.id));
    let stranger = caused("stranger", "order-2", None);
    let all = [&asked, &placed, &charged, &reminded, &mailed, &shipped, &stranger].map(Clone::clone);
    publish(&fixture, &all).await;
    sent(&fixture, &[asked.envelope.id, placed.envelope.id, charged.envelope.id, stranger.envelope.id]).await;
    let killed = F::DB::mark_outbox_dead(&mut *fixture.conn().await, mailed.envelope.id, "too big").await;
    assert!(killed.unwrap());
    // What another service has made of it came back, as it did itself.
    let mut receipt = incoming("{}");
    (receipt.name, receipt.correlation_id) = ("receipt".to_owned(), Some("order-1".to_owned()));
    receipt.causation_id = Some(charged.envelope.id.to_string());
    let mut back = of_session("s", "{}");
    (back.id, back.name) = (charged.envelope.id, "charged".to_owned());
    back.correlation_id = Some("order-1".to_owned());
    back.causation_id = Some(placed.envelope.id.to_string());
    ingest(&fixture, &[back, receipt]).await;
    process(&fixture, &[inbox_of(&fixture, "s").await[0].seq]).await;

    for id in [placed.envelope.id, charged.envelope.id, shipped.envelope.id] {
        let chain = admin::chain(fixture.pool(), id).await.unwrap().unwrap();
        let told: Vec<_> = chain
            .links
            .iter()
            .map(|link| (link.depth, link.rows[0].1.event.as_str(), link.rows.len()))
            .collect();
        assert_eq!(told.len(), 7, "{told:?}");
        assert_eq!(told[..2], [(0, "asked", 1), (1, "placed", 1)]);
        assert_eq!(told.iter().filter(|link| link.0 == 2).count(), 2, "{told:?}");
        let charge = told.iter().position(|link| link.1 == "charged").unwrap();
        assert_eq!(told[charge].2, 2, "both tables have it: {told:?}");
        let mut come_of_it: Vec<_> = told[charge + 1..charge + 4].to_vec();
        come_of_it.sort_unstable();
        assert_eq!(come_of_it, [(3, "mailed", 1), (3, "receipt", 1), (3, "shipped", 1)]);
    }
    assert!(admin::chain(fixture.pool(), EventId::new()).await.unwrap().is_none());
}

/// However much there is.
pub async fn a_correlation_is_looked_for_among_so_many_rows<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = events(6);
    for event in &mut published {
        event.envelope.correlation_id = Some("one".to_owned());
    }
    publish(&fixture, &published).await;
    for event in &published[..4] {
        sent(&fixture, &[event.envelope.id]).await;
    }
    let mut conn = fixture.conn().await;
    let (ever, later) =
        (SystemTime::UNIX_EPOCH, F::DB::clock(&mut *conn).await.unwrap() + Duration::from_secs(60));
    let found = F::DB::related(&mut *conn, Table::Outbox, "one", ever, later, 3).await.unwrap();
    assert_eq!(found.iter().filter(|row| row.summary.state == "sent").count(), 3);
    assert_eq!(found.iter().filter(|row| row.summary.state == "pending").count(), 2);
    let found = F::DB::related(&mut *conn, Table::Outbox, "one", later, later, 3).await.unwrap();
    assert_eq!(found.len(), 2, "open ones are looked at whatever the time is");
    assert!(F::DB::related(&mut *conn, Table::Outbox, "One", ever, later, 9).await.unwrap().is_empty());
}

/// A count ends at its limit, and tells how far it has come.
pub async fn what_was_settled_is_counted_up_to_a_limit<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(5);
    publish(&fixture, &published).await;
    for event in &published {
        sent(&fixture, &[event.envelope.id]).await;
        fixture.age(Table::Outbox, Duration::from_secs(10)).await;
    }
    ingest(&fixture, &[of_session("s", "1"), of_session("s", "2"), of_session("s", "3")]).await;
    for row in inbox_of(&fixture, "s").await {
        process(&fixture, &[row.seq]).await;
        fixture.age(Table::Inbox, Duration::from_secs(10)).await;
    }
    // One has lost its body.
    let bodies =
        distributed_events::storage::Retention::InboxBodies { older_than: Duration::from_secs(25), limit: 1 };
    let mut conn = fixture.conn().await;
    assert_eq!(F::DB::purge(&mut *conn, &bodies).await.unwrap(), 1);
    let now = F::DB::clock(&mut *conn).await.unwrap();
    let hour_ago = now - Duration::from_secs(3_600);
    for (table, all) in [(Table::Outbox, 5), (Table::Inbox, 3)] {
        let whole = F::DB::throughput(&mut *conn, table, hour_ago, now, 100).await.unwrap();
        assert_eq!((whole.settled, whole.reached), (all, None), "{table:?}");
        let part = F::DB::throughput(&mut *conn, table, hour_ago, now, 2).await.unwrap();
        assert_eq!(part.settled, 2, "{table:?}");
        // The second one of them was settled ten seconds after the first.
        let ago = now.duration_since(part.reached.unwrap()).unwrap().as_secs();
        let expected = (all - 1) * 10;
        assert!((expected..expected + 8).contains(&ago), "{table:?}: {ago}");
        let span = admin::settled_between(fixture.pool(), table, hour_ago, now).await.unwrap();
        assert_eq!((span.settled, span.estimated), (all, false), "{table:?}");
        assert!(span.longest_lag >= span.mean_lag && span.mean_lag.is_some(), "{span:?}");
    }
}

/// Where a row stays, the reason stays with it, below what went wrong.
pub async fn a_reason_is_kept_with_the_row<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = [event("1")];
    publish(&fixture, &published).await;
    let id = published[0].envelope.id;
    assert!(F::DB::mark_outbox_dead(&mut *fixture.conn().await, id, "too big").await.unwrap());
    let (mut first, mut second) = (of_session("s", "1"), of_session("s", "2"));
    (first.dead, second.dead) = (Some("no card".to_owned()), Some("no card".to_owned()));
    ingest(&fixture, &[first.clone(), second.clone()]).await;
    let seqs = async |table| {
        let filter = RowFilter::new(RowState::Dead, SystemTime::UNIX_EPOCH);
        let rows = admin::list_rows(fixture.pool(), table, &filter).await.unwrap();
        rows.iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    let (outbox, inbox) = (seqs(Table::Outbox).await, seqs(Table::Inbox).await);
    let (pool, none) = (fixture.pool(), Duration::ZERO);
    let reason = "the limit is higher now, it's said: {} \\ ? '\"";
    assert_eq!(admin::requeue_because(pool, Table::Outbox, &outbox, none, reason).await.unwrap(), 1);
    assert_eq!(admin::requeue_because(pool, Table::Inbox, &inbox[..1], none, "a\nb").await.unwrap(), 1);
    assert_eq!(admin::discard_because(pool, Table::Inbox, &inbox[1..], " gone ").await.unwrap(), 1);
    let error = |row: Option<admin::RowDetail>| row.unwrap().summary.error.unwrap();
    let mut conn = fixture.conn().await;
    let of_outbox = F::DB::outbox_row(&mut *conn, published[0].envelope.id).await.unwrap();
    assert_eq!(error(of_outbox), format!("too big\nrequeued by an operator: {reason}"));
    let requeued = F::DB::inbox_row(&mut *conn, SUBSCRIPTION, first.id).await.unwrap();
    assert_eq!(error(requeued), "no card\nrequeued by an operator: a b");
    let discarded = F::DB::inbox_row(&mut *conn, SUBSCRIPTION, second.id).await.unwrap();
    assert_eq!(error(discarded), "no card\ndiscarded by an operator: gone");
}
