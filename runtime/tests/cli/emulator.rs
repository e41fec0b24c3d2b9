//! The emulator of Azure Service Bus as a process of a test's own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Without entities; it ends with this value.
pub(crate) struct Emulator {
    child: Child,
    amqp: u16,
    http: u16,
}

impl Emulator {
    pub(crate) const KEY: &str = "c2VjcmV0LW9mLXRoZS1lbXVsYXRvci10aGF0LW5vYm9keS1zaG93cw==";

    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let program =
            Path::new(env!("CARGO_BIN_EXE_distributed-events")).with_file_name("servicebus-emulator");
        assert!(
            program.exists(),
            "{} is missing: build it with `cargo build -p servicebus-emulator`, or use ./tests/run",
            program.display()
        );
        let mut child = Command::new(program)
            .args([
                "--amqp",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--until-input-ends",
                "--key",
                Self::KEY,
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut port = |door: &str| -> u16 {
            let line = lines.find(|line| line.starts_with(door)).unwrap();
            line.rsplit_once(':').unwrap().1.trim().parse().unwrap()
        };
        let (amqp, http) = (port("AMQP "), port("HTTP "));
        // It may go on talking, and must not find the pipe closed.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, amqp, http }
    }

    pub(crate) fn connection_string(&self) -> String {
        format!(
            "Endpoint=sb://localhost:{};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey={};\
             UseDevelopmentEmulator=true;",
            self.amqp,
            Self::KEY
        )
    }

    /// Its AMQP door.
    #[cfg(feature = "cli-entra")]
    pub(crate) const fn port(&self) -> u16 {
        self.amqp
    }

    /// A relay's configuration for it: the ports are free ones, not the emulator's usual.
    pub(crate) fn config(&self) -> String {
        CONFIG.replace("{http}", &self.http.to_string())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _may_have_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

const CONFIG: &str = r#"
[outbox]
poll_interval = "20ms"
lease_time = "2s"
retry_initial = "20ms"
retry_max = "200ms"

[inbox]
retry_initial = "20ms"
retry_max = "200ms"

[lanes.default]
connection_string_env = "SERVICE_BUS"
management_endpoint = "http://localhost:{http}"

[[topics]]
name = "orders"

[[subscriptions]]
topic = "orders"
name = "billing"
events = ["order-placed"]
sessions = true
"#;
