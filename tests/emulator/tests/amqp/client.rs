//! A client that does what it is told, right or wrong. It shares no code with the door: types are encoded by
//! `serde_amqp`, everything else is written out here.

use std::time::Duration;

use serde_amqp::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::values::{
    binary, composite, condition, described, flow, source, split, string, symbol, target, transfer,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const OPEN: u8 = 0x10;
pub(crate) const BEGIN: u8 = 0x11;
pub(crate) const ATTACH: u8 = 0x12;
pub(crate) const FLOW: u8 = 0x13;
pub(crate) const TRANSFER: u8 = 0x14;
pub(crate) const DISPOSITION: u8 = 0x15;
pub(crate) const DETACH: u8 = 0x16;
pub(crate) const END: u8 = 0x17;
pub(crate) const CLOSE: u8 = 0x18;

/// What came: a frame, taken apart.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) channel: u16,
    pub(crate) code: u8,
    pub(crate) fields: Vec<Value>,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The field, null where it was left out.
    pub(crate) fn field(&self, index: usize) -> &Value {
        self.fields.get(index).unwrap_or(&Value::Null)
    }

    /// The condition of the error in a close, end or detach.
    #[track_caller]
    pub(crate) fn condition(&self) -> String {
        let error = self.field(if self.code == DETACH { 2 } else { 0 });
        condition(error)
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap();
    [&size.to_be_bytes()[..], &[2, kind], &channel.to_be_bytes(), body].concat()
}

/// A performative's bytes.
pub(crate) fn performative(code: u8, fields: Vec<Value>) -> Vec<u8> {
    serde_amqp::to_vec(&composite(code.into(), fields)).unwrap()
}

pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Wire>,
    inbox: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: impl Wire + 'static) -> Self {
        Self { stream: Box::new(stream), inbox: Vec::new() }
    }

    /// The stream, for what follows in another protocol.
    pub(crate) fn into_stream(self) -> Box<dyn Wire> {
        self.stream
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// So many bytes.
    pub(crate) async fn read(&mut self, length: usize) -> Vec<u8> {
        while self.inbox.len() < length {
            assert!(
                self.more().await,
                "the connection ended: {:x?}",
                &self.inbox[..self.inbox.len().min(200)]
            );
        }
        self.inbox.drain(..length).collect()
    }

    /// Reads until something came; false at the end.
    async fn more(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut chunk)).await.unwrap();
        let length = read.unwrap_or(0);
        self.inbox.extend_from_slice(&chunk[..length]);
        length > 0
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.inbox)
    }

    /// Nothing more comes.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let rest = self.rest().await;
            assert!(rest.is_empty(), "{caller}: {:x?}", &rest[..rest.len().min(200)]);
        }
    }

    /// Says hello without a name, up to and with AMQP's header.
    pub(crate) async fn greet(&mut self) {
        self.write(b"AMQP\x03\x01\x00\x00").await;
        assert_eq!(self.read(8).await, b"AMQP\x03\x01\x00\x00");
        assert_eq!(self.sasl().await.0, 0x40);
        self.init("ANONYMOUS", None).await;
        let (code, fields) = self.sasl().await;
        assert_eq!((code, &fields[0]), (0x44, &Value::Ubyte(0)));
        self.write(b"AMQP\x00\x01\x00\x00").await;
        assert_eq!(self.read(8).await, b"AMQP\x00\x01\x00\x00");
    }

    /// Chooses a mechanism.
    pub(crate) async fn init(&mut self, mechanism: &str, response: Option<&[u8]>) {
        let fields = vec![symbol(mechanism), response.map_or(Value::Null, binary), string("localhost")];
        self.write(&frame(1, 0, &performative(0x41, fields))).await;
    }

    /// The next frame of SASL.
    pub(crate) async fn sasl(&mut self) -> (u8, Vec<Value>) {
        let (kind, frame) = self.any().await;
        assert_eq!(kind, 1);
        (frame.code, frame.fields)
    }

    pub(crate) async fn open(&mut self) -> Frame {
        self.open_with(Value::Null, Value::Null).await
    }

    pub(crate) async fn open_with(&mut self, max_frame_size: Value, idle_time_out: Value) -> Frame {
        let fields = vec![string("test"), Value::Null, max_frame_size, Value::Null, idle_time_out];
        self.send(0, OPEN, fields).await;
        self.expect(OPEN).await
    }

    pub(crate) async fn begin(&mut self, channel: u16) -> Frame {
        self.begin_with(channel, 1000).await
    }

    pub(crate) async fn begin_with(&mut self, channel: u16, window: u32) -> Frame {
        let fields = vec![Value::Null, Value::Uint(0), Value::Uint(window), Value::Uint(1000)];
        self.send(channel, BEGIN, fields).await;
        self.expect(BEGIN).await
    }

    pub(crate) async fn send(&mut self, channel: u16, code: u8, fields: Vec<Value>) {
        self.write(&frame(0, channel, &performative(code, fields))).await;
    }

    /// The next frame of any kind that isn't empty.
    async fn any(&mut self) -> (u8, Frame) {
        loop {
            let head = self.read(8).await;
            let size = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
            assert_eq!(head[4], 2, "the data offset");
            let body = self.read(size - 8).await;
            if body.is_empty() {
                continue;
            }
            let (length, value) = split(&body);
            let (code, fields) = described(&value);
            let channel = u16::from_be_bytes([head[6], head[7]]);
            let payload = body[length..].to_vec();
            return (head[5], Frame { channel, code: u8::try_from(code).unwrap(), fields, payload });
        }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Frame {
        let (kind, frame) = self.any().await;
        assert_eq!(kind, 0);
        frame
    }

    /// The next frame, which must be one of that code. Flows that only speak of windows and credit may come before it.
    #[track_caller]
    pub(crate) fn expect(&mut self, code: u8) -> impl Future<Output = Frame> {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                let frame = self.next().await;
                if frame.code == code {
                    return frame;
                }
                assert_eq!(frame.code, FLOW, "{caller}: {code:#x} was expected: {frame:?}");
            }
        }
    }

    /// Asks for a link on the channel 0. The properties' place is the last.
    pub(crate) async fn attach(
        &mut self,
        handle: u32,
        receives: bool,
        source: Value,
        target: Value,
    ) -> Frame {
        self.attach_with(handle, receives, source, target, [Value::Null, Value::Null], Value::Null).await;
        self.expect(ATTACH).await
    }

    pub(crate) async fn attach_with(
        &mut self,
        handle: u32,
        receives: bool,
        source: Value,
        target: Value,
        [snd_settle_mode, rcv_settle_mode]: [Value; 2],
        properties: Value,
    ) {
        let mut fields = vec![
            Value::String(format!("link-{handle}")),
            Value::Uint(handle),
            Value::Bool(receives),
            snd_settle_mode,
            rcv_settle_mode,
            source,
            target,
        ];
        fields.resize(13, Value::Null);
        if !receives {
            fields[9] = Value::Uint(0);
        }
        fields.push(properties);
        self.send(0, ATTACH, fields).await;
    }

    /// A link to send on.
    pub(crate) async fn attach_sender(&mut self, handle: u32, entity: &str) -> Frame {
        let attach = self.attach(handle, false, source("here", None), target(entity)).await;
        let flow = self.expect(FLOW).await;
        assert_eq!(flow.field(4), &Value::Uint(handle));
        attach
    }

    /// A link to receive on, peek-locked.
    pub(crate) async fn attach_receiver(&mut self, handle: u32, entity: &str) -> Frame {
        self.attach(handle, true, source(entity, None), target("here")).await
    }

    /// A link to receive on, where what was received is gone.
    pub(crate) async fn attach_deleting_receiver(&mut self, handle: u32, entity: &str) -> Frame {
        let modes = [Value::Ubyte(1), Value::Ubyte(0)];
        self.attach_with(handle, true, source(entity, None), target("here"), modes, Value::Null).await;
        self.expect(ATTACH).await
    }

    /// A whole message that isn't settled.
    pub(crate) async fn transfer(&mut self, handle: u32, delivery: u32, message: &[u8]) {
        self.transfer_with(transfer(handle, delivery), message).await;
    }

    pub(crate) async fn transfer_with(&mut self, fields: Vec<Value>, payload: &[u8]) {
        let body = [&performative(TRANSFER, fields)[..], payload].concat();
        self.write(&frame(0, 0, &body)).await;
    }

    /// Says how many messages are wanted.
    pub(crate) async fn credit(&mut self, handle: u32, delivery_count: u32, credit: u32, drain: bool) {
        self.credit_within(flow(0, 1000), handle, delivery_count, credit, drain).await;
    }

    /// The same with windows of one's own.
    pub(crate) async fn credit_within(
        &mut self,
        mut fields: Vec<Value>,
        handle: u32,
        delivery_count: u32,
        credit: u32,
        drain: bool,
    ) {
        fields.extend([Value::Uint(handle), Value::Uint(delivery_count), Value::Uint(credit)]);
        fields.extend([Value::Null, Value::Bool(drain)]);
        self.send(0, FLOW, fields).await;
    }

    /// Says what becomes of deliveries.
    pub(crate) async fn settle(&mut self, first: u32, last: u32, settled: bool, state: Value) {
        let fields =
            vec![Value::Bool(true), Value::Uint(first), Value::Uint(last), Value::Bool(settled), state];
        self.send(0, DISPOSITION, fields).await;
    }

    pub(crate) async fn detach(&mut self, handle: u32) {
        self.send(0, DETACH, vec![Value::Uint(handle), Value::Bool(true)]).await;
    }
}
