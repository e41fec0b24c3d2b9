//! The relay as a process of its own, over the emulator of Azure Service Bus.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::emulator::Emulator;
use crate::program::{Program, Said, said};
use crate::rows::Rows;

/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

impl Program {
    fn with_emulator(&self, emulator: &Emulator, arguments: &[&str]) -> std::process::Command {
        let mut command = self.command(&[&["--config", "relay.toml"], arguments].concat());
        command.env("SERVICE_BUS", emulator.connection_string());
        command
    }

    pub(crate) fn asked(&self, emulator: &Emulator, arguments: &[&str]) -> Said {
        said(&self.with_emulator(emulator, arguments).output().unwrap())
    }

    fn start_relay(&self, emulator: &Emulator, arguments: &[&str]) -> Child {
        let mut command = self.with_emulator(emulator, &[&["relay"], arguments].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Asks it to stop, as a supervisor does, and waits until it has.
pub(crate) fn stop(child: Child) -> Said {
    let told = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    said(&child.wait_with_output().unwrap())
}

/// Another's application, in another language: it knows the table, and nothing of this library.
pub(crate) async fn publish(rows: &Rows, numbers: std::ops::Range<u32>) {
    for n in numbers {
        rows.run(&format!(
            "INSERT INTO outbox (id, event_type, event_data, topic, session_id) \
             VALUES (randomblob(16), 'order-placed', '{{\"n\":{n}}}', 'orders', 'order-{}')",
            n % 3
        ))
        .await;
    }
}

pub(crate) async fn until(rows: &Rows, sql: &str, expected: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = rows.number(sql).await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found} instead of {expected}: {sql}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const RECEIVED: &str = "SELECT count(*) FROM inbox WHERE status = 'pending'";

#[tokio::test]
async fn events_of_any_application_reach_another_ones_inbox_once_whatever_is_killed() {
    let emulator = Emulator::start();
    let (shop, billing) = (Program::new(), Program::new());
    for program in [&shop, &billing] {
        program.write("relay.toml", &emulator.config());
    }
    assert_eq!(shop.asked(&emulator, &["topology", "--ensure"]).status, 0);
    let (published, received) = (Rows::of(&shop).await, Rows::of(&billing).await);
    publish(&published, 0..50).await;
    let (mut sender, receiver) =
        (shop.start_relay(&emulator, &["--outbox-only"]), billing.start_relay(&emulator, &["--inbox-only"]));
    until(&received, RECEIVED, 50).await;

    publish(&published, 50..400).await;
    sender.kill().unwrap();
    sender.wait().unwrap();
    let sender = shop.start_relay(&emulator, &["--outbox-only"]);
    let mut receiver = receiver;
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    let receiver = billing.start_relay(&emulator, &["--inbox-only"]);
    until(&received, RECEIVED, 400).await;
    until(&published, "SELECT count(*) FROM outbox WHERE status = 'sent'", 400).await;

    // In order within each session, and each of them once.
    let disorder = "SELECT count(*) FROM inbox AS a JOIN inbox AS b ON a.session_id = b.session_id AND a.seq < b.seq \
        AND (a.event_data ->> 'n') >= (b.event_data ->> 'n')";
    assert_eq!(received.number(disorder).await, 0);
    assert_eq!(received.number("SELECT count(DISTINCT event_data) FROM inbox").await, 400);

    for child in [sender, receiver] {
        let said = stop(child);
        assert_eq!((said.status, said.output.as_str()), (0, ""), "{}", said.error);
        assert!(
            said.error.contains("the relay starts") && said.error.contains("the relay has stopped"),
            "{}",
            said.error
        );
        assert!(!said.error.contains(Emulator::KEY), "{}", said.error);
    }
    let held = shop.json(&["status"]);
    assert!(held["leases"][0]["owner"].is_null(), "the lease was given back: {held}");
}

#[tokio::test]
async fn a_relay_stops_itself_where_it_is_told_to() {
    let emulator = Emulator::start();
    let program = Program::new();
    program.write(
        "relay.toml",
        &format!("{}[errors]\ndead_event = \"stop\"\n[log]\nformat = \"json\"\n", emulator.config()),
    );
    assert_eq!(program.asked(&emulator, &["topology", "--ensure"]).status, 0);
    let rows = Rows::of(&program).await;
    let child = program.start_relay(&emulator, &["--outbox-only"]);
    // No session id is that long.
    rows.run(
        "INSERT INTO outbox (id, event_type, event_data, topic, session_id) \
         VALUES (randomblob(16), 'order-placed', '{}', 'orders', printf('%.200c', 'x'))",
    )
    .await;
    let said = said(&child.wait_with_output().unwrap());
    assert_eq!(said.status, 4, "{}", said.error);
    let (log, last): (Vec<_>, Vec<_>) = said.error.lines().partition(|line| line.starts_with('{'));
    assert!(log.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log:?}");
    assert!(
        last[0].starts_with("error: the relay stopped itself: outbox relay of lane default: "),
        "{last:?}"
    );
}

#[test]
fn a_topology_is_checked_created_and_checked() {
    let emulator = Emulator::start();
    let program = Program::new();
    program.write("relay.toml", &emulator.config());
    let missing = program.asked(&emulator, &["topology", "--check"]);
    assert_eq!(missing.status, 3, "{}{}", missing.output, missing.error);
    assert!(missing.output.contains("missing: topic orders\n"), "{}", missing.output);
    let made = program.asked(&emulator, &["topology", "--ensure"]);
    assert_eq!(made.status, 0, "{}{}", made.output, made.error);
    assert!(made.output.contains("created: subscription billing on topic orders\n"), "{}", made.output);
    let there = program.asked(&emulator, &["--json", "topology", "--check"]);
    assert_eq!(there.status, 0, "{}{}", there.output, there.error);
    assert!(there.output.contains("\"as_wanted\":true"), "{}", there.output);
    // Somebody wants it otherwise than it is.
    program.write("relay.toml", &emulator.config().replace("sessions = true", "sessions = false"));
    let drift = program.asked(&emulator, &["topology", "--check"]);
    assert_eq!(drift.status, 3);
    assert!(drift.output.contains("requiresSession is true and should be false"), "{}", drift.output);
    for said in [missing, made, there, drift] {
        assert!(!said.output.contains(Emulator::KEY) && !said.error.contains(Emulator::KEY));
    }
}

#[test]
fn a_right_configuration_is_told_so_without_starting() {
    let emulator = Emulator::start();
    let program = Program::without_tables();
    program.write("relay.toml", &emulator.config());
    let said = program.asked(&emulator, &["relay", "--check"]);
    assert_eq!(said.status, 0, "{}", said.error);
    let expected = format!(
        "the configuration is right; database: {}; outbox: default by service-bus:localhost; inbox: orders/billing\n",
        program.url()
    );
    assert_eq!(said.output, expected);
    let said = program.asked(&emulator, &["relay", "--check", "--json"]);
    let expected = serde_json::json!({
        "database": program.url(),
        "outbox": [{ "lane": "default", "broker": "service-bus:localhost" }],
        "inbox": [{ "lane": "default", "topic": "orders", "subscription": "billing" }],
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said.output).unwrap(), expected);
    let said = program.asked(&emulator, &["relay", "--check", "--json", "--inbox-only"]);
    assert!(said.output.contains("\"outbox\":[]"), "{}", said.output);
}

#[test]
fn a_relay_without_tables_ends_at_once() {
    let emulator = Emulator::start();
    let program = Program::without_tables();
    std::fs::write(program.path("shop.db"), "").unwrap();
    program.write("relay.toml", &emulator.config());
    let said = program.asked(&emulator, &["relay"]);
    assert_eq!(said.status, 1, "{}", said.error);
    assert!(said.error.contains("create them with `distributed-events migrate`"), "{}", said.error);
}
