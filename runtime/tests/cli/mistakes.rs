//! What is said by mistake, or stands in the tables by another's, does no harm.

use std::io::Read as _;
use std::process::Stdio;

use distributed_events::EventId;

use crate::program::{Program, said};
use crate::rows::Rows;

async fn dead(program: &Program) -> (Rows, EventId) {
    let rows = Rows::of(program).await;
    let id = rows.publish("order-placed", None).await;
    rows.kill(id, "too big").await;
    (rows, id)
}

#[tokio::test]
async fn an_empty_filter_is_not_every_row() {
    let program = Program::new();
    let (rows, _) = dead(&program).await;
    for filter in ["--error", "--event", "--session", "--lane"] {
        let error = program.fails(2, &["outbox", "discard", filter, "", "--yes"]);
        assert!(error.contains("a value is required"), "{error}");
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&rows.pool).await.unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn ids_and_filters_are_not_mixed() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let id = rows.receive("billing", b"{}", None).await;
    rows.run("UPDATE inbox SET status = 'processed', processed_at = received_at").await;
    let id = id.to_string();
    let replay = ["inbox", "replay", &id, "--subscription", "billing", "--yes"];
    let error = program.fails(2, &[&replay[..], &["--session", "another"]].concat());
    assert!(error.contains("ids or filters, not both"), "{error}");
    assert_eq!(program.ok(&replay), "replayed: 1 row\n");
}

#[test]
fn a_secret_in_the_place_of_its_name_is_not_repeated() {
    let program = Program::new();
    for (key, value) in [
        ("url_env", "postgres://shop:s3cret@db/shop"),
        ("url_file", "postgres://shop:s3cret@db/shop"),
        ("url_env", "Endpoint=sb://x/;SharedAccessKey=s3cret="),
    ] {
        let config = program.write("c.toml", &format!("[database]\n{key} = \"{value}\"\n"));
        let error = program.fails(2, &["--config", &config, "status"]);
        assert!(error.contains("c.toml:2") && !error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    let program = Program::new();
    let (rows, _) = dead(&program).await;
    rows.run(
        "INSERT INTO distributed_events_migrations (version, compatible_from, applied_at) VALUES (99, 99, 0)",
    )
    .await;
    for command in
        [&["outbox", "discard", "--all", "--yes"][..], &["status"], &["purge", "--yes"], &["migrate"]]
    {
        let error = program.fails(1, command);
        assert!(error.contains("99"), "{command:?}: {error}");
    }
}

#[tokio::test]
async fn times_that_nobody_could_mean_are_shown_or_refused() {
    let program = Program::new();
    let (rows, id) = dead(&program).await;
    program.fails(2, &["outbox", "requeue", "--all", "--delay", "10000y", "--yes"]);
    for (time, written) in [("-5000", "-5000"), ("400000000000000", "5000")] {
        let sql =
            format!("UPDATE outbox SET created_at = {written}, processed_at = {time}, expires_at = {time}");
        rows.run(&sql).await;
        assert!(program.ok(&["outbox", "list"]).contains(&id.to_string()), "{time}");
        assert!(program.ok(&["outbox", "show", &id.to_string()]).contains("too big"), "{time}");
    }
}

#[tokio::test]
async fn who_has_read_enough_is_no_failure() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    for _ in 0..100 {
        rows.kill(rows.publish("order-placed", None).await, &"x".repeat(2_000)).await;
    }
    let mut list = program.command(&["--json", "outbox", "list", "--limit", "100"]);
    let mut child = list.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 1]).unwrap();
    drop(output);
    let ended = said(&child.wait_with_output().unwrap());
    assert_eq!((ended.status, ended.error.as_str()), (0, ""));
}

#[test]
fn nothing_to_check_is_no_success() {
    let program = Program::new();
    let empty = program.write("topology.json", "[]");
    let error = program.fails(2, &["topology", "--from", &empty, "--check"]);
    assert!(error.contains("no topology"), "{error}");
}

#[tokio::test]
async fn what_was_sent_before_a_time_is_looked_for_before_it() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let id = rows.publish("order-placed", None).await;
    rows.sent(id).await;
    rows.run("UPDATE outbox SET processed_at = processed_at - 9000000").await;
    let list = program.ok(&["outbox", "list", "--state", "sent", "--until", "2h"]);
    assert!(list.contains(&id.to_string()), "{list}");
}

#[tokio::test]
async fn a_row_that_is_no_event_is_listed_beside_the_others() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let id = rows.publish("order-placed", None).await;
        rows.kill(id, "too big").await;
        all.push(id.to_string());
    }
    rows.run(
        "UPDATE outbox SET id = 'not a UUID' WHERE seq = 2; UPDATE outbox SET headers = 'x' WHERE seq = 3",
    )
    .await;
    let people = program.ok(&["outbox", "list"]);
    let line = people.lines().find(|line| line.starts_with("(seq 2)")).unwrap();
    assert!(
        line.contains("can't be read: id: \"not a UUID\" is no UUID of 16 bytes; mend it by SQL"),
        "{line}"
    );
    assert!(people.contains(&all[0]) && people.contains(&all[2]), "{people}");
    let page = program.json(&["outbox", "list"]);
    assert!(page["rows"][1]["id"].is_null() && page["rows"][0]["unreadable"].is_null(), "{page}");
    assert!(page["rows"][1]["unreadable"].as_str().unwrap().contains("no UUID"), "{page}");
    let whole = program.ok(&["outbox", "show", &all[2]]);
    assert!(
        whole.contains("unreadable     this row can't be read: headers: no JSON object of texts"),
        "{whole}"
    );
    assert_eq!(program.ok(&["outbox", "requeue", &all[0], "--yes"]), "requeued: 1 row\n");
    assert_eq!(program.ok(&["outbox", "discard", "--all", "--yes"]), "discarded: 2 rows\n");
}
