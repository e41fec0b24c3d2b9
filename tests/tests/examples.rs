//! The examples do what they say.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use tests::eventually::DEADLINE;
use tests::programs::{example, run};

fn lines_with(out: &str, start: &str) -> Vec<String> {
    out.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

#[test]
fn without_macros() {
    let out = run("without_macros", &[]);
    assert!(out.contains("order 1 charged, attempt 1") && out.contains("order 1 audited"), "{out}");
}

#[test]
fn ordered_sessions() {
    let out = run("ordered_sessions", &[]);
    for parcel in ["slow", "quick", "other"] {
        let places: Vec<_> =
            lines_with(&out, parcel).iter().map(|line| line[6..].trim().to_owned()).collect();
        assert_eq!(places, ["shop", "depot", "door"], "{out}");
    }
    let last: Vec<_> = out.lines().rev().take(2).collect();
    assert!(last.iter().all(|line| line.starts_with("slow")), "the others did not wait\n{out}");
}

#[test]
fn retries_and_dead_letters() {
    let out = run("retries_and_dead_letters", &[]);
    assert!(out.contains("dead after 3 attempts: the mail server does not answer"), "{out}");
    assert!(out.contains("dead after 1 attempts: this is no address"), "{out}");
    assert!(out.ends_with("ada@example.org has mail\n"), "{out}");
}

#[test]
fn scheduled_event() {
    let out = run("scheduled_event", &[]);
    let mut lines = out.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("invoice 2")), "{out}");
    let late = lines.next().and_then(|line| line.strip_prefix("invoice 1 after ")?.strip_suffix(" s"));
    assert!(late.is_some_and(|late| late.parse::<f64>().unwrap() >= 1.5), "{out}");
}

#[test]
fn several_instances() {
    let out = run("several_instances", &[]);
    let shares: Vec<_> = out.lines().collect();
    assert_eq!(shares[0], "the first handled 100, the second 0", "{out}");
    assert_ne!(shares[2], shares[0], "the second takes a share\n{out}");
    assert_eq!(shares[3], "the first handled 0, the second 100", "{out}");
}

/// An example that serves HTTP.
struct Serving {
    process: Child,
    out: Lines<BufReader<ChildStdout>>,
    address: String,
    _directory: TempDir,
}

impl Serving {
    fn start(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new(example(name))
            .arg("127.0.0.1:0")
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = out.next().unwrap().unwrap().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, out, address, _directory: directory }
    }

    /// The whole answer to a request without a body.
    fn ask(&self, what: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        write!(connection, "{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn said(&mut self) -> String {
        self.out.next().unwrap().unwrap()
    }

    /// Asks it to stop, as a supervisor does; it has to do so well.
    fn stop(mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        assert_eq!(self.said(), "stopped");
        assert!(self.process.wait().unwrap().success());
    }
}

#[test]
fn an_axum_service_takes_an_order_and_stops_in_order() {
    let mut service = Serving::start("axum_service");
    let answer = service.ask("POST /orders/7");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(service.said(), "order 7 is shipped");
    service.stop();
}

#[test]
fn probes_tell_live_and_ready_with_reasons() {
    let service = Serving::start("health_probes");
    let live = service.ask("GET /livez");
    assert!(live.starts_with("HTTP/1.1 200") && live.contains("\"live\":true"), "{live}");
    let deadline = Instant::now() + DEADLINE;
    loop {
        let ready = service.ask("GET /readyz");
        if ready.starts_with("HTTP/1.1 200") {
            assert!(ready.contains("\"lanes\":[{\"name\":\"default\""), "{ready}");
            break;
        }
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"degraded\":[\"the bus "), "{ready}");
        assert!(Instant::now() < deadline, "{ready}");
    }
    service.stop();
}
