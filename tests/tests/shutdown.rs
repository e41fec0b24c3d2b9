//! Stopping, being dropped, and sharing a database with others that stop or die.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributed_events::{
    BusBuilder, DistributedEvent, HandlerSettings, IncidentKind, LocalBroker, RetryPolicy, Shutdown,
};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tests::eventually::{DEADLINE, eventually};
use tests::service::{Database, Running, quick, quick_inbox, quick_outbox};
use tokio::sync::Semaphore;

#[derive(Serialize, Deserialize)]
struct Begun {
    number: i64,
}

impl DistributedEvent for Begun {
    const NAME: &'static str = "shutdown.begun";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some((self.number % 7).to_string())
    }
}

#[derive(Serialize, Deserialize)]
struct Ended {
    number: i64,
}

impl DistributedEvent for Ended {
    const NAME: &'static str = "shutdown.ended";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        Some((self.number % 7).to_string())
    }
}

async fn write(tx: &mut Transaction<'_, Sqlite>, value: String) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO effects (value) VALUES (?)").bind(value).execute(&mut **tx).await?;
    Ok(())
}

async fn publish(pool: &SqlitePool, numbers: impl IntoIterator<Item = i64>) {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Begun::publish_all(&mut tx, numbers.into_iter().map(|number| Begun { number })).await.unwrap();
    tx.commit().await.unwrap();
}

/// A bus whose handlers answer each event with another, and write under a name of the bus's own.
fn answering(pool: &SqlitePool, name: &'static str) -> BusBuilder<Sqlite> {
    let second = Duration::from_secs(1);
    let inbox = quick_inbox().lease_time(second).handler_timeout(Duration::from_millis(200));
    quick(pool)
        .inbox(inbox.retry(RetryPolicy::default().initial(Duration::from_millis(5))))
        .outbox(quick_outbox().lease_time(second))
        .broker(LocalBroker::new())
        .on(HandlerSettings::new("begun"), move |event: Begun, tx, _context| {
            Box::pin(async move {
                write(tx, format!("begun {} {name}", event.number)).await?;
                Ended { number: event.number }.publish(tx).await?;
                Ok(())
            })
        })
        .on(HandlerSettings::new("ended"), move |event: Ended, tx, _context| {
            Box::pin(async move { Ok(write(tx, format!("ended {} {name}", event.number)).await?) })
        })
}

/// What a bus has written: the kind, the number, and the bus.
async fn effects(database: &Database) -> Vec<(String, i64, String)> {
    let split = |line: &String| {
        let parts: Vec<_> = line.split(' ').collect();
        (parts[0].to_owned(), parts[1].parse().unwrap(), parts[2].to_owned())
    };
    database.effects().await.iter().map(split).collect()
}

/// Each number once, and in order within its session.
fn assert_each_once(effects: &[(String, i64, String)], count: i64) {
    for kind in ["begun", "ended"] {
        for session in 0..7 {
            let seen: Vec<_> = effects
                .iter()
                .filter(|(found, number, _)| found == kind && number % 7 == session)
                .map(|(_, number, _)| *number)
                .collect();
            let expected: Vec<_> = (0..count).filter(|number| number % 7 == session).collect();
            assert_eq!(seen, expected, "{kind}, session {session}");
        }
    }
}

async fn assert_nothing_is_held(database: &Database) {
    let held = "SELECT COUNT(*) FROM distributed_events_leases WHERE owner IS NOT NULL OR unclean <> 0";
    assert_eq!(database.number(held).await, 0, "leases are given back");
    let live = "SELECT COUNT(*) FROM distributed_events_instances WHERE until > 1";
    assert_eq!(database.number(live).await, 0);
}

/// Lets the time pass after which the dead are known to be dead.
async fn expire(database: &Database) {
    let sql =
        "UPDATE distributed_events_leases SET until = 1; UPDATE distributed_events_instances SET until = 1";
    sqlx::raw_sql(sql).execute(&database.pool).await.unwrap();
}

/// A handler that waits for a permit, and says that it has begun.
fn waiting(database: &Database) -> (BusBuilder<Sqlite>, Arc<Semaphore>, Arc<AtomicBool>) {
    let (permits, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let (waits, begins) = (Arc::clone(&permits), Arc::clone(&begun));
    let builder = quick(&database.pool).broker(LocalBroker::new()).on(
        HandlerSettings::new("begun"),
        move |event: Begun, tx, _context| {
            let (waits, begins) = (Arc::clone(&waits), Arc::clone(&begins));
            Box::pin(async move {
                write(tx, format!("begun {} here", event.number)).await?;
                begins.store(true, Ordering::Relaxed);
                waits.acquire().await?.forget();
                Ok(())
            })
        },
    );
    (builder, permits, begun)
}

#[tokio::test]
async fn a_graceful_stop_finishes_what_is_under_way_and_takes_nothing_more() {
    let database = Database::new().await;
    let (builder, permits, begun) = waiting(&database);
    publish(&database.pool, [0, 7]).await;
    let (stop, mut stopped) = Shutdown::new();
    let bus = builder.build().unwrap();
    let run = tokio::spawn(async move { bus.run_until(async move { stopped.stopped().await }).await });
    eventually("the first has begun", || async { begun.load(Ordering::Relaxed) }, |begun| *begun).await;
    stop.stop();
    stop.stop();
    // It has heard of the stop once nobody waits for the signal but it; the handler goes on all the same.
    tokio::task::yield_now().await;
    assert!(!run.is_finished() && database.effects().await.is_empty());
    permits.add_permits(2);
    run.await.unwrap().unwrap();
    assert_eq!(database.effects().await, ["begun 0 here"]);
    let states =
        "SELECT COUNT(*) FROM inbox WHERE status = 'pending' AND attempts = 0 AND last_error IS NULL";
    assert_eq!(database.number(states).await, 1, "the second is left for the next start");
    assert_nothing_is_held(&database).await;
}

#[tokio::test]
async fn what_is_not_finished_by_the_deadline_is_rolled_back_and_handled_by_the_next_start() {
    let database = Database::new().await;
    let (builder, _permits, begun) = waiting(&database);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let bus = builder
        .shutdown_deadline(Duration::from_millis(50))
        .on_incident(move |incident| tells.lock().unwrap().push((incident.kind, incident.message.clone())))
        .build()
        .unwrap();
    publish(&database.pool, [0]).await;
    let running = Running::start(bus);
    eventually("it has begun", || async { begun.load(Ordering::Relaxed) }, |begun| *begun).await;
    running.stop().await.unwrap();
    let deadline =
        |(kind, text): &(IncidentKind, String)| *kind == IncidentKind::Warning && text.contains("deadline");
    assert!(told.lock().unwrap().iter().any(deadline));
    assert_eq!(
        database.number("SELECT COUNT(*) FROM inbox WHERE status = 'pending' AND attempts = 0").await,
        1
    );
    assert!(database.effects().await.is_empty());

    expire(&database).await;
    let (builder, permits, _begun) = waiting(&database);
    permits.add_permits(1);
    let running = Running::start(builder.build().unwrap());
    eventually("it is handled", || database.effects(), |effects| effects == &["begun 0 here"]).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_bus_can_be_run_again() {
    let database = Database::new().await;
    let bus = answering(&database.pool, "a").build().unwrap();
    for round in 0..3 {
        publish(&database.pool, [round]).await;
        let done = async {
            let count = usize::try_from(round + 1).unwrap() * 2;
            eventually("it is handled", || effects(&database), |effects| effects.len() == count).await;
        };
        bus.run_until(done).await.unwrap();
        assert_nothing_is_held(&database).await;
    }
    assert_each_once(&effects(&database).await, 3);
    assert_eq!(bus.stats().processed, 6);
}

#[tokio::test]
async fn dropped_at_any_await_it_loses_and_doubles_nothing() {
    let database = Database::new().await;
    let processed = "SELECT COUNT(*) FROM inbox WHERE status = 'processed'";
    let mut count = 0;
    let mut longest = 40_000;
    for round in 0..80_u64 {
        // On a busy machine nothing gets done in the time that is enough on an idle one.
        if round % 10 == 9 && database.number(processed).await == 0 {
            longest *= 2;
        }
        let running = Running::start(answering(&database.pool, "a").build().unwrap());
        publish(&database.pool, count..count + 5).await;
        count += 5;
        // From before the first await to well after the last.
        let time = Duration::from_micros(round * round * longest / 3077 % longest);
        tokio::time::sleep(time).await;
        running.kill().await;
        expire(&database).await;
    }
    // Cut off often enough, and not always too early: otherwise this shows nothing.
    let done = database.number(processed).await;
    assert!(done > 0 && done < 2 * count, "{done} of {}", 2 * count);
    let running = Running::start(answering(&database.pool, "a").build().unwrap());
    let whole = usize::try_from(2 * count).unwrap();
    eventually("all are handled", || effects(&database), |effects| effects.len() >= whole).await;
    running.stop().await.unwrap();
    assert_each_once(&effects(&database).await, count);
    assert_nothing_is_held(&database).await;
    let open = "SELECT (SELECT COUNT(*) FROM inbox WHERE status <> 'processed') \
        + (SELECT COUNT(*) FROM outbox WHERE status <> 'sent')";
    assert_eq!(database.number(open).await, 0);
}

#[tokio::test]
async fn two_buses_on_one_database_share_the_work_and_each_event_is_handled_once() {
    let database = Database::new().await;
    let first = Running::start(answering(&database.pool, "first").build().unwrap());
    let second = Running::start(answering(&database.pool, "second").build().unwrap());
    let shared = "SELECT min(held) FROM (SELECT COUNT(*) AS held FROM distributed_events_leases \
        WHERE name LIKE 'inbox:begun:%' GROUP BY owner) HAVING COUNT(*) >= 2";
    let shares =
        || async { sqlx::query_scalar::<_, i64>(shared).fetch_optional(&database.pool).await.unwrap() };
    eventually("the shards are shared", shares, |share| *share >= Some(16)).await;
    let mut count = 0;
    let both = || async {
        let effects = effects(&database).await;
        effects.iter().map(|(_, _, name)| name.clone()).collect::<BTreeSet<_>>()
    };
    // Sessions are seven, so it may take a few events until both have one.
    while both().await.len() < 2 {
        assert!(count < 10_000);
        publish(&database.pool, count..count + 20).await;
        count += 20;
        let whole = usize::try_from(2 * count).unwrap();
        eventually("all are handled", || effects(&database), |effects| effects.len() >= whole).await;
    }
    first.stop().await.unwrap();
    publish(&database.pool, count..count + 20).await;
    count += 20;
    let whole = usize::try_from(2 * count).unwrap();
    eventually("one does all", || effects(&database), |effects| effects.len() >= whole).await;
    second.stop().await.unwrap();
    assert_each_once(&effects(&database).await, count);
    assert_nothing_is_held(&database).await;
}

#[tokio::test]
async fn when_one_of_two_buses_dies_the_other_takes_over_when_its_leases_run_out() {
    let database = Database::new().await;
    let first = Running::start(answering(&database.pool, "first").build().unwrap());
    publish(&database.pool, 0..20).await;
    eventually("the first works", || effects(&database), |effects| effects.len() >= 10).await;
    let second = Running::start(answering(&database.pool, "second").build().unwrap());
    publish(&database.pool, 20..40).await;
    first.kill().await;
    publish(&database.pool, 40..60).await;
    eventually("all are handled", || effects(&database), |effects| effects.len() >= 120).await;
    second.stop().await.unwrap();
    let effects = effects(&database).await;
    assert_each_once(&effects, 60);
    assert!(effects.iter().any(|(_, _, name)| name == "second"));
}

/// As when another instance, or the service itself, writes a lot while the bus starts.
#[tokio::test]
async fn a_bus_that_starts_while_another_writes_waits_for_its_turn() {
    let database = Database::new().await;
    let lock = database.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let bus = quick(&database.pool)
        .broker(LocalBroker::new())
        .busy_timeout(Duration::from_millis(600))
        .on_incident(move |incident| {
            if incident.source == "start" {
                let _gone = tell.send(incident.kind);
            }
        })
        .build()
        .unwrap();
    let running = Running::start(bus);
    let kind = tokio::time::timeout(DEADLINE, told.recv()).await.unwrap();
    assert_eq!(kind, Some(IncidentKind::DatabaseTrouble));
    lock.rollback().await.unwrap();
    let leads = || database.number("SELECT count(*) FROM distributed_events_leases WHERE owner IS NOT NULL");
    eventually("it runs", leads, |leads| *leads > 0).await;
    running.stop().await.unwrap();
}
