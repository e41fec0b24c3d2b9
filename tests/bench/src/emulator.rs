//! The emulator of Service Bus as a process of its own: this program under another word.

use std::net::SocketAddr;
use std::process::Stdio;

use servicebus_emulator::amqp::{Door, Limits};
use servicebus_emulator::config::Config;
use servicebus_emulator::host::{Clock, Host};
use servicebus_emulator::sas::Authority;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::Result;
use crate::arguments::EMULATE;

/// A running emulator that keeps its messages in memory; it ends with this value.
#[derive(Debug)]
pub(crate) struct Emulator {
    amqp: SocketAddr,
    /// Its input ends with it.
    _child: Child,
}

impl Emulator {
    /// Starts one with a topic and its subscription.
    pub(crate) async fn start(topic: &str, subscription: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([EMULATE, topic, subscription])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("the emulator has no output")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let amqp = line.ok_or("the emulator has ended")?.parse()?;
        Ok(Self { amqp, _child: child })
    }

    /// What a client connects with.
    pub(crate) fn connection_string(&self) -> String {
        format!(
            "Endpoint=sb://localhost:{};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;\
             UseDevelopmentEmulator=true;",
            self.amqp.port()
        )
    }
}

/// That process: serves until its input ends.
pub(crate) async fn emulate(topic: &str, subscription: &str) -> Result<()> {
    let subscription = serde_json::json!({ "Name": subscription, "Properties": { "LockDuration": "PT1M" } });
    let topic = serde_json::json!({ "Name": topic, "Properties": {}, "Subscriptions": [subscription] });
    let namespace = serde_json::json!({ "Name": "sbemulatorns", "Queues": [], "Topics": [topic] });
    let text = serde_json::json!({ "UserConfig": { "Namespaces": [namespace] } }).to_string();
    let host = Host::in_memory(Clock::System);
    let config = Config::parse(&text).map_err(|mistakes| format!("{mistakes:?}"))?;
    config.apply(&host).await.map_err(|faults| format!("{faults:?}"))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let door = Door::new(host, Authority::unchecked(), Limits::default());
    tokio::spawn(door.serve(listener, None));
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    Ok(())
}
