//! What can't be beaten: the AMQP library alone, and a broker that takes no time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use distributed_events::broker::{
    Batch, BatchLimits, Delivery, Message, ReceiveError, Receiver, SendError, Service, Source,
};
use distributed_events::{Broker, EventId};
use fe2o3_amqp::link::delivery::Sendable;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Batch as Sections, Body, Data, Message as AmqpMessage, MessageId, Properties,
};
use fe2o3_amqp::types::primitives::{Binary, OrderedMap, SimpleValue, Symbol, Timestamp, Value};
use fe2o3_amqp::{Connection, Sender, Session};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tests::proxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The message format of a batch.
const BATCH: u32 = 0x8001_3700;

/// Events in a second, by the AMQP library alone: batches made beforehand, so many on their way.
pub async fn send_alone(address: SocketAddr, events: usize, batch: usize, depth: usize) -> f64 {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut connection = Connection::builder()
        .container_id("floor")
        .scheme("amqp")
        .hostname("localhost")
        .max_frame_size(64 * 1024)
        .sasl_profile(SaslProfile::Anonymous)
        .open_with_stream(stream)
        .await
        .unwrap();
    let mut session = Session::begin(&mut connection).await.unwrap();
    let mut sender = Sender::attach(&mut session, "floor", "sink").await.unwrap();
    let message = message();
    let one = || {
        let parts = vec![Data(Binary::from(message.clone())); batch];
        let message: AmqpMessage<Body<Value>> = AmqpMessage::from(Body::Data(Sections::new(parts)));
        Sendable::builder().message(message).message_format(BATCH).build()
    };
    let mut batches: VecDeque<_> = (0..events / batch).map(|_| one()).collect();
    let begun = Instant::now();
    let mut under_way = FuturesUnordered::new();
    while let Some(batch) = batches.pop_front() {
        under_way.push(sender.send_batchable(batch).await.unwrap());
        if under_way.len() == depth {
            under_way.next().await.unwrap().unwrap();
        }
    }
    while let Some(outcome) = under_way.next().await {
        outcome.unwrap();
    }
    events as f64 / begun.elapsed().as_secs_f64()
}

/// Seconds that a byte takes there and back over a wire that delays each way by so much, clocks and all.
pub async fn round_trip(delay: Duration) -> f64 {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::before(echo.local_addr().unwrap()).await;
    proxy.delay(delay);
    tokio::spawn(async move {
        let (mut stream, _) = echo.accept().await.unwrap();
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    });
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut trips = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        stream.write_all(b"?").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        trips.push(begun.elapsed().as_secs_f64());
    }
    trips.sort_by(f64::total_cmp);
    trips[trips.len() / 2]
}

/// A message with the sections and sizes of what the transport sends for an event of 1 KiB.
fn message() -> Vec<u8> {
    let id = EventId::new().to_string();
    let properties = Properties {
        message_id: Some(MessageId::String(id.clone())),
        subject: Some("Kibibyte".to_owned()),
        correlation_id: Some(MessageId::String(id.clone())),
        content_type: Some(Symbol::from("application/json")),
        group_id: Some("~00".to_owned()),
        ..Properties::default()
    };
    let mut application = OrderedMap::new();
    let text = |value: &str| SimpleValue::String(value.to_owned());
    application.insert("eventversion".to_owned(), text("1"));
    application.insert("cloudEvents:specversion".to_owned(), text("1.0"));
    application.insert("cloudEvents:id".to_owned(), text(&id));
    application.insert("cloudEvents:type".to_owned(), text("Kibibyte"));
    application.insert("cloudEvents:source".to_owned(), text("sb://localhost"));
    let now = Timestamp::from_milliseconds(1_800_000_000_000);
    application.insert("cloudEvents:time".to_owned(), SimpleValue::Timestamp(now));
    let mut bytes = serde_amqp::to_vec(&properties).unwrap();
    bytes.extend(serde_amqp::to_vec(&ApplicationProperties(application)).unwrap());
    bytes.extend(serde_amqp::to_vec(&Data(Binary::from(vec![b'x'; 1024]))).unwrap());
    bytes
}

/// Has so many messages, each of which it hands out at once and forgets; takes what is sent likewise.
#[derive(Debug, Default)]
pub struct Instantly {
    messages: std::sync::Mutex<VecDeque<Delivery>>,
}

impl Instantly {
    pub fn new(count: usize, text: &str) -> Self {
        let body = format!(r#"{{"text":"{text}"}}"#);
        let message = |token: usize| {
            let mut message = Message::default();
            message.message_id = Some(EventId::new().to_string());
            message.subject = Some("Kibibyte".to_owned());
            message.body = body.clone().into_bytes();
            Delivery::new(token as u64, message)
        };
        Self { messages: std::sync::Mutex::new((0..count).map(message).collect()) }
    }
}

impl Broker for Instantly {
    fn identity(&self) -> String {
        "instantly".to_owned()
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::new(240 * 1024, 1_000)
    }

    fn attach(&self, _: Service) {}

    fn send<'a>(&'a self, _: Batch<'a>) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn receiver<'a>(
        &'a self,
        _: &'a Source,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Receiver>>, ReceiveError>> {
        let messages = std::mem::take(&mut *self.messages.lock().unwrap());
        let receiver: Box<dyn Receiver> = Box::new(Handing(messages));
        Box::pin(std::future::ready(Ok(Some(receiver))))
    }
}

#[derive(Debug)]
struct Handing(VecDeque<Delivery>);

impl Receiver for Handing {
    fn receive(&mut self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Delivery>, ReceiveError>> {
        let handed: Vec<_> = self.0.drain(..max.min(self.0.len())).collect();
        Box::pin(async move {
            if handed.is_empty() {
                tokio::time::sleep(wait).await;
            }
            Ok(handed)
        })
    }

    fn complete<'a>(&'a mut self, _: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn abandon<'a>(&'a mut self, _: &'a [u64]) -> BoxFuture<'a, Result<(), ReceiveError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
