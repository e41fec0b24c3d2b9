//! The quickstart as a newcomer runs it, and as `kill -9` leaves it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::is_long;
use tests::programs::example;

/// A directory with an input of this many orders; every 50th card has expired, every 20th is busy at first.
struct Shop {
    directory: TempDir,
}

impl Shop {
    fn new(orders: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lines: String = (1..=orders)
            .map(|id| {
                let card =
                    if id % 50 == 7 { "expired" } else { ["valid", "busy"][usize::from(id % 20 == 3)] };
                format!("{{\"order_id\": {id}, \"total_cents\": {}, \"card\": \"{card}\"}}\n", 100 + id)
            })
            .collect();
        std::fs::write(directory.path().join("orders.ndjson"), lines).unwrap();
        Self { directory }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(example("quickstart"));
        command
            .arg("--data")
            .arg(self.directory.path().join("data"))
            .arg("--input")
            .arg(self.directory.path().join("orders.ndjson"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Runs to the end.
    fn run(&self) -> Output {
        self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
    }

    /// Runs with a crash point; says whether it was reached.
    fn run_into(&self, point: &str) -> bool {
        !self.command().env("DISTRIBUTED_EVENTS_CRASH_AT", point).status().unwrap().success()
    }

    fn assert_reconciles(&self, what: &str) {
        let output = self.run();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{what}: exit {:?}\n{out}\n{err}", output.status);
        assert!(out.contains("reconciled: yes"), "{what}\n{out}");
    }

    fn sql(&self, database: &str, sql: &'static str) {
        let path = self.directory.path().join("data").join(database);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pool = tests::service::connect(&path, 1).await;
            sqlx::query(sql).execute(&pool).await.unwrap();
            pool.close().await;
        });
    }
}

#[test]
fn a_first_run_ends_reconciled_and_shows_what_it_refused() {
    let shop = Shop::new(60);
    let output = shop.run();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("reconciled: yes"), "{out}");
    assert!(
        out.contains("dead: ordering.order-placed of session 7: the card of order 7 has expired"),
        "{out}"
    );
    assert!(out.contains("p50") && out.contains("p99"), "{out}");
    let retried = out.lines().find(|line| line.starts_with("retried")).unwrap();
    assert_eq!(retried.split_whitespace().collect::<Vec<_>>(), ["retried", "0", "3"], "{out}");
}

#[test]
fn a_second_run_finds_everything_done() {
    let shop = Shop::new(20);
    shop.assert_reconciles("first");
    let out = String::from_utf8_lossy(&shop.run().stdout).into_owned();
    assert!(out.contains("20 orders were known from an earlier run"), "{out}");
    assert!(out.contains("reconciled: yes"), "{out}");
}

#[test]
fn malformed_lines_are_named_and_skipped() {
    let shop = Shop::new(2);
    let path = shop.directory.path().join("orders.ndjson");
    let orders = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{orders}not json\n\n{{\"order_id\": 9}}\n")).unwrap();
    let output = shop.run();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("line 3: not an order, skipped"), "{err}");
    assert!(err.contains("line 5: not an order, skipped: missing field `total_cents`"), "{err}");
    assert!(output.status.success());
}

#[test]
fn bad_arguments_say_what_is_wrong() {
    let output = Command::new(example("quickstart")).arg("--inptu").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage:"));
    let missing = Command::new(example("quickstart")).args(["--input", "/nowhere/orders"]).output().unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/orders can't be read"));
}

/// The reconciliation is worth something only if it finds what must not be.
#[test]
fn the_books_show_a_double_charge_a_lost_payment_and_a_made_up_charge() {
    let damages: [(&str, &'static str, &str); 3] = [
        ("billing.db", "INSERT INTO charges SELECT * FROM charges WHERE order_id = 5", "order 5: 2 charges"),
        (
            "ordering.db",
            "UPDATE orders SET paid_cents = 0, payments = 0 WHERE order_id = 6",
            "order 6: 0 payments",
        ),
        ("billing.db", "INSERT INTO charges VALUES (999, 1)", "order 999: charged, but never placed"),
    ];
    for (database, damage, found) in damages {
        let shop = Shop::new(10);
        shop.assert_reconciles("before the damage");
        shop.sql(database, damage);
        let output = shop.run();
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{out}");
        assert!(out.contains("reconciled: no") && out.contains(found), "{out}");
    }
}

#[test]
fn killed_at_every_commit_point_it_ends_reconciled() {
    // The second time a point is passed something was done before; the long run tries the first and a later time too.
    let times: &[u32] = if is_long() { &[1, 2, 3] } else { &[2] };
    for point in distributed_events::crash::POINTS {
        for time in times {
            let shop = Shop::new(40);
            let died = shop.run_into(&format!("{point}:{time}"));
            assert!(died, "{point} was never reached {time} times");
            shop.assert_reconciles(point);
        }
    }
}

#[test]
fn killed_again_and_again_at_random_moments_it_ends_reconciled() {
    let shop = Shop::new(if is_long() { 10_000 } else { 1500 });
    let mut seed = u64::from(std::process::id());
    println!("seed {seed}");
    let kills = if is_long() { 300 } else { 15 };
    for _ in 0..kills {
        // xorshift64: any spread of moments will do.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut child = shop.command().spawn().unwrap();
        let end = Instant::now() + Duration::from_millis(50 + seed % 3000);
        while Instant::now() < end && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    shop.assert_reconciles(&format!("after {kills} kills"));
}
