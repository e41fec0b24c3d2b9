//! What operators ask beside the counts: rows by what is known of them, who holds what, how fast it goes.

use std::time::{Duration, SystemTime};

use distributed_events::storage::{
    Body, Delivery, Instance, LeaseStorage, OperatorStorage, RowDetail, RowFilter, RowState, RowSummary,
    Storage, Table,
};
use distributed_events::{EventId, admin};
use uuid::Uuid;

use super::{
    Fixture, LEASE_TIME, SUBSCRIPTION, bodies, event, events, inbox_of, incoming, ingest, of_session,
    pending, process, publish, take, texts,
};

const LONG_AGO: SystemTime = SystemTime::UNIX_EPOCH;

async fn list<F: Fixture>(fixture: &F, table: Table, filter: &RowFilter) -> Vec<RowSummary> {
    F::DB::list_rows(&mut *fixture.conn().await, table, filter).await.unwrap()
}

/// Ids of a list that is read two rows at a time.
async fn paged<F: Fixture>(fixture: &F, table: Table, filter: &RowFilter) -> Vec<EventId> {
    let mut filter = filter.clone();
    filter.limit = 2;
    let mut ids = Vec::new();
    loop {
        let page = list(fixture, table, &filter).await;
        let Some(last) = page.last() else { return ids };
        // As somebody types it.
        filter.after = Some(last.cursor.to_string().parse().unwrap());
        ids.extend(page.iter().map(|row| row.id));
        assert!(ids.len() < 100, "it goes round");
    }
}

async fn kill<F: Fixture>(fixture: &F, id: EventId, reason: &str) {
    assert!(F::DB::mark_outbox_dead(&mut *fixture.conn().await, id, reason).await.unwrap());
}

async fn sent<F: Fixture>(fixture: &F, ids: &[EventId]) {
    let marked = F::DB::mark_sent(&mut *fixture.conn().await, ids, Default::default()).await.unwrap();
    assert_eq!(marked, ids.len() as u64);
}

async fn clock<F: Fixture>(fixture: &F) -> SystemTime {
    F::DB::clock(&mut *fixture.conn().await).await.unwrap()
}

/// Each state is a list of its own, in its own order, whole however it is paged.
pub async fn outbox_rows_are_listed_by_state<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = events(12);
    for (n, event) in published.iter_mut().enumerate() {
        event.envelope.lane = ["b", "a"][n % 2].to_owned();
        if n >= 8 {
            // The later ones first.
            event.deliver = Delivery::In(Duration::from_secs(2_000 - 10 * n as u64));
        }
    }
    publish(&fixture, &published).await;
    let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
    kill(&fixture, ids[0], "too big").await;
    kill(&fixture, ids[3], "too big").await;
    kill(&fixture, ids[4], "too big").await;
    let of = |places: &[usize]| places.iter().map(|&place| ids[place]).collect::<Vec<_>>();
    let filter = |state| RowFilter::new(state, LONG_AGO);
    assert_eq!(paged(&fixture, Table::Outbox, &filter(RowState::Dead)).await, of(&[0, 3, 4]));
    assert_eq!(
        paged(&fixture, Table::Outbox, &filter(RowState::Pending)).await,
        of(&[1, 5, 7, 2, 6]),
        "by lane"
    );
    assert_eq!(
        paged(&fixture, Table::Outbox, &filter(RowState::Delayed)).await,
        of(&[11, 9, 10, 8]),
        "by time"
    );
    for (n, place) in [1, 2, 5].into_iter().enumerate() {
        sent(&fixture, &of(&[place])).await;
        fixture.age(Table::Outbox, Duration::from_secs(10 * (n as u64 + 1))).await;
    }
    assert_eq!(
        paged(&fixture, Table::Outbox, &filter(RowState::Settled)).await,
        of(&[5, 2, 1]),
        "the latest first"
    );
    let mut recent = filter(RowState::Settled);
    recent.since = clock(&fixture).await - Duration::from_secs(55);
    assert_eq!(paged(&fixture, Table::Outbox, &recent).await, of(&[5, 2]));
    recent.until = Some(clock(&fixture).await - Duration::from_secs(40));
    assert_eq!(paged(&fixture, Table::Outbox, &recent).await, of(&[2]));
    let mut of_lane = filter(RowState::Pending);
    of_lane.owner = Some("b".to_owned());
    assert_eq!(paged(&fixture, Table::Outbox, &of_lane).await, of(&[6]));
    of_lane.state = RowState::Delayed;
    assert_eq!(paged(&fixture, Table::Outbox, &of_lane).await, of(&[10, 8]));
}

/// The same for what was received.
pub async fn inbox_rows_are_listed_by_state<F: Fixture>() {
    let fixture = F::fresh().await;
    let received: Vec<_> = (0..8).map(|n| of_session(&format!("session {n}"), &n.to_string())).collect();
    ingest(&fixture, &received).await;
    let ids: Vec<_> = received.iter().map(|event| event.id).collect();
    let filter = |state| RowFilter::new(state, LONG_AGO);
    let mut waiting = paged(&fixture, Table::Inbox, &filter(RowState::Pending)).await;
    let rows = list(&fixture, Table::Inbox, &filter(RowState::Pending)).await;
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), waiting, "shard by shard, paged or not");
    waiting.sort_by_key(|id| ids.iter().position(|known| known == id));
    assert_eq!(waiting, ids, "each of them once");
    let mut dead = incoming("dead");
    dead.dead = Some("no handler".to_owned());
    F::DB::ingest(&mut *fixture.conn().await, "shipping", std::slice::from_ref(&dead)).await.unwrap();
    assert_eq!(paged(&fixture, Table::Inbox, &filter(RowState::Dead)).await, [dead.id]);
    for n in [2, 6, 4] {
        let seq = inbox_of(&fixture, &format!("session {n}")).await[0].seq;
        process(&fixture, &[seq]).await;
        fixture.age(Table::Inbox, Duration::from_secs(10)).await;
    }
    let done: Vec<_> = [4, 6, 2].map(|n: usize| ids[n]).into();
    assert_eq!(paged(&fixture, Table::Inbox, &filter(RowState::Settled)).await, done);
    // Also those whose body retention has taken.
    let bodies = distributed_events::storage::Retention::InboxBodies {
        older_than: Duration::from_secs(15),
        limit: 10,
    };
    assert_eq!(F::DB::purge(&mut *fixture.conn().await, &bodies).await.unwrap(), 2);
    assert_eq!(paged(&fixture, Table::Inbox, &filter(RowState::Settled)).await, done);
    assert_eq!(paged(&fixture, Table::Inbox, &filter(RowState::Delayed)).await, [], "there are none");
}

/// Every filter alone narrows the list, and all are exact.
pub async fn lists_are_narrowed_by_what_is_known<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = events(4);
    published[0].envelope.name = "a'\"\\%_".to_owned();
    published[1].envelope.session_id = Some("order-1".to_owned());
    published[2].envelope.session_id = Some("Order-1".to_owned());
    publish(&fixture, &published).await;
    let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
    for (id, reason) in ids.iter().zip(["100% of 'it'", "No card", "no card", "größe"]) {
        kill(&fixture, *id, reason).await;
    }
    let filter = || RowFilter::new(RowState::Dead, LONG_AGO);
    let found = async |change: &dyn Fn(&mut RowFilter)| {
        let mut filter = filter();
        change(&mut filter);
        list(&fixture, Table::Outbox, &filter).await.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(found(&|filter| filter.event = Some("a'\"\\%_".to_owned())).await, [ids[0]]);
    assert_eq!(found(&|filter| filter.event = Some("A'\"\\%_".to_owned())).await, []);
    assert_eq!(found(&|filter| filter.session = Some("order-1".to_owned())).await, [ids[1]]);
    assert_eq!(found(&|filter| filter.error = Some("card".to_owned())).await, [ids[1], ids[2]]);
    assert_eq!(
        found(&|filter| filter.error = Some("no card".to_owned())).await,
        [ids[2]],
        "as it is written"
    );
    assert_eq!(found(&|filter| filter.error = Some("%".to_owned())).await, [ids[0]], "no pattern");
    assert_eq!(found(&|filter| filter.error = Some("größe".to_owned())).await, [ids[3]]);
    assert_eq!(found(&|filter| filter.owner = Some("critical".to_owned())).await, []);
    let now = clock(&fixture).await;
    assert_eq!(found(&|filter| filter.since = now + Duration::from_secs(5)).await, []);
    assert_eq!(found(&|filter| filter.until = Some(now - Duration::from_secs(3_600))).await, []);
    assert_eq!(found(&|filter| filter.until = Some(now + Duration::from_secs(5))).await, ids);
    let row = &list(&fixture, Table::Outbox, &filter()).await[1];
    assert_eq!((row.state.as_str(), row.owner.as_str(), row.attempts), ("dead", "default", 0));
    assert_eq!((row.error.as_deref(), row.session_id.as_deref()), (Some("No card"), Some("order-1")));
    assert!(row.settled_at.is_some() && row.due_at.is_none());
}

/// Whatever became of it, and in the inbox for each subscription that has it.
pub async fn a_row_is_read_whole_by_its_id<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = event("{\"n\":1}");
    published.envelope.topic = Some("orders".to_owned());
    published.envelope.correlation_id = Some("correlation".to_owned());
    published.envelope.causation_id = Some("causation".to_owned());
    published.envelope.headers.insert("tenant".to_owned(), "größe".to_owned());
    published.ttl = Some(Duration::from_secs(600));
    publish(&fixture, std::slice::from_ref(&published)).await;
    let id = published.envelope.id;
    let mut conn = fixture.conn().await;
    let row = F::DB::outbox_row(&mut *conn, id).await.unwrap().unwrap();
    assert_eq!((row.summary.id, row.summary.state.as_str()), (id, "pending"));
    assert_eq!(row.data.as_deref(), Some(b"{\"n\":1}".as_slice()));
    assert_eq!((row.topic.as_deref(), row.correlation_id.as_deref()), (Some("orders"), Some("correlation")));
    assert_eq!(
        (row.causation_id.as_deref(), row.headers.as_str()),
        (Some("causation"), "{\"tenant\":\"größe\"}")
    );
    let lives = row.expires_at.unwrap().duration_since(row.summary.written_at).unwrap();
    assert_eq!(lives, Duration::from_secs(600));
    assert!(F::DB::outbox_row(&mut *conn, EventId::new()).await.unwrap().is_none());

    let mut received = incoming("unused");
    received.body = Body::from_bytes(vec![0xff, 0]);
    for subscription in ["billing", "shipping"] {
        F::DB::ingest(&mut *conn, subscription, std::slice::from_ref(&received)).await.unwrap();
    }
    drop(conn);
    let rows: Vec<RowDetail> = admin::inbox_rows(fixture.pool(), received.id).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.summary.owner.as_str()).collect::<Vec<_>>(),
        ["billing", "shipping"]
    );
    assert_eq!((rows[0].data.as_deref(), rows[0].headers.as_str()), (Some([0xff, 0].as_slice()), "{}"));
    assert_eq!(rows[0].message_id.as_deref(), Some(received.message_id.as_str()));
    assert!(admin::inbox_rows(fixture.pool(), EventId::new()).await.unwrap().is_empty());
    assert_eq!(admin::subscriptions_received(fixture.pool()).await.unwrap(), ["billing", "shipping"]);
}

/// Who works on what, by the database's clock.
pub async fn leases_and_instances_are_told<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut conn = fixture.conn().await;
    assert_eq!(F::DB::lease_statuses(&mut *conn).await.unwrap(), []);
    assert_eq!(F::DB::live_instances(&mut *conn).await.unwrap(), []);
    F::DB::bind_lane(&mut *conn, "default", "service-bus:shop").await.unwrap();
    let instance = Instance::new(Uuid::new_v4(), Vec::new());
    F::DB::announce(&mut *conn, &instance, LEASE_TIME).await.unwrap();
    drop(conn);
    let lane = take(&fixture, "outbox:default").await.fence;
    take(&fixture, "inbox:billing:07").await;
    fixture.set_lease_until("inbox:billing:07", -5).await;
    let mut conn = fixture.conn().await;
    let leases = F::DB::lease_statuses(&mut *conn).await.unwrap();
    assert_eq!(leases.len(), 2);
    let (shard, outbox) = (&leases[0], &leases[1]);
    assert_eq!(
        (shard.name.as_str(), shard.remaining, shard.broker.as_deref()),
        ("inbox:billing:07", None, None)
    );
    assert!(shard.owner.is_some(), "it was never given back");
    assert_eq!(
        (outbox.name.as_str(), outbox.owner, outbox.epoch),
        ("outbox:default", Some(lane.owner), lane.epoch)
    );
    assert_eq!((outbox.broker.as_deref(), outbox.unclean), (Some("service-bus:shop"), false));
    let remaining = outbox.remaining.unwrap();
    assert!(remaining <= LEASE_TIME && remaining > LEASE_TIME / 2, "{remaining:?}");
    F::DB::release_leases(&mut *conn, &[lane]).await.unwrap();
    let leases = F::DB::lease_statuses(&mut *conn).await.unwrap();
    assert_eq!((leases[1].owner, leases[1].remaining), (None, None));
    let live = F::DB::live_instances(&mut *conn).await.unwrap();
    assert_eq!((live.len(), &live[0].instance), (1, &instance));
    assert!(live[0].remaining <= LEASE_TIME && live[0].remaining > LEASE_TIME / 2);
}

/// How much was settled in a span of time, and how long it had waited.
pub async fn throughput_tells_counts_and_waits<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(3);
    publish(&fixture, &published).await;
    fixture.age(Table::Outbox, Duration::from_secs(5)).await;
    sent(&fixture, &[published[0].envelope.id, published[1].envelope.id]).await;
    let minute = Duration::from_secs(60);
    let found = admin::throughput(fixture.pool(), Table::Outbox, minute).await.unwrap();
    assert_eq!(found.settled, 2);
    let (mean, longest) = (found.mean_lag.unwrap(), found.longest_lag.unwrap());
    assert!(mean >= Duration::from_secs(5) && mean <= longest && longest < minute, "{found:?}");
    fixture.age(Table::Outbox, minute * 2).await;
    let found = admin::throughput(fixture.pool(), Table::Outbox, minute).await.unwrap();
    assert_eq!((found.settled, found.mean_lag, found.longest_lag), (0, None, None));
    ingest(&fixture, &[of_session("s", "1"), of_session("s", "2")]).await;
    fixture.age(Table::Inbox, Duration::from_secs(5)).await;
    process(&fixture, &[inbox_of(&fixture, "s").await[0].seq]).await;
    let found = admin::throughput(fixture.pool(), Table::Inbox, minute).await.unwrap();
    assert_eq!(found.settled, 1);
    assert!(found.mean_lag.unwrap() >= Duration::from_secs(5), "{found:?}");
}

/// From its beginning until before its end, and of one name if that is said.
pub async fn a_span_of_time_is_sent_again<F: Fixture>() {
    let fixture = F::fresh().await;
    let mut published = events(4);
    published[2].envelope.name = "test.other".to_owned();
    publish(&fixture, &published).await;
    let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
    for id in &ids {
        sent(&fixture, &[*id]).await;
        fixture.age(Table::Outbox, Duration::from_secs(100)).await;
    }
    let now = clock(&fixture).await;
    let ago = |seconds| now - Duration::from_secs(seconds);
    let mut conn = fixture.conn().await;
    // They were sent about 400, 300, 200 and 100 seconds ago.
    assert_eq!(F::DB::resend_between(&mut *conn, ago(250), ago(50), Some("test.other")).await.unwrap(), 1);
    assert_eq!(F::DB::resend_between(&mut *conn, ago(350), ago(150), None).await.unwrap(), 1);
    assert_eq!(F::DB::resend_between(&mut *conn, ago(350), ago(150), None).await.unwrap(), 0);
    drop(conn);
    assert_eq!(bodies(&pending(&fixture).await), ["1", "2"], "in their old places");
}

/// Only those that are processed and have their bodies, as if they had just come.
pub async fn processed_rows_are_replayed<F: Fixture>() {
    let fixture = F::fresh().await;
    ingest(&fixture, &[of_session("s", "1"), of_session("s", "2"), of_session("s", "3")]).await;
    let seqs: Vec<_> = inbox_of(&fixture, "s").await.iter().map(|row| row.seq).collect();
    process(&fixture, &seqs[..1]).await;
    fixture.age(Table::Inbox, Duration::from_secs(100)).await;
    let bodies = distributed_events::storage::Retention::InboxBodies {
        older_than: Duration::from_secs(50),
        limit: 10,
    };
    assert_eq!(F::DB::purge(&mut *fixture.conn().await, &bodies).await.unwrap(), 1);
    process(&fixture, &seqs[1..2]).await;
    let mut conn = fixture.conn().await;
    assert_eq!(F::DB::replay(&mut *conn, &seqs).await.unwrap(), 1, "one has no body, one is pending");
    assert_eq!(F::DB::replay(&mut *conn, &[]).await.unwrap(), 0);
    drop(conn);
    let rows = inbox_of(&fixture, "s").await;
    assert_eq!(texts(&rows), ["2", "3"]);
    assert_eq!((rows[0].attempts, rows[0].due_in), (0, Duration::ZERO));
    assert_eq!(process(&fixture, &seqs[1..2]).await, 1);
    assert_eq!(
        fixture.number(&format!("SELECT count(*) FROM inbox WHERE subscription = '{SUBSCRIPTION}'")).await,
        3
    );
}

/// What a team's own tool runs makes the tables that the library would, and knows for its own.
pub async fn printed_sql_makes_the_tables<F: Fixture>() {
    let fixture = F::empty().await;
    fixture.execute(&F::DB::migration_sql()).await;
    F::DB::check(&mut *fixture.conn().await).await.unwrap();
    F::DB::migrate(fixture.pool()).await.unwrap();
    publish(&fixture, &events(1)).await;
    ingest(&fixture, &[incoming("1")]).await;
    assert_eq!(fixture.number("SELECT count(*) FROM distributed_events_migrations").await, 1);
}

/// What something else has written to the tables is listed as what it is, beside all others, which can be dealt with.
pub async fn a_row_that_cannot_be_read_hides_no_other<F: Fixture>() {
    let fixture = F::fresh().await;
    let published = events(3);
    publish(&fixture, &published).await;
    let ids: Vec<_> = published.iter().map(|event| event.envelope.id).collect();
    for id in &ids {
        kill(&fixture, *id, "too big").await;
    }
    let filter = RowFilter::new(RowState::Dead, LONG_AGO);
    let seq = list(&fixture, Table::Outbox, &filter).await[1].seq;
    let strange = "event_version = -1, attempts = -2, headers = 'no JSON'";
    fixture.execute(&format!("UPDATE outbox SET {strange} WHERE seq = {seq}")).await;
    let rows = list(&fixture, Table::Outbox, &filter).await;
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    assert_eq!((rows[0].trouble(Table::Outbox), rows[2].trouble(Table::Outbox)), (None, None));
    let told = rows[1].trouble(Table::Outbox).unwrap();
    assert!(told.contains("event_version: -1 is not between 0 and 4294967295"), "{told}");
    assert!(told.ends_with(&format!("mend it by SQL, or delete it: table outbox, seq {seq}")), "{told}");
    assert_eq!((rows[1].known_id(), rows[1].error.as_deref()), (Some(ids[1]), Some("too big")));
    let dead =
        admin::dead_rows(fixture.pool(), Table::Outbox, &admin::DeadRowFilter::default()).await.unwrap();
    assert_eq!(dead.iter().map(|row| row.unreadable.is_some()).collect::<Vec<_>>(), [false, true, false]);

    let whole = admin::outbox_row(fixture.pool(), ids[1]).await.unwrap().unwrap();
    assert_eq!((whole.headers.as_str(), whole.data.as_deref()), ("no JSON", Some(b"1".as_slice())));
    assert!(whole.summary.unreadable.unwrap().contains("headers: no JSON object of texts"));
    let chain = admin::chain(fixture.pool(), ids[1]).await.unwrap().unwrap();
    assert_eq!(chain.links.len(), 1);
    let others = [rows[0].seq, rows[2].seq];
    assert_eq!(admin::requeue(fixture.pool(), Table::Outbox, &others, Duration::ZERO).await.unwrap(), 2);
    assert_eq!(admin::discard(fixture.pool(), Table::Outbox, &[seq]).await.unwrap(), 1);

    let received = [of_session("s", "1"), of_session("s", "2")];
    ingest(&fixture, &received).await;
    fixture.execute("UPDATE inbox SET event_version = 4294967296 WHERE session_id = 's'").await;
    let rows = list(&fixture, Table::Inbox, &RowFilter::new(RowState::Pending, LONG_AGO)).await;
    assert_eq!(rows.iter().map(|row| row.unreadable.is_some()).collect::<Vec<_>>(), [true, true]);
    let whole = admin::inbox_rows(fixture.pool(), received[1].id).await.unwrap();
    assert!(whole[0].summary.trouble(Table::Inbox).unwrap().contains("event_version: 4294967296"));
}
