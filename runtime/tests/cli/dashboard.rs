//! The dashboard as a service of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::program::{Program, said};
use crate::rows::Rows;

const READ: (&str, &str) = ("DISTRIBUTED_EVENTS_READ_TOKEN", "a-token-for-reading");
const WRITE: (&str, &str) = ("DISTRIBUTED_EVENTS_WRITE_TOKEN", "a-token-for-changes");

struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(program: &Program, tokens: &[(&str, &str)]) -> Self {
        let mut command = program.command(&["dashboard", "--listen", "127.0.0.1:0"]);
        command.env_remove(READ.0).env_remove(WRITE.0).envs(tokens.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix(&format!("the dashboard of {} is at http://", program.url()));
        let address =
            address.and_then(|rest| rest.strip_suffix('/')).unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, address }
    }

    fn get(&self, host: &str, header: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        write!(connection, "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{header}\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// As a supervisor stops it; returns what it said to the standard error.
    fn stop(self) -> String {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let said = said(&self.child.wait_with_output().unwrap());
        assert_eq!(said.status, 0, "{}", said.error);
        said.error
    }
}

#[tokio::test]
async fn it_is_served_with_tokens_from_the_environment_until_it_is_stopped() {
    let program = Program::new();
    Rows::of(&program).await.publish("order-placed", None).await;
    let serving = Serving::start(&program, &[READ, WRITE]);
    let refused = serving.get("x", "");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let header = format!("authorization: Bearer {}\r\n", READ.1);
    let page = serving.get("ops.example.org", &header);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<dt>Outbox, pending</dt><dd>1"), "{page}");
    assert_eq!(serving.stop(), "");

    let serving = Serving::start(&program, &[READ]);
    assert!(serving.get("x", &header).contains("read only"));
    assert_eq!(
        serving.stop(),
        "note: nobody may requeue or discard: DISTRIBUTED_EVENTS_WRITE_TOKEN is not set\n"
    );
}

#[test]
fn without_tokens_it_serves_this_machine_alone_and_no_name_that_only_leads_there() {
    let program = Program::new();
    let serving = Serving::start(&program, &[]);
    for host in [serving.address.as_str(), "localhost:8080", "localhost", "127.0.0.1", "[::1]:8080"] {
        assert!(serving.get(host, "").starts_with("HTTP/1.1 200"), "{host}");
    }
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""]
    {
        assert!(serving.get(host, "").starts_with("HTTP/1.1 421"), "{host}");
    }
    assert!(serving.stop().contains("whoever uses this machine may look and change"));
}

#[test]
fn it_refuses_to_start_where_others_could_come_in() {
    let program = Program::new();
    let start = |tokens: &[(&str, &str)]| {
        let mut command = program.command(&["dashboard", "--listen", "0.0.0.0:0"]);
        command.env_remove(READ.0).env_remove(WRITE.0).envs(tokens.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that starts says so in a line; one that refuses ends without.
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if !line.is_empty() {
            child.kill().unwrap();
        }
        let ended = child.wait_with_output().unwrap();
        assert_eq!(line, "", "it has started");
        said(&ended)
    };
    let open = start(&[]);
    assert_eq!((open.status, open.output.as_str()), (2, ""));
    assert!(open.error.contains(READ.0) && open.error.contains(WRITE.0), "{}", open.error);
    let weak = start(&[(READ.0, "secret")]);
    assert_eq!(weak.status, 2);
    assert!(weak.error.contains("could be guessed") && !weak.error.contains("secret"), "{}", weak.error);
}

#[tokio::test]
async fn reasons_are_kept_by_the_command_line_too() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    let (kept, gone) = (
        rows.receive("billing", b"{}", Some("no card")).await,
        rows.receive("billing", b"{}", Some("no card")).await,
    );
    program.ok(&["inbox", "requeue", &kept.to_string(), "--reason", "a new card", "--yes"]);
    program.ok(&["inbox", "discard", &gone.to_string(), "--reason", "a test", "--yes"]);
    let requeued = program.ok(&["inbox", "show", &kept.to_string()]);
    assert!(requeued.contains("requeued by an operator: a new card"), "{requeued}");
    let discarded = program.ok(&["inbox", "show", &gone.to_string()]);
    assert!(discarded.contains("discarded by an operator: a test"), "{discarded}");
}
