//! What goes, when, and what never does (rule 15).

use std::time::Duration;

use distributed_events::EventId;
use distributed_events::storage::{AdminStorage, Retention, SentRows, Storage, Table};
use uuid::Uuid;

use super::{Fixture, event, events, inbox_of, ingest, of_session, pending, process, publish, report};

const DAY: Duration = Duration::from_secs(24 * 3_600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

async fn purge<F: Fixture>(fixture: &F, retention: Retention) -> u64 {
    F::DB::purge(&mut *fixture.conn().await, &retention).await.unwrap()
}

const SENT: Retention = Retention::Outbox { older_than: WEEK, limit: 1_000 };
const BODIES: Retention = Retention::InboxBodies { older_than: WEEK, limit: 1_000 };
const ROWS: Retention = Retention::InboxRows { older_than: WEEK, limit: 1_000 };

/// A row sent today may have waited for a month: its old id must not cost it its week.
pub async fn sent_rows_go_by_their_processed_at<F: Fixture>() {
    let fixture = F::fresh().await;
    // An id from 1970, and one from far ahead.
    let old = EventId::from_uuid(Uuid::parse_str("00000000-0001-7000-8000-000000000001").unwrap());
    let ahead = EventId::from_uuid(Uuid::parse_str("ffffffff-0001-7000-8000-000000000001").unwrap());
    let mut published = [event("old"), event("ahead")];
    (published[0].envelope.id, published[1].envelope.id) = (old, ahead);
    publish(&fixture, &published).await;
    fixture.age(Table::Outbox, 30 * DAY).await;
    F::DB::mark_sent(&mut *fixture.conn().await, &[old], SentRows::Keep).await.unwrap();
    assert_eq!(purge(&fixture, SENT).await, 0, "it was sent just now");
    fixture.age(Table::Outbox, 6 * DAY).await;
    F::DB::mark_sent(&mut *fixture.conn().await, &[ahead], SentRows::Keep).await.unwrap();
    assert_eq!(purge(&fixture, SENT).await, 0);
    fixture.age(Table::Outbox, 2 * DAY).await;
    assert_eq!(purge(&fixture, SENT).await, 1, "eight days and two days ago");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox").await, 1);
    fixture.age(Table::Outbox, 6 * DAY).await;
    assert_eq!(purge(&fixture, SENT).await, 1, "whatever its id says");
}

/// A slice at a time, so that nobody waits long for the lock.
pub async fn slices_are_bounded<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(250);
    publish(&fixture, &published).await;
    let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
    F::DB::mark_sent(&mut *fixture.conn().await, &ids, SentRows::Keep).await.unwrap();
    let incoming: Vec<_> = (0..250).map(|n| of_session("s", &n.to_string())).collect();
    ingest(&fixture, &incoming).await;
    let seqs: Vec<_> = inbox_of(&fixture, "s").await.iter().map(|row| row.seq).collect();
    process(&fixture, &seqs).await;
    let (older_than, limit) = (Duration::ZERO, 100);
    for retention in [
        Retention::Outbox { older_than, limit },
        Retention::InboxBodies { older_than, limit },
        Retention::InboxRows { older_than, limit },
    ] {
        for expected in [100, 100, 50, 0] {
            assert_eq!(purge(&fixture, retention).await, expected, "{retention:?}");
        }
    }
}

/// The key does its work without its bytes, and the row is not looked at again.
pub async fn bodies_go_and_keys_stay<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut raw = of_session("s", "");
    raw.body = distributed_events::storage::Body::Raw(vec![0, 255]);
    let events = [of_session("s", "text"), raw, of_session("s", "open")];
    ingest(&fixture, &events).await;
    let seqs: Vec<_> = inbox_of(&fixture, "s").await.iter().map(|row| row.seq).collect();
    process(&fixture, &seqs[..2]).await;
    fixture.age(Table::Inbox, 6 * DAY).await;
    assert_eq!(purge(&fixture, BODIES).await, 0);
    fixture.age(Table::Inbox, 2 * DAY).await;
    assert_eq!(purge(&fixture, BODIES).await, 2);
    assert_eq!(purge(&fixture, BODIES).await, 0);
    let bare = "SELECT count(*) FROM inbox WHERE event_data IS NULL AND raw IS NULL";
    assert_eq!(fixture.number(bare).await, 2);
    assert_eq!(ingest(&fixture, &events).await, report(0, 3, 0, 0));
    assert_eq!(inbox_of(&fixture, "s").await.len(), 1);
}

/// With or without their bodies.
pub async fn rows_go_past_the_horizon<F: Fixture>() {
    let fixture = F::fresh().await;
    let events = [of_session("s", "1"), of_session("s", "2"), of_session("s", "3")];
    ingest(&fixture, &events).await;
    let seqs: Vec<_> = inbox_of(&fixture, "s").await.iter().map(|row| row.seq).collect();
    process(&fixture, &seqs[..1]).await;
    fixture.age(Table::Inbox, 4 * DAY).await;
    process(&fixture, &seqs[1..2]).await;
    purge(&fixture, Retention::InboxBodies { older_than: 3 * DAY, limit: 10 }).await;
    fixture.age(Table::Inbox, 4 * DAY).await;
    assert_eq!(purge(&fixture, ROWS).await, 1);
    assert_eq!(ingest(&fixture, &events).await, report(1, 2, 0, 0), "past the horizon it is new");
    fixture.age(Table::Inbox, 4 * DAY).await;
    assert_eq!(purge(&fixture, ROWS).await, 1);
}

/// Whatever their age.
pub async fn open_and_dead_rows_never_go<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(2);
    publish(&fixture, &published).await;
    F::DB::mark_outbox_dead(&mut *fixture.conn().await, published[0].envelope.id, "too big").await.unwrap();
    let mut dead = of_session("s", "dead");
    dead.dead = Some("expired".to_owned());
    ingest(&fixture, &[dead, of_session("s", "open")]).await;
    for table in [Table::Outbox, Table::Inbox] {
        fixture.age(table, 1_000 * DAY).await;
    }
    for retention in [SENT, BODIES, ROWS] {
        assert_eq!(purge(&fixture, retention).await, 0, "{retention:?}");
    }
    assert_eq!((pending(&fixture).await.len(), inbox_of(&fixture, "s").await.len()), (1, 1));
}

/// Given up is given up for ever; only the bytes go.
pub async fn discarded_rows_keep_their_key<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut event = of_session("s", "1");
    event.dead = Some("expired".to_owned());
    ingest(&fixture, std::slice::from_ref(&event)).await;
    let mut conn = fixture.conn().await;
    let seqs = F::numbers(&mut conn, "SELECT seq FROM inbox").await;
    drop(conn);
    fixture.age(Table::Inbox, 8 * DAY).await;
    F::DB::discard(&mut *fixture.conn().await, Table::Inbox, &seqs, None).await.unwrap();
    assert_eq!(purge(&fixture, BODIES).await, 0, "discarded just now");
    fixture.age(Table::Inbox, 1_000 * DAY).await;
    assert_eq!(purge(&fixture, ROWS).await, 0);
    assert_eq!(purge(&fixture, BODIES).await, 1);
    assert_eq!(purge(&fixture, BODIES).await, 0);
    assert_eq!(ingest(&fixture, &[event]).await, report(0, 1, 0, 0));
}
