//! How fast the AMQP door is with the model behind it, beside what it does with one that discards everything: messages
//! of 1 KiB over loopback, by a client that never waits for one answer before the next request.
//!
//! `cargo bench -p servicebus-emulator --bench throughput -- [ROUNDS]`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap here is a failed measurement")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use servicebus_emulator::amqp::{Door, Limits};
use servicebus_emulator::host::{Clock, Host};
use servicebus_emulator::model::{EntityPath, Input, Message, QueueSettings};
use servicebus_emulator::sas::Authority;
use tokio::net::TcpListener;

/// Messages of a batch, and batches that are on their way.
const BATCH: u32 = 100;
const IN_FLIGHT: u32 = 8;
const BODY: usize = 1024;
/// Messages that are sent before they are received.
const ROUND: u32 = 20_000;
const FRAME: usize = 65_536;

fn main() {
    // Cargo says `--bench`, too.
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(75);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // As many as the model has, so that both doors read them from memory and neither always the same one.
    let messages = (0..ROUND).map(|_| Message { raw: message().into(), ..Message::default() }).collect();
    let doors = runtime.block_on(async {
        [serve(Host::in_memory(Clock::System)).await, serve(Host::discarding(messages)).await]
    });
    println!("{BODY} bytes, batches of {BATCH}, {IN_FLIGHT} in flight, {rounds} rounds of {ROUND} messages");
    // In turns, so that a machine that is busy for a while is busy for both.
    let (mut sent, mut received) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for (which, door) in doors.into_iter().enumerate() {
            sent[which].push(send(door));
            received[which].push(receive(door));
        }
    }
    for (name, [with, without]) in [("send", sent), ("receive and settle", received)] {
        let ratios = with.iter().zip(&without).map(|(with, without)| with / without).collect();
        let (with, without, ratio) = (median(with), median(without), median(ratios));
        println!("{name}: {with:.0}/s with the model, {without:.0}/s with none: {ratio:.2}");
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

async fn serve(host: Host) -> SocketAddr {
    let path = EntityPath::parse("q").unwrap();
    let settings = QueueSettings { max_size_in_megabytes: 81_920, ..QueueSettings::default() };
    host.apply(Input::CreateQueue { path, settings }).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Door::new(host, Authority::unchecked(), Limits::default()).serve(listener, None));
    address
}

/// Messages in a second.
fn send(address: SocketAddr) -> f64 {
    let mut client = Client::open(address, false);
    let begun = Instant::now();
    let (mut sent, mut accepted) = (0, 0);
    while accepted < ROUND / BATCH {
        while sent < ROUND / BATCH && sent < accepted + IN_FLIGHT {
            client.batch(sent);
            sent += 1;
        }
        accepted += client.settled();
    }
    f64::from(ROUND) / begun.elapsed().as_secs_f64()
}

/// Messages in a second: those that were sent before.
fn receive(address: SocketAddr) -> f64 {
    let mut client = Client::open(address, true);
    let begun = Instant::now();
    let (mut received, mut settled) = (0, 0);
    let mut ours = 0;
    client.credit(0, BATCH * IN_FLIGHT);
    while settled < ROUND {
        match client.next() {
            Told::Transfer => received += 1,
            Told::Settled(count) => settled += count,
            Told::Other => {}
        }
        if ours < ROUND && received >= ours + BATCH {
            client.settle(ours, ours + BATCH - 1);
            ours += BATCH;
            client.credit(received, (BATCH * IN_FLIGHT).min(ROUND - received));
        }
    }
    f64::from(ROUND) / begun.elapsed().as_secs_f64()
}

/// What came.
enum Told {
    Transfer,
    /// So many deliveries.
    Settled(u32),
    Other,
}

/// Frames are written out by hand, and of what comes only that is read what counts.
struct Client {
    stream: TcpStream,
    inbox: Vec<u8>,
    start: usize,
    batch: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr, receives: bool) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"AMQP\x00\x01\x00\x00").unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        let mut client = Self { stream, inbox: Vec::new(), start: 0, batch: batch() };
        client.say(0x10, &[&text("bench")], &[]);
        client.say(0x11, &[&[0x40], &uint(0), &uint(1 << 30), &uint(1 << 30)], &[]);
        let node = |code: u8, address: &str| [&[0, 0x53, code][..], &list(&[&text(address)])].concat();
        let role = [if receives { 0x41 } else { 0x42 }];
        let (source, target) = (node(0x28, "q"), node(0x29, "q"));
        client.say(0x12, &[&text("link"), &uint(0), &role, &[0x40], &[0x40], &source, &target], &[]);
        for _ in 0..3 {
            client.next();
        }
        client
    }

    fn say(&mut self, code: u8, fields: &[&[u8]], payload: &[u8]) {
        let body = [&[0, 0x53, code][..], &list(fields), payload].concat();
        let size = u32::try_from(body.len() + 8).unwrap();
        let frame = [&size.to_be_bytes()[..], &[2, 0, 0, 0], &body].concat();
        self.stream.write_all(&frame).unwrap();
    }

    fn batch(&mut self, delivery: u32) {
        let batch = std::mem::take(&mut self.batch);
        let mut parts = batch.chunks(FRAME - 100).peekable();
        while let Some(part) = parts.next() {
            let more = [if parts.peek().is_some() { 0x41 } else { 0x42 }];
            let format = [0x70, 0x80, 0x01, 0x37, 0x00];
            let tag = [&[0xa0, 4][..], &delivery.to_be_bytes()].concat();
            self.say(0x14, &[&uint(0), &uint(delivery), &tag, &format, &[0x42], &more], part);
        }
        self.batch = batch;
    }

    fn credit(&mut self, received: u32, credit: u32) {
        self.say(
            0x13,
            &[
                &uint(received),
                &uint(1 << 30),
                &uint(0),
                &uint(1 << 30),
                &uint(0),
                &uint(received),
                &uint(credit),
            ],
            &[],
        );
    }

    fn settle(&mut self, first: u32, last: u32) {
        self.say(0x15, &[&[0x41], &uint(first), &uint(last), &[0x42], &[0, 0x53, 0x24, 0x45]], &[]);
    }

    /// Waits until deliveries of ours are settled.
    fn settled(&mut self) -> u32 {
        loop {
            if let Told::Settled(count) = self.next() {
                return count;
            }
        }
    }

    /// The next frame.
    fn next(&mut self) -> Told {
        loop {
            let rest = &self.inbox[self.start..];
            if let Some(size) = rest.first_chunk().map(|size| u32::from_be_bytes(*size) as usize)
                && rest.len() >= size
            {
                let told = match rest[10] {
                    0x14 => Told::Transfer,
                    0x15 => Told::Settled(settled(&rest[11..size])),
                    0x16..=0x18 => panic!("the door refuses: {}", String::from_utf8_lossy(&rest[..size])),
                    _ => Told::Other,
                };
                self.start += size;
                return told;
            }
            self.inbox.drain(..self.start);
            self.start = 0;
            let length = self.inbox.len();
            self.inbox.resize(length + 4 * FRAME, 0);
            let read = self.stream.read(&mut self.inbox[length..]).unwrap();
            assert!(read > 0, "the door closed");
            self.inbox.truncate(length + read);
        }
    }
}

/// How many deliveries a disposition is about.
fn settled(list: &[u8]) -> u32 {
    // Behind the list's head and the role.
    let (first, behind) = read_uint(&list[10..]);
    let (last, _) = read_uint(behind);
    last - first + 1
}

fn read_uint(bytes: &[u8]) -> (u32, &[u8]) {
    match bytes[0] {
        0x43 => (0, &bytes[1..]),
        0x52 => (bytes[1].into(), &bytes[2..]),
        0x70 => (u32::from_be_bytes(bytes[1..5].try_into().unwrap()), &bytes[5..]),
        other => panic!("no number: {other:#x}"),
    }
}

fn uint(number: u32) -> Vec<u8> {
    [&[0x70][..], &number.to_be_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[0xa1, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn list(fields: &[&[u8]]) -> Vec<u8> {
    let inside = fields.concat();
    let size = u32::try_from(inside.len() + 4).unwrap();
    let count = u32::try_from(fields.len()).unwrap();
    [&[0xd0][..], &size.to_be_bytes(), &count.to_be_bytes(), &inside].concat()
}

fn data(bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).unwrap();
    [&[0, 0x53, 0x75, 0xb0][..], &size.to_be_bytes(), bytes].concat()
}

fn message() -> Vec<u8> {
    let properties = list(&[&text("0123456789abcdef")]);
    [&[0, 0x53, 0x73][..], &properties, &data(&[b'x'; BODY])].concat()
}

fn batch() -> Vec<u8> {
    data(&message()).repeat(BATCH as usize)
}
