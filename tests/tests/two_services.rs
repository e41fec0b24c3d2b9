//! Two services on two namespaces, a process each, as a newcomer runs them, and as `kill -9` leaves them.

use std::process::Command;

use tests::is_long;
use tests::programs::example;
use tests::two_services::{Chance, PROCESSES, TwoServices};

/// Whether a namespace has ever seen this, by what its emulator keeps.
fn has_seen(two: &TwoServices, namespace: &str, text: &str) -> bool {
    let files = std::fs::read_dir(two.data().join(namespace)).unwrap();
    let mut contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    contents.any(|content| content.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[tokio::test]
async fn a_first_run_ends_reconciled_and_shows_what_is_promised() {
    let two = TwoServices::new(60);
    let out = two.assert_reconciles("a first run");
    let row = |name: &str| -> Vec<String> {
        let line =
            out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}?\n{out}"));
        line[name.len()..].split_whitespace().map(str::to_owned).collect()
    };
    // Two orders have an expired card, and six are large.
    assert_eq!(row("published, delivered"), ["300", "64"]);
    assert_eq!(row("processed"), ["124", "238"]);
    assert_eq!(row("retried"), ["0", "3"]);
    assert_eq!(row("dead "), ["0", "2"]);
    assert!(!row("commit to handled: p50").is_empty());
    for line in [
        "sessions: 60 orders, placed, changed twice and confirmed; 58 charged what the last change said",
        "reminders: 60 came, 0 before their time",
        "critical lane: 6 alerts through the second namespace",
        "dead: ordering.order-confirmed of session 7: the card of order 7 has expired",
        "dead: ordering.order-confirmed of session 57: the card of order 57 has expired",
    ] {
        assert!(out.contains(line), "{line}?\n{out}");
    }
    two.assert_nobody_is_left().await;

    // And not by its word alone.
    assert!(has_seen(&two, "critical", "fraud-suspected") && !has_seen(&two, "default", "fraud-suspected"));
    assert!(has_seen(&two, "default", "order-placed") && !has_seen(&two, "critical", "order-placed"));
    let billing = two.database("billing.db").await;
    let sessions: Vec<(String, String)> =
        sqlx::query_as("SELECT session_id, event_type FROM inbox ORDER BY session_id, processed_at, seq")
            .fetch_all(&billing)
            .await
            .unwrap();
    for session in sessions.chunks(4) {
        let steps: Vec<&str> =
            session.iter().map(|(_, event)| event.trim_start_matches("ordering.order-")).collect();
        assert_eq!(steps, ["placed", "changed", "changed", "confirmed"], "session {}", session[0].0);
    }
}

#[test]
fn a_second_run_finds_everything_done_and_a_third_what_is_new() {
    let mut two = TwoServices::new(5);
    two.assert_reconciles("first");
    let again = two.assert_reconciles("second");
    assert!(again.contains("5 orders were known from an earlier run, 0 lines were skipped"), "{again}");
    two.order(5);
    two.write("not json\n\n{\"order_id\": 99}\n");
    let output = two.run();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("5 orders were known from an earlier run, 2 lines were skipped"), "{out}\n{err}");
    assert!(out.contains("sessions: 10 orders") && out.contains("reconciled: yes"), "{out}\n{err}");
    assert!(err.contains("line 11: not an order, skipped"), "{err}");
    assert!(err.contains("line 13: not an order, skipped: missing field `total_cents`"), "{err}");
}

#[test]
fn bad_arguments_say_what_is_wrong() {
    let run = |arguments: &[&str]| {
        let output = Command::new(example("two_services")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, why) in [
        (&["--inptu"] as &[&str], "unknown argument --inptu; Usage: two_services"),
        (&["--data"], "--data needs a value; Usage: two_services"),
        (&["--input", "/nowhere/orders"], "/nowhere/orders can't be read"),
        (&["--patience", "long"], "--patience: long is no number of seconds"),
    ] {
        let (status, err) = run(arguments);
        assert_eq!(status, Some(2), "{err}");
        assert!(err.contains(why), "{err}");
    }
    assert_eq!(run(&["--help"]).0, Some(0));
}

#[tokio::test]
async fn a_second_run_on_the_same_directory_is_refused_and_ctrl_c_stops_the_first_in_order() {
    let two = TwoServices::new(5);
    let first = two.start();
    let refused = two.run();
    let err = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{err}");
    assert!(err.contains("another run uses"), "{err}");

    first.signal("INT", "launcher");
    assert_eq!(first.wait().code(), Some(1));
    two.assert_nobody_is_left().await;
    two.assert_reconciles("after Ctrl-C");
}

#[tokio::test]
async fn what_is_left_when_nothing_moves_is_named() {
    let two = TwoServices::new(1);
    two.assert_reconciles("first");
    two.sql(
        "billing.db",
        "UPDATE inbox SET status = 'pending', next_attempt_at = unixepoch() * 1000 + 3600000
         WHERE event_type = 'ordering.order-confirmed'",
    )
    .await;
    let output = two.command().args(["--patience", "1"]).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("still\n  1 ordering.order-confirmed in billing's inbox"), "{err}");
}

/// The reconciliation is worth something only if it finds what must not be.
#[tokio::test]
async fn the_books_show_what_must_not_be() {
    let two = TwoServices::new(10);
    two.assert_reconciles("before the damage");
    // A damage, what mends it, and how it shows.
    let (ordering, billing) = ("ordering.db", "billing.db");
    let damages: [(&str, &'static str, &'static str, &str); 8] = [
        (
            billing,
            "INSERT INTO charges SELECT * FROM charges WHERE order_id = 5",
            "DELETE FROM charges WHERE rowid = (SELECT max(rowid) FROM charges)",
            "order 5: 2 charges",
        ),
        (
            billing,
            "UPDATE charges SET order_id = -6 WHERE order_id = 6",
            "UPDATE charges SET order_id = 6 WHERE order_id = -6",
            "order 6: 0 charges of 0 cents, expected 1 of 1355",
        ),
        // As if the second change had been handled before the first.
        (
            billing,
            "UPDATE charges SET cents = 1502 WHERE order_id = 2",
            "UPDATE charges SET cents = 1351 WHERE order_id = 2",
            "order 2: 1 charges of 1502 cents, expected 1 of 1351",
        ),
        (
            ordering,
            "UPDATE orders SET payments = 2 WHERE order_id = 8",
            "UPDATE orders SET payments = 1 WHERE order_id = 8",
            "order 8: 2 payments",
        ),
        (
            ordering,
            "UPDATE reminders SET came_at = came_at - 60000 WHERE order_id = 4",
            "UPDATE reminders SET came_at = came_at + 60000 WHERE order_id = 4",
            "ms too early",
        ),
        (
            ordering,
            "UPDATE reminders SET order_id = 3 WHERE order_id = 9",
            "UPDATE reminders SET order_id = 9 WHERE rowid = (SELECT max(rowid) FROM reminders WHERE order_id = 3)",
            "order 9: 0 reminders, expected 1",
        ),
        (
            ordering,
            "INSERT INTO alerts SELECT * FROM alerts WHERE order_id = 10",
            "DELETE FROM alerts WHERE rowid = (SELECT max(rowid) FROM alerts)",
            "order 10: 2 alerts, expected 1",
        ),
        (
            ordering,
            "UPDATE alerts SET order_id = 1",
            "UPDATE alerts SET order_id = 10",
            "order 10: 0 alerts, expected 1",
        ),
    ];
    for (database, damage, mend, found) in damages {
        two.sql(database, damage).await;
        let output = two.run();
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{damage}\n{out}");
        assert!(out.contains("reconciled: no") && out.contains(found), "{damage}\n{out}");
        two.sql(database, mend).await;
    }
    two.assert_reconciles("with everything mended");
}

#[tokio::test]
async fn with_any_process_killed_the_next_run_ends_reconciled() {
    let (mut two, mut chance) = (TwoServices::new(0), Chance::new());
    let billing = two.database("billing.db").await;
    let mut handled = 0;
    for victim in PROCESSES.into_iter().chain(["launcher"]).cycle().take(if is_long() { 40 } else { 5 }) {
        two.order(10);
        let mut run = two.start();
        run.reaches(handled + i64::try_from(chance.below(30)).unwrap(), &billing).await;
        run.signal("KILL", victim);
        let status = run.wait();
        assert!(!status.success(), "it was killed before everything was done: {victim}");
        assert_eq!(status.code().is_none(), victim == "launcher");
        two.assert_reconciles(victim);
        handled += 40;
    }
    two.assert_nobody_is_left().await;
}

#[tokio::test]
async fn killed_in_run_after_run_it_ends_reconciled() {
    let (mut two, mut chance) = (TwoServices::new(0), Chance::new());
    let billing = two.database("billing.db").await;
    for round in 1..=if is_long() { 100 } else { 10 } {
        two.order(5);
        let mut run = two.start();
        // Some of these have nothing to do with what is handled: the start, and the end.
        let handled = i64::try_from(chance.below(round * 22)).unwrap();
        run.reaches(handled, &billing).await;
        let index = usize::try_from(chance.below(5)).unwrap();
        let victim = PROCESSES.get(index).unwrap_or(&"launcher");
        run.signal("KILL", victim);
        println!("after {handled} events {victim} was killed: {}", run.wait());
    }
    let out = two.assert_reconciles("after all of them");
    two.assert_nobody_is_left().await;
    println!("{out}");
}

#[tokio::test]
async fn killed_at_every_commit_point_it_ends_reconciled() {
    // Ordering and billing both have the point, and the first to pass it so often dies of it.
    let mut two = TwoServices::new(0);
    for times in if is_long() { vec![1, 2, 5] } else { vec![2] } {
        for point in distributed_events::crash::POINTS.iter().chain(distributed_events::crash::SETTLE_POINTS)
        {
            two.order(8);
            let at = format!("{point}:{times}");
            let output = two.command().env("DISTRIBUTED_EVENTS_CRASH_AT", &at).output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{at} was never reached\n{err}");
            assert!(err.contains("has died (signal: 6 (SIGABRT)"), "{at}\n{err}");
            if is_long() {
                two.assert_reconciles(&at);
            }
        }
    }
    two.assert_reconciles("after all of them");
    two.assert_nobody_is_left().await;
}
