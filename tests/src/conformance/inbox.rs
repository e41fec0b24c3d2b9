//! The inbox as the processor reads it.

use std::time::{Duration, SystemTime};

use distributed_events::storage::{InboxQuery, Storage, Table, shard_of};

use super::{Fixture, SUBSCRIPTION, inbox_of, incoming, ingest, of_session, process, read_inbox, texts};

/// Paging by key to the end (rule 5).
pub async fn rows_are_read_in_order_and_paged<F: Fixture>() {
    let fixture = F::fresh().await;
    let events: Vec<_> = (0..25).map(|n| of_session("s", &n.to_string())).collect();
    ingest(&fixture, &events).await;
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = read_inbox(&fixture, InboxQuery::new(SUBSCRIPTION, shard_of("s"), 10).after(after)).await;
        assert!(page.len() <= 10);
        let Some(last) = page.last() else { break };
        assert!(last.seq > after, "a page that starts again");
        after = last.seq;
        seen.extend(page.into_iter().map(|row| row.event.id));
    }
    assert_eq!(seen, events.iter().map(|event| event.id).collect::<Vec<_>>());
}

/// However many rows of blocked sessions stand at the head, the others are found within one page.
pub async fn blocked_sessions_hide_no_other<F: Fixture>() {
    let fixture = F::fresh().await;
    let shard = shard_of("s");
    let mut neighbours = (0..).map(|n| format!("n{n}")).filter(|name| shard_of(name) == shard);
    let neighbour = neighbours.next().unwrap();
    let other = neighbours.next().unwrap();
    let lone = std::iter::repeat_with(|| incoming("lone"))
        .find(|event| shard_of(&event.shard_key()) == shard)
        .unwrap();
    let mut events: Vec<_> = (0..50).map(|n| of_session(["s", &neighbour][n % 2], &n.to_string())).collect();
    events.extend([of_session(&other, "free"), lone]);
    ingest(&fixture, &events).await;
    let query = InboxQuery::new(SUBSCRIPTION, shard, 3);
    assert_eq!(texts(&read_inbox(&fixture, query).await), ["0", "1", "2"]);
    let blocked = ["s".to_owned(), neighbour];
    assert_eq!(texts(&read_inbox(&fixture, query.without(&blocked)).await), ["free", "lone"]);
    assert_eq!(texts(&read_inbox(&fixture, query.without(&blocked[..1])).await), ["1", "3", "5"]);
}

/// Rows that the worker has dealt with take no place in a page, whatever else is left out.
pub async fn rows_dealt_with_are_left_out<F: Fixture>() {
    let fixture = F::fresh().await;
    let events: Vec<_> = (0..300).map(|n| of_session("s", &n.to_string())).collect();
    ingest(&fixture, &events).await;
    let all: Vec<_> = inbox_of(&fixture, "s").await.iter().map(|row| row.seq).collect();
    let query = InboxQuery::new(SUBSCRIPTION, shard_of("s"), 3);
    let except: Vec<_> = all[..297].iter().copied().filter(|seq| *seq != all[7]).collect();
    assert_eq!(texts(&read_inbox(&fixture, query.except(&except)).await), ["7", "297", "298"]);
    assert_eq!(
        texts(&read_inbox(&fixture, query.except(&except).after(all[7])).await),
        ["297", "298", "299"]
    );
    let blocked = ["s".to_owned()];
    assert!(read_inbox(&fixture, query.except(&except).without(&blocked)).await.is_empty());
    assert!(read_inbox(&fixture, query.except(&all)).await.is_empty());
}

/// A session is blocked by its exact text and nothing like it.
pub async fn odd_sessions_are_blocked_exactly<F: Fixture>() {
    let fixture = F::fresh().await;
    let odd = [
        "a", "A", "a ", "", "\"", "\\u0061", "', ''", "[\"a\"]", "null", "1", "1.0", "ä", "a\u{308}", "🙂",
        "\u{1}", "%",
    ];
    for session in odd {
        ingest(&fixture, &[of_session(session, session)]).await;
    }
    for session in odd {
        let blocked = [session.to_owned()];
        for other in odd {
            let query = InboxQuery::new(SUBSCRIPTION, shard_of(other), 100);
            let rows = read_inbox(&fixture, query.without(&blocked)).await;
            assert_eq!(
                texts(&rows).contains(&other),
                other != session,
                "{other:?} while {session:?} is blocked"
            );
        }
    }
}

/// The processor's question which shards are worth a look.
pub async fn ready_shards_tell_what_waits_above_the_watermark<F: Fixture>() {
    let fixture = F::fresh().await;
    ingest(&fixture, &[of_session("order-1", "1"), of_session("order-1", "2"), of_session("a", "3")]).await;
    let last = inbox_of(&fixture, "order-1").await[1].seq;
    let shards = |from: i64| (0..64).rev().map(|shard| (shard, from)).collect::<Vec<_>>();
    let mut conn = fixture.conn().await;
    let ready = F::DB::ready_shards(&mut *conn, SUBSCRIPTION, &shards(0)).await.unwrap();
    assert_eq!(ready, [50, 0], "in the order asked for");
    let ready = F::DB::ready_shards(&mut *conn, SUBSCRIPTION, &shards(last - 1)).await.unwrap();
    assert_eq!(ready, [50, 0]);
    assert_eq!(F::DB::ready_shards(&mut *conn, SUBSCRIPTION, &shards(last)).await.unwrap(), [0]);
    assert_eq!(F::DB::ready_shards(&mut *conn, SUBSCRIPTION, &[(0, 0), (7, 0)]).await.unwrap(), [0]);
    assert!(F::DB::ready_shards(&mut *conn, SUBSCRIPTION, &[]).await.unwrap().is_empty());
    assert!(F::DB::ready_shards(&mut *conn, "other", &shards(0)).await.unwrap().is_empty());
    drop(conn);
    process(&fixture, &[last, last - 1]).await;
    let mut conn = fixture.conn().await;
    assert_eq!(F::DB::ready_shards(&mut *conn, SUBSCRIPTION, &shards(0)).await.unwrap(), [0]);
}

/// Ages and expiries come from the row's database, never from the reader's clock.
pub async fn times_are_told_by_the_database<F: Fixture>() {
    let fixture = F::fresh().await;
    let now = SystemTime::now();
    let mut event = of_session("s", "timed");
    event.created_at = Some(now);
    event.expires_at = Some(now + Duration::from_secs(600));
    ingest(&fixture, &[event, of_session("s", "timeless")]).await;
    fixture.age(Table::Inbox, Duration::from_secs(500)).await;
    let rows = inbox_of(&fixture, "s").await;
    let age = rows[0].age.unwrap();
    assert!(age >= Duration::from_secs(500) && age < Duration::from_secs(590), "{age:?}");
    assert_eq!((rows[0].expired, rows[0].due_in), (false, Duration::ZERO));
    assert_eq!((rows[1].expired, rows[1].age), (false, None));
    fixture.age(Table::Inbox, Duration::from_secs(101)).await;
    let rows = inbox_of(&fixture, "s").await;
    assert_eq!((rows[0].expired, rows[1].expired), (true, false));
    let received = now.duration_since(rows[0].received_at).unwrap();
    assert!(received > Duration::from_secs(540) && received < Duration::from_secs(660), "{received:?}");
}

/// A mark that finds fewer rows than it was given tells the worker to forget its shard (rule 4).
pub async fn marking_counts_pending_rows_only<F: Fixture>() {
    let fixture = F::fresh().await;
    ingest(&fixture, &[of_session("s", "1"), of_session("s", "2"), of_session("s", "3")]).await;
    let seqs: Vec<_> = inbox_of(&fixture, "s").await.iter().map(|row| row.seq).collect();
    assert_eq!(process(&fixture, &seqs[..2]).await, 2);
    assert_eq!(process(&fixture, &seqs).await, 1);
    assert_eq!(process(&fixture, &seqs).await, 0);
    assert_eq!(process(&fixture, &[]).await, 0);
    let processed = "SELECT count(*) FROM inbox WHERE status = 'processed' AND processed_at IS NOT NULL";
    assert_eq!(fixture.number(processed).await, 3);
}

/// Each subscription has its own rows, and its name is exact.
pub async fn subscriptions_are_apart<F: Fixture>() {
    let fixture = F::fresh().await;
    let event = of_session("s", "1");
    let mut conn = fixture.conn().await;
    for subscription in ["billing", "Billing", "billing "] {
        let batch = std::slice::from_ref(&event);
        assert_eq!(
            F::DB::ingest(&mut *conn, subscription, batch).await.unwrap().inserted,
            1,
            "{subscription:?}"
        );
    }
    drop(conn);
    let rows = inbox_of(&fixture, "s").await;
    assert_eq!(rows.len(), 1);
    process(&fixture, &[rows[0].seq]).await;
    for subscription in ["Billing", "billing "] {
        assert_eq!(read_inbox(&fixture, InboxQuery::new(subscription, shard_of("s"), 10)).await.len(), 1);
    }
}
