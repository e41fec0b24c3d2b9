//! An emulator for each test.

use std::sync::Arc;

use servicebus_emulator::amqp::{Door, Limits};
use servicebus_emulator::host::{Clock, Host, ManualClock};
use servicebus_emulator::model::{
    EntityPath, Input, Message, Properties, QueueSettings, Span, SubscriptionSettings, Time, TopicSettings,
};
use servicebus_emulator::sas::Authority;
use tokio::net::{TcpListener, TcpStream};

use crate::client::{CLOSE, Client, DISPOSITION};
use crate::values::{code, data};

/// When the tests' clock stands.
pub(crate) const NOW: Time = Time(1_795_459_266_125);

/// An emulator of its own for each test, with the queues `q` (locks of a minute) and `s` (with sessions) and the
/// subscription `t/Subscriptions/u`, and a clock that stands still.
pub(crate) struct Emulator {
    pub(crate) host: Host,
    pub(crate) clock: ManualClock,
    pub(crate) address: String,
}

impl Emulator {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default(), Authority::unchecked()).await
    }

    pub(crate) async fn limited(limits: Limits) -> Self {
        Self::with(limits, Authority::unchecked()).await
    }

    pub(crate) async fn with(limits: Limits, authority: Authority) -> Self {
        let clock = ManualClock::at(NOW);
        let host = Host::in_memory(Clock::Manual(clock.clone()));
        let queue = |requires_session| QueueSettings { requires_session, ..QueueSettings::default() };
        for input in [
            Input::CreateQueue { path: path("q"), settings: queue(false) },
            Input::CreateQueue { path: path("s"), settings: queue(true) },
            Input::CreateTopic { path: path("t"), settings: TopicSettings::default() },
            Input::CreateSubscription {
                path: path("t/Subscriptions/u"),
                settings: SubscriptionSettings::default(),
                rule: None,
            },
        ] {
            host.apply(input).await.unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(Door::new(host.clone(), authority, limits).serve(listener, None));
        Self { host, clock, address }
    }

    /// A connection on which nothing was said.
    pub(crate) async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(&self.address).await.unwrap())
    }

    /// An open connection.
    pub(crate) async fn open(&self) -> Client {
        let mut client = self.connect().await;
        client.greet().await;
        client.open().await;
        client
    }

    /// An open connection with a session on the channel 0.
    pub(crate) async fn begin(&self) -> Client {
        let mut client = self.open().await;
        client.begin(0).await;
        client
    }

    /// Messages with these bodies, and sessions where they are given.
    pub(crate) async fn send(&self, entity: &str, bodies: &[&str], session: Option<&str>) {
        for body in bodies {
            let properties = Properties { session_id: session.map(str::to_owned), ..Properties::default() };
            let raw = data(body.as_bytes()).into();
            let message = Message { properties, raw, ..Message::default() };
            self.host.send(path(entity), vec![message]).await.unwrap();
        }
    }

    /// The messages that nobody has locked.
    pub(crate) fn count(&self, entity: &str) -> usize {
        self.host.read(|model, _| model.peek(&path(entity), None, 0, 250)).unwrap().len()
    }

    /// That others are served as if nothing had happened.
    pub(crate) async fn is_well(&self) {
        let mut client = self.begin().await;
        client.attach_sender(7, "t").await;
        client.transfer(7, 0, &data(b"still there")).await;
        let outcome = client.expect(DISPOSITION).await;
        assert_eq!(code(&outcome.fields[4]), 0x24, "{outcome:?}");
        client.send(0, CLOSE, vec![]).await;
        client.expect(CLOSE).await;
        client.ends().await;
    }
}

pub(crate) fn path(text: &str) -> EntityPath {
    EntityPath::parse(text).unwrap()
}

pub(crate) fn seconds(count: u64) -> Span {
    Span::seconds(count)
}

/// A provider for TLS that needs no process-wide default.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
