//! Looking at rows and mending them.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use distributed_events::EventId;
use serde_json::Value;

use crate::program::Program;
use crate::rows::Rows;

fn ids(page: &Value) -> Vec<&str> {
    page["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

fn texts(ids: &[EventId]) -> Vec<String> {
    ids.iter().map(EventId::to_string).collect()
}

#[tokio::test]
async fn status_tells_depths_rates_and_holders() {
    let program = Program::new();
    let empty = program.ok(&["status"]);
    assert!(empty.contains("no lease was ever taken"), "{empty}");
    let rows = Rows::of(&program).await;
    let (first, second) =
        (rows.publish("order-placed", None).await, rows.publish("order-placed", None).await);
    rows.sent(rows.publish("order-placed", None).await).await;
    rows.kill(first, "too big").await;
    rows.publish_later("reminder", Duration::from_secs(3_600)).await;
    let failed = rows.receive("billing", b"{}", None).await;
    rows.receive("billing", b"{}", Some("no card")).await;
    rows.failed_once(failed, "timeout").await;
    rows.run("UPDATE outbox SET created_at = created_at - 90000 WHERE status = 'pending'").await;
    let _ = second;

    let status = program.json(&["status"]);
    let lane = &status["outbox"]["lanes"]["default"];
    assert_eq!((lane["pending"].as_u64(), lane["dead"].as_u64()), (Some(2), Some(1)), "{status}");
    let oldest = lane["oldest_pending_ms"].as_u64().unwrap();
    assert!((90_000..150_000).contains(&oldest), "{oldest}");
    assert_eq!(status["outbox"]["last_minute"]["settled"], 1);
    assert!(status["outbox"]["last_minute"]["mean_lag_ms"].is_u64(), "{status}");
    assert_eq!(status["inbox"]["subscriptions"]["billing"]["dead"], 1);
    assert_eq!(status["inbox"]["last_minute"]["settled"], 0);
    let lease = &status["leases"][0];
    assert_eq!(lease["name"], "inbox:billing:07");
    assert!(lease["owner"].is_string() && lease["remaining_ms"].as_u64().unwrap() <= 60_000, "{lease}");

    let people = program.ok(&["status"]);
    assert!(
        people.contains("\nOUTBOX LANE  PENDING  DEAD  OLDEST PENDING\ndefault      2        1     1 min 3"),
        "{people}"
    );
    assert!(people.contains("\nsent in the last minute: 1; the last of them had waited"), "{people}");
    assert!(people.contains("\ninbox:billing  1 of 1"), "{people}");
}

#[test]
fn status_watches_until_it_is_stopped() {
    let program = Program::new();
    let mut child = program
        .command(&["status", "--json", "--watch", "--interval", "100ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<_> =
        BufReader::new(child.stdout.take().unwrap()).lines().take(3).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for line in &lines {
        assert!(serde_json::from_str::<Value>(line).unwrap()["outbox"].is_object(), "{line}");
    }
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn rows_are_listed_by_what_is_known_of_them() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let a = rows.publish("order-placed", Some("order-1")).await;
    let b = rows.publish("order-placed", Some("order-2")).await;
    let c = rows.publish("order-changed", Some("order-1")).await;
    let later = rows.publish_later("reminder", Duration::from_secs(3_600)).await;
    for (id, reason) in [(a, "message too big"), (b, "encoding")] {
        rows.kill(id, reason).await;
    }
    let sent = rows.publish("order-placed", None).await;
    rows.sent(sent).await;
    let list = |arguments: &[&str]| program.json(&[&["outbox", "list"], arguments].concat());
    assert_eq!(ids(&list(&[])), texts(&[a, b]), "dead ones, as they stand in the table");
    assert_eq!(ids(&list(&["--error", "too big"])), texts(&[a]));
    assert_eq!(ids(&list(&["--session", "order-2"])), texts(&[b]));
    assert_eq!(ids(&list(&["--event", "order-changed"])), Vec::<String>::new());
    assert_eq!(ids(&list(&["--state", "pending", "--event", "order-changed"])), texts(&[c]));
    assert_eq!(ids(&list(&["--state", "delayed"])), texts(&[later]));
    assert_eq!(ids(&list(&["--state", "sent"])), texts(&[sent]));
    assert_eq!(ids(&list(&["--lane", "critical"])), Vec::<String>::new());
    rows.run("UPDATE outbox SET created_at = created_at - 7200000 WHERE last_error = 'encoding'").await;
    assert_eq!(ids(&list(&["--since", "1h"])), texts(&[a]));
    assert_eq!(ids(&list(&["--until", "1h"])), texts(&[b]));
    // Whoever says it: an hour ago is the same everywhere.
    for hours in [-5_i64, 0, 2] {
        let zone = format!("{}{:02}:00", if hours < 0 { '-' } else { '+' }, hours.abs());
        // What a clock shows there, of the hour before this one.
        let there =
            rows.text(&format!("SELECT strftime('%Y-%m-%dT%H:%M:%S', 'now', '{} hours')", hours - 1)).await
                + &zone;
        assert_eq!(ids(&list(&["--since", &there])), texts(&[a]), "{there}");
        assert_eq!(ids(&list(&["--until", &there])), texts(&[b]), "{there}");
    }
    rows.run("UPDATE outbox SET processed_at = processed_at - 7200000 WHERE status = 'sent'").await;
    assert_eq!(ids(&list(&["--state", "sent"])), Vec::<String>::new(), "of the last hour");
    assert_eq!(ids(&list(&["--state", "sent", "--since", "3h"])), texts(&[sent]));

    let error = program.fails(2, &["outbox", "list", "--state", "processed"]);
    assert!(error.contains("--state sent"), "{error}");
    let error = program.fails(2, &["outbox", "list", "--since", "yesterday"]);
    assert!(error.contains("2026-11-28T07:30:00Z") && error.contains("15m"), "{error}");
    let error = program.fails(2, &["outbox", "list", "--after", "there"]);
    assert!(error.contains("--after there"), "{error}");
}

#[tokio::test]
async fn lists_go_on_where_the_page_before_ended() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        let id = rows.receive("billing", b"{}", Some("no card")).await;
        expected.push(id.to_string());
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let mut arguments = vec!["inbox", "list", "--limit", "2"];
        let place: Option<String> = after.take();
        if let Some(place) = &place {
            arguments.extend(["--after", place]);
        }
        let page = program.json(&arguments);
        found.extend(ids(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(found, expected);
    let people = program.run(&["inbox", "list", "--limit", "2"]);
    assert!(people.output.starts_with("ID") && people.output.lines().count() == 3, "{}", people.output);
    assert!(people.error.starts_with("there may be more: --after '0:"), "{}", people.error);
}

#[tokio::test]
async fn a_row_is_shown_with_all_that_is_known() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let text =
        rows.receive("billing", "{\"größe\":1}".as_bytes(), Some("evil \x1b[31m error")).await.to_string();
    let people = program.ok(&["inbox", "show", &text]);
    assert!(people.contains("subscription   billing\n"), "{people}");
    assert!(
        people.contains("last error     evil \\u{1b}[31m error\n"),
        "a terminal is told nothing: {people}"
    );
    assert!(people.ends_with("\n\n{\"größe\":1}\n"), "{people}");
    assert!(!program.ok(&["inbox", "show", "--no-body", &text]).contains("größe"));
    let json = program.json(&["inbox", "show", &text]);
    assert_eq!(json[0]["body"], "{\"größe\":1}");
    assert_eq!(json[0]["session"], "order-1");

    let bytes = rows.receive("shipping", b"\xff\x00", None).await.to_string();
    let json = program.json(&["inbox", "show", &bytes]);
    assert_eq!((json[0]["body_base64"].as_str(), json[0]["state"].as_str()), (Some("/wA="), Some("pending")));
    assert!(program.ok(&["inbox", "show", &bytes]).contains("2 bytes that are no text"));

    let error = program.fails(3, &["outbox", "show", &text]);
    assert!(error.contains("the outbox has no event"), "{error}");
    program.fails(2, &["outbox", "show", "17"]);
}

#[tokio::test]
async fn dead_rows_are_requeued_after_a_yes() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let mut all = Vec::new();
    for n in 0..4 {
        let id = rows.publish(["order-placed", "order-changed"][n % 2], None).await;
        rows.kill(id, "too big").await;
        all.push(id.to_string());
    }
    let error = program.fails(2, &["outbox", "requeue"]);
    assert!(error.contains("--all"), "{error}");
    let error = program.fails(2, &["outbox", "requeue", "--event", "order-placed"]);
    assert!(error.contains("Requeue 2 rows?") && error.contains("--yes"), "{error}");
    let error = program.fails(2, &["outbox", "requeue", &all[0], "--event", "order-placed", "--yes"]);
    assert!(error.contains("not both"), "{error}");
    let dead = "SELECT count(*) FROM outbox WHERE status = 'dead'";
    assert_eq!(rows.number(dead).await, 4, "nothing was done");

    assert_eq!(program.ok(&["outbox", "requeue", "--event", "order-placed", "--yes"]), "requeued: 2 rows\n");
    assert_eq!(program.json(&["outbox", "requeue", &all[1], "--yes", "--delay", "1h"])["requeued"], 1);
    assert_eq!(ids(&program.json(&["outbox", "list", "--state", "delayed"])), [all[1].as_str()]);
    let missing = "00000000-0000-4000-8000-000000000000";
    let error = program.fails(3, &["outbox", "requeue", &all[0], &all[3], missing, "--yes"]);
    assert!(error.contains(&format!("{} is pending, not dead", all[0])), "{error}");
    assert!(error.contains(&format!("{missing} is not there")), "{error}");
    assert_eq!(rows.number(dead).await, 1, "one of them is dead, and nothing was done");
}

#[tokio::test]
async fn dead_rows_are_discarded_and_their_keys_stay() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let billing = rows.receive("billing", b"{}", Some("no card")).await.to_string();
    rows.receive("shipping", b"{}", Some("no card")).await;
    let error = program.fails(2, &["inbox", "discard", "--subscription", "billing"]);
    assert!(error.contains("Discard 1 row for good?"), "{error}");
    assert_eq!(program.ok(&["inbox", "discard", "--subscription", "billing", "--yes"]), "discarded: 1 row\n");
    assert_eq!(program.json(&["inbox", "show", &billing])[0]["state"], "discarded");
    assert_eq!(rows.number("SELECT count(*) FROM inbox WHERE status = 'dead'").await, 1);
    let outbox = rows.publish("order-placed", None).await;
    rows.kill(outbox, "too big").await;
    assert_eq!(program.json(&["outbox", "discard", &outbox.to_string(), "--yes"])["discarded"], 1);
    assert_eq!(rows.number("SELECT count(*) FROM outbox").await, 0);
}

#[tokio::test]
async fn processed_rows_are_replayed_for_one_subscription() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let mut done = Vec::new();
    for subscription in ["billing", "billing", "shipping"] {
        let id = rows.receive(subscription, b"{}", None).await;
        rows.processed(id).await;
        done.push(id.to_string());
    }
    let hex = done[1].replace('-', "");
    rows.run(&format!("UPDATE inbox SET event_data = NULL WHERE id = x'{hex}'")).await;
    program.fails(2, &["inbox", "replay", "--subscription", "billing", "--yes"]);
    let error = program.fails(3, &["inbox", "replay", "--subscription", "billing", &done[2], "--yes"]);
    assert!(error.contains("is not there"), "of another subscription: {error}");
    let replay = ["inbox", "replay", "--subscription", "billing", "--since", "1h"];
    let error = program.fails(2, &replay);
    assert!(error.contains("effects happen a second time"), "{error}");
    let said = program.run(&[&replay[..], &["--yes"]].concat());
    assert_eq!(said.output, "replayed: 1 row\n");
    assert_eq!(said.error, "1 row had no body any more, or had changed meanwhile\n");
    assert_eq!(program.json(&["inbox", "show", &done[0]])[0]["state"], "pending");
    assert_eq!(program.json(&["inbox", "show", &done[2]])[0]["state"], "processed");
}

#[tokio::test]
async fn purge_deletes_what_is_old_and_refuses_to_forget_keys_too_soon() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let (old, new) = (rows.publish("order-placed", None).await, rows.publish("order-placed", None).await);
    for id in [old, new] {
        rows.sent(id).await;
    }
    let received = rows.receive("billing", b"{}", None).await;
    rows.processed(received).await;
    let hex = old.as_uuid().simple();
    rows.run(&format!("UPDATE outbox SET processed_at = processed_at - 864000000 WHERE id = x'{hex}'")).await;
    rows.run("UPDATE inbox SET processed_at = processed_at - 864000000").await;
    let error = program.fails(2, &["purge", "--keep-keys", "8d", "--yes"]);
    assert!(error.contains("handled twice") && error.contains("--force"), "{error}");
    assert!(program.fails(2, &["purge"]).contains("--yes"));
    let purged = program.json(&["purge", "--yes"]);
    assert_eq!(purged, serde_json::json!({ "sent": 1, "bodies": 1, "keys": 0 }));
    assert_eq!(program.json(&["purge", "--keep-keys", "8d", "--yes", "--force"])["keys"], 1);
    assert_eq!(
        rows.number("SELECT (SELECT count(*) FROM outbox) * 10 + (SELECT count(*) FROM inbox)").await,
        10
    );
}
