//! The emulator of Service Bus as a process of a test's own, to be stopped, killed and brought back.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;

use crate::programs::program;

/// A running emulator; it ends with this value.
#[derive(Debug)]
pub struct Emulator {
    folder: TempDir,
    arguments: Vec<String>,
    key: String,
    child: Mutex<Child>,
    amqp: SocketAddr,
    http: SocketAddr,
}

impl Emulator {
    /// Starts one with these entities (the official emulator's `UserConfig.Namespaces[0]`), which keeps its messages when
    /// it is killed.
    pub fn start(entities: &serde_json::Value) -> Self {
        Self::start_with(entities, &[])
    }

    /// The same with further arguments.
    pub fn start_with(entities: &serde_json::Value, arguments: &[&str]) -> Self {
        Self::start_on(entities, arguments, true)
    }

    /// One that keeps nothing when it is killed, asks nobody for tokens, and is quicker.
    pub fn in_memory(entities: &serde_json::Value) -> Self {
        Self::start_on(entities, &["--no-auth"], false)
    }

    fn start_on(entities: &serde_json::Value, arguments: &[&str], keeps: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        let text = serde_json::json!({ "UserConfig": { "Namespaces": [entities] } }).to_string();
        std::fs::write(&config, text).unwrap();
        let mut all = vec!["--config".to_owned(), config.to_str().unwrap().to_owned()];
        if keeps {
            all.extend(["--data".to_owned(), folder.path().join("data").to_str().unwrap().to_owned()]);
        }
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let given = all.iter().find_map(|argument| argument.strip_prefix("--key="));
        let key = given.unwrap_or("SAS_KEY_VALUE").to_owned();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, amqp, http) = run(&all, free, free);
        Self { folder, arguments: all, key, child: Mutex::new(child), amqp, http }
    }

    /// What a client connects with.
    pub fn connection_string(&self) -> String {
        self.connection_string_at(self.amqp)
    }

    /// The same by way of a proxy.
    pub fn connection_string_at(&self, address: SocketAddr) -> String {
        format!(
            "Endpoint=sb://localhost:{};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey={};\
             UseDevelopmentEmulator=true;",
            address.port(),
            self.key
        )
    }

    /// The same for its HTTP door.
    pub fn http_connection_string(&self) -> String {
        self.connection_string_at(self.http)
    }

    /// Its AMQP door.
    pub const fn amqp(&self) -> SocketAddr {
        self.amqp
    }

    /// Its HTTP door.
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Ends it with SIGKILL.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again, on the same ports.
    pub fn come_back(&self) {
        *self.child.lock().unwrap() = run(&self.arguments, self.amqp, self.http).0;
    }

    /// Answers for so many seconds that it is busy.
    pub async fn be_busy(&self, seconds: u32) {
        let path = format!("/$emulator/server-busy?seconds={seconds}");
        let answer = self.ask("PUT", &path, "", b"").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Asks its HTTP door, with further header lines.
    pub async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        let length = body.len();
        let asked = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A folder that goes with it.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _may_have_ended = child.kill();
        let _reaped = child.wait();
    }
}

fn run(arguments: &[String], amqp: SocketAddr, http: SocketAddr) -> (Child, SocketAddr, SocketAddr) {
    let given = std::env::var_os("DISTRIBUTED_EVENTS_EMULATOR");
    let mut child = Command::new(given.map_or_else(|| program("servicebus-emulator"), Into::into))
        .args(arguments)
        .args(["--amqp", &amqp.to_string(), "--http", &http.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut address = |door: &str| {
        let mut found = lines.by_ref().map(|line| line.unwrap());
        let line =
            found.find(|line| line.starts_with(door)).unwrap_or_else(|| panic!("it ended before {door}"));
        line[door.len()..].trim().parse().unwrap()
    };
    let (amqp, http) = (address("AMQP "), address("HTTP "));
    // It may go on talking, and must not find the pipe closed.
    std::thread::spawn(move || lines.for_each(drop));
    (child, amqp, http)
}
