//! The program: its arguments, its first words and its end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tokio::net::TcpStream;

use super::client::{CLOSE, Client, DISPOSITION, TRANSFER};
use super::values::{code, data};

const CONFIG: &str = r#"{ // as the official emulator's
    "UserConfig": { "Namespaces": [ { "Name": "sbemulatorns", "Queues": [ { "Name": "orders" } ] } ] }
}"#;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_servicebus-emulator"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A started emulator, which is killed with the test that has it.
struct Started {
    child: Child,
    amqp: String,
    http: String,
    text: Vec<String>,
}

impl Started {
    /// On free ports.
    fn new(arguments: &[&str]) -> Self {
        let mut command = program(&["--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = Vec::new();
        while !text.iter().any(|line: &String| line.starts_with("Connection string for administration:")) {
            text.push(lines.next().unwrap().unwrap());
        }
        let address = |name: &str| text.iter().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        Self { amqp: address("AMQP "), http: address("HTTP "), child, text }
    }

    async fn connect(&self) -> Client {
        let mut client = Client::new(TcpStream::connect(&self.amqp).await.unwrap());
        client.greet().await;
        client.open().await;
        client.begin(0).await;
        client
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn config(folder: &Path) -> String {
    let file = folder.join("config.json");
    std::fs::write(&file, CONFIG).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn it_tells_how_it_is_used_and_what_is_wrong() {
    let (status, out, err) = run(&["--help"]);
    assert_eq!((status, err.as_str()), (0, ""));
    for option in ["--config", "--amqp", "--http", "--data", "--tls-certificate", "--no-auth"] {
        assert!(out.contains(option), "{out}");
    }
    let (status, out, err) = run(&["--frobnicate"]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert_eq!(err, "servicebus-emulator: unknown argument: --frobnicate; see servicebus-emulator --help\n");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.json");
    std::fs::write(&file, CONFIG.replace("orders", "no good").replace("Namespaces\"", "Namespace\""))
        .unwrap();
    let file = file.to_str().unwrap();
    let (status, _, err) = run(&["--config", file]);
    assert_eq!(status, 2);
    assert!(err.contains(file) && err.contains("line 2: "), "{err}");
    let (status, _, err) = run(&["--config", "/nowhere/config.json"]);
    assert_eq!(status, 2);
    assert!(err.contains("/nowhere/config.json"), "{err}");
    let (status, _, err) = run(&["--tls-certificate", "/nowhere/a", "--tls-key", "/nowhere/b"]);
    assert_eq!(status, 2);
    assert!(err.contains("/nowhere/a"), "{err}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, err) = run(&["--amqp", "127.0.0.1:0", "--http", &address]);
    assert_eq!(status, 1);
    assert!(err.contains(&address), "{err}");
}

#[tokio::test]
async fn it_says_where_it_is_and_stops_when_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["-TERM", "-INT"] {
        let mut started = Started::new(&["--config", &config(folder.path()), "--no-auth"]);
        let port = started.amqp.rsplit(':').next().unwrap();
        let string = format!(
            "Connection string: Endpoint=sb://localhost:{port};SharedAccessKeyName=RootManageSharedAccessKey;\
             SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
        );
        assert!(started.text.contains(&string), "{:?}", started.text);
        assert_ne!(started.amqp, started.http);
        let mut client = started.connect().await;
        client.attach_sender(0, "orders").await;
        started.signal(signal);
        assert_eq!(client.expect(CLOSE).await.condition(), "amqp:connection:forced");
        client.ends().await;
        drop(client);
        assert_eq!(started.child.wait().unwrap().code(), Some(0));
    }
}

#[tokio::test]
async fn tokens_are_checked_unless_it_is_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::new(&["--config", &config(folder.path())]);
    let mut client = started.connect().await;
    let (source, target) = (super::values::source("here", None), super::values::target("orders"));
    client.attach(0, false, source, target).await;
    assert_eq!(client.expect(super::client::DETACH).await.condition(), "amqp:unauthorized-access");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("data");
    let config = config(folder.path());
    let arguments = ["--config", &config, "--no-auth", "--data", directory.to_str().unwrap()];
    let mut sent = 0u32;
    for round in 0..3 {
        let mut started = Started::new(&arguments);
        let mut client = started.connect().await;
        client.attach_sender(0, "orders").await;
        // Two of those before are settled, three new ones come.
        if round > 0 {
            client.attach_receiver(1, "orders").await;
            client.credit(1, 0, 2, false).await;
            client.expect(TRANSFER).await;
            client.expect(TRANSFER).await;
            client.settle(0, 1, false, super::values::composite(0x24, vec![])).await;
            assert_eq!(code(&client.expect(DISPOSITION).await.fields[4]), 0x24);
        }
        for delivery in 0..3 {
            client.transfer(0, delivery, &data(sent.to_string().as_bytes())).await;
            assert_eq!(code(&client.expect(DISPOSITION).await.fields[4]), 0x24);
            sent += 1;
        }
        started.child.kill().unwrap();
        started.child.wait().unwrap();
    }
    let mut started = Started::new(&arguments);
    let mut client = started.connect().await;
    client.attach_deleting_receiver(0, "orders").await;
    client.credit(0, 0, 100, true).await;
    let mut bodies = Vec::new();
    loop {
        let frame = client.next().await;
        if frame.code != TRANSFER {
            break;
        }
        bodies.push(super::values::part(&frame.payload, 0x75));
    }
    let left: Vec<_> = (4..9u32).map(|number| super::values::binary(number.to_string().as_bytes())).collect();
    assert_eq!(bodies, left);
    // And a clean end is one, too.
    started.signal("-TERM");
    client.expect(CLOSE).await;
    drop(client);
    assert_eq!(started.child.wait().unwrap().code(), Some(0));
}
