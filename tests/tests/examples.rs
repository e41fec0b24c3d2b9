//! The examples do what they say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

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

#[test]
fn an_axum_service_takes_an_order_and_stops_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Command::new(example("axum_service"))
        .arg("127.0.0.1:0")
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(service.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = out.next().unwrap().strip_prefix("listening on http://").unwrap().to_owned();
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "POST /orders/7 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(out.next().unwrap(), "order 7 is shipped");
    let killed = Command::new("kill").args(["-s", "TERM", &service.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(out.next().unwrap(), "stopped");
    assert!(service.wait().unwrap().success());
}
