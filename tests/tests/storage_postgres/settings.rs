//! Opening, migrating and checking a database.

use std::time::Duration;

use distributed_events::storage::{AdminStorage, PoolSettings, SentRows, Storage, StorageError};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Postgres};
use tests::conformance::{Fixture, SUBSCRIPTION, event, inbox_of, ingest, of_session, pending, publish};
use tests::fixtures::PgDatabase;

/// A setting as a connection has it.
pub(crate) async fn setting(conn: &mut PgConnection, name: &str) -> String {
    let sql = format!("SELECT current_setting('{name}')");
    sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(conn).await.unwrap()
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    options.connect().await.unwrap()
}

/// Rule 22: additive changes run side by side, breaking ones say so.
#[tokio::test]
async fn newer_tables_are_refused_where_they_break() {
    let database = PgDatabase::<true>::fresh().await;
    let newer = |version: i64, compatible_from: i64| {
        format!(
            "INSERT INTO distributed_events_migrations (version, compatible_from, applied_at) VALUES ({version}, {compatible_from}, now())"
        )
    };
    let mut conn = database.conn().await;
    PgDatabase::<true>::run(&mut conn, &newer(2, 1)).await.unwrap();
    assert!(Postgres::check(&mut conn).await.unwrap().is_empty());
    Postgres::migrate(database.pool()).await.unwrap();
    PgDatabase::<true>::run(&mut conn, &newer(3, 2)).await.unwrap();
    PgDatabase::<true>::run(&mut conn, &newer(4, 1)).await.unwrap();
    let error = Postgres::check(&mut conn).await.unwrap_err();
    assert!(matches!(error, StorageError::NewerTables { found: 4, known: 1 }), "{error:?}");
    PgDatabase::<true>::run(&mut conn, "DELETE FROM distributed_events_migrations").await.unwrap();
    let error = Postgres::check(&mut conn).await.unwrap_err();
    assert!(matches!(error, StorageError::MissingTables { .. }), "{error:?}");
}

/// The library's sessions are set as the promises need them, whatever the user's are.
#[tokio::test]
async fn the_library_pool_has_its_own_settings() {
    let database = PgDatabase::<true>::fresh().await;
    let options = database.options().options([("default_transaction_isolation", "serializable")]);
    let users = database.pool_with(options).await;
    let pool = Postgres::open(&users, &PoolSettings::new(2, Duration::from_millis(1_234))).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(setting(&mut conn, "lock_timeout").await, "1234ms");
    assert_eq!(setting(&mut conn, "transaction_isolation").await, "read committed");
    assert_eq!(setting(&mut users.acquire().await.unwrap(), "transaction_isolation").await, "serializable");
}

/// Writes down under which settings each table is written.
const SPY: &str = "
    CREATE TABLE seen (what text, isolation text, synchronous_commit text, lock_timeout text);
    CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO seen VALUES (TG_TABLE_NAME || ' ' || TG_OP, current_setting('transaction_isolation'),
            current_setting('synchronous_commit'), current_setting('lock_timeout'));
        RETURN NULL;
    END $$;
    CREATE TRIGGER spy AFTER INSERT OR UPDATE ON inbox FOR EACH STATEMENT EXECUTE FUNCTION spy();
    CREATE TRIGGER spy AFTER INSERT OR UPDATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION spy();";

/// Rules 17 and 25: ingest and handling are durable and only marks of sending are not, whatever the server's default is.
#[tokio::test]
async fn every_transaction_has_the_settings_that_it_needs() {
    for (default, durable) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        let database = PgDatabase::<false>::fresh().await;
        database.execute(SPY).await;
        let options = database
            .options()
            .options([("default_transaction_isolation", "serializable"), ("synchronous_commit", default)]);
        let mut conn = connect(&options).await;
        Postgres::ingest(&mut conn, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap();
        let seq = inbox_of(&database, "s").await[0].seq;
        let mut tx = Postgres::begin_guarded(&mut conn, Duration::from_secs(5)).await.unwrap();
        Postgres::mark_processed(&mut tx, &[seq]).await.unwrap();
        tx.commit().await.unwrap();
        let published = event("1");
        publish(&database, std::slice::from_ref(&published)).await;
        let ids = [published.envelope.id];
        Postgres::mark_sent(&mut conn, &ids, SentRows::Keep).await.unwrap();
        assert_eq!(setting(&mut conn, "synchronous_commit").await, default, "the session is as it was");
        assert_eq!(setting(&mut conn, "lock_timeout").await, "0");
        let seen: Vec<(String, String, String, String)> =
            sqlx::query_as("SELECT what, isolation, synchronous_commit, lock_timeout FROM seen WHERE what <> 'outbox INSERT'")
                .fetch_all(database.pool())
                .await
                .unwrap();
        let row = |what: &str, commit: &str, wait: &str| {
            (what.to_owned(), "read committed".to_owned(), commit.to_owned(), wait.to_owned())
        };
        let expected = [
            row("inbox INSERT", durable, "2s"),
            // As the handler's statements will find it: the trigger runs when the mark is done.
            row("inbox UPDATE", durable, "5100ms"),
            row("outbox UPDATE", "off", "2s"),
        ];
        assert_eq!(seen, expected, "synchronous_commit = {default}");
        let warnings = Postgres::check(&mut conn).await.unwrap();
        let warned = warnings.iter().any(|text| text.contains("synchronous_commit = on"));
        assert_eq!(
            (warned, warnings.len()),
            (default == "off", usize::from(default == "off")),
            "{warnings:?}"
        );
    }
}

/// Each is said with its way out, before anything depends on it.
#[tokio::test]
async fn unsafe_databases_are_refused() {
    type Plain = PgDatabase<true>;
    let unsafe_because = |error: StorageError, words: &[&str]| {
        let StorageError::Unsafe(text) = error else { panic!("{error:?}") };
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    let words = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'";
    let ascii = Plain::created_with(words).await;
    let error = Postgres::check(&mut *ascii.conn().await).await.unwrap_err();
    unsafe_because(error, &[ascii.name(), "SQL_ASCII", "ENCODING 'UTF8'"]);

    let database = Plain::fresh().await;
    let mut conn = connect(&database.options().options([("default_transaction_read_only", "on")])).await;
    let error = Postgres::check(&mut conn).await.unwrap_err();
    unsafe_because(error, &[database.name(), "default_transaction_read_only = off"]);

    for (change, words) in [
        ("ALTER TABLE inbox ALTER seq SET CACHE 20", ["inbox", "CACHE 20"]),
        ("ALTER TABLE outbox SET UNLOGGED", ["outbox", "unlogged"]),
        (
            "CREATE COLLATION alike (provider = icu, locale = 'und-u-ks-level1', deterministic = false); \
             ALTER TABLE distributed_events_leases ALTER name TYPE text COLLATE alike",
            ["name of distributed_events_leases", "collation"],
        ),
    ] {
        let database = Plain::fresh().await;
        let mut conn = database.conn().await;
        assert!(Postgres::check(&mut conn).await.unwrap().is_empty());
        database.execute(change).await;
        unsafe_because(Postgres::check(&mut conn).await.unwrap_err(), &words);
    }
}

/// Other languages publish with the columns of the specification and nothing else.
#[tokio::test]
async fn plain_sql_may_publish() {
    let database = PgDatabase::<true>::fresh().await;
    database
        .execute("INSERT INTO outbox (id, event_type, event_data) VALUES (gen_random_uuid(), 'a', '{}')")
        .await;
    let rows = pending(&database).await;
    assert_eq!((rows.len(), rows[0].envelope.version), (1, 1));
    assert!(rows[0].envelope.headers.is_empty());
    assert!(rows[0].envelope.created_at > std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
}

/// A start-up that holds its only connection.
#[tokio::test]
async fn a_pool_that_is_used_up_is_migrated() {
    let database = PgDatabase::<true>::empty().await;
    let users = database.another_pool().await;
    let _held = users.acquire().await.unwrap();
    Postgres::migrate(&users).await.unwrap();
    assert!(pending(&database).await.is_empty());
}

/// Two services in two schemas of one database have two outboxes and two names.
#[tokio::test]
async fn schemas_are_apart() {
    let database = PgDatabase::<true>::empty().await;
    database.execute("CREATE SCHEMA one; CREATE SCHEMA two").await;
    let mut pools = Vec::new();
    for schema in ["one", "two"] {
        pools.push(database.pool_with(database.options().options([("search_path", schema)])).await);
    }
    Postgres::migrate(&pools[0]).await.unwrap();
    let open = async |n: usize| {
        let settings = PoolSettings::new(1, Duration::from_secs(5));
        Postgres::open(&pools[n], &settings).await.unwrap().acquire().await.unwrap()
    };
    Postgres::check(&mut *open(0).await).await.unwrap();
    let error = Postgres::check(&mut *open(1).await).await.unwrap_err();
    assert!(
        matches!(&error, StorageError::MissingTables { database } if database.contains("two")),
        "{error:?}"
    );
    Postgres::migrate(&pools[1]).await.unwrap();
    Postgres::ingest(&mut *open(0).await, SUBSCRIPTION, &[of_session("s", "1")]).await.unwrap();
    assert!(Postgres::count_inbox(&mut *open(1).await).await.unwrap().subscriptions.is_empty());
    assert_ne!(Postgres::identity(&pools[0]), Postgres::identity(&pools[1]));
}

/// Whatever the time zone, and however far away.
#[tokio::test]
async fn instants_come_back_to_the_millisecond() {
    let database = PgDatabase::<true>::fresh().await;
    database.execute(&format!("ALTER DATABASE {} SET timezone = 'Asia/Kathmandu'", database.name())).await;
    let mut events = Vec::new();
    for (n, millis) in
        [0, 1, 999, 1_700_000_000_123, 4_102_444_800_457, 253_402_300_799_999].into_iter().enumerate()
    {
        let mut event = of_session("s", &n.to_string());
        event.created_at = Some(std::time::UNIX_EPOCH + Duration::from_millis(millis));
        event.expires_at = std::time::UNIX_EPOCH.checked_sub(Duration::from_millis(millis / 100));
        events.push(event);
    }
    ingest(&database, &events).await;
    for (row, event) in inbox_of(&database, "s").await.into_iter().zip(&events) {
        assert_eq!((row.event.created_at, row.event.expires_at), (event.created_at, event.expires_at));
    }
    // Beyond what the database knows, the nearest that it does.
    let mut extreme = of_session("t", "extreme");
    extreme.created_at = std::time::UNIX_EPOCH.checked_add(Duration::from_secs(1 << 60));
    extreme.expires_at = std::time::UNIX_EPOCH.checked_sub(Duration::from_secs(1 << 60));
    ingest(&database, &[extreme]).await;
    let row = inbox_of(&database, "t").await.remove(0);
    assert!(row.expired && row.age == Some(Duration::ZERO));
}
