//! How fast the AMQP door is with the model behind it, beside what it does with one that discards everything: messages
//! of 1 KiB over loopback, by a client that never waits for one answer before the next request.
//!
//! `cargo bench -p servicebus-emulator -- [SECONDS]`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap here is a failed measurement")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use servicebus_emulator::amqp::{Door, Limits};
use servicebus_emulator::host::{Clock, Host};
use servicebus_emulator::model::{EntityPath, Input, Message, QueueSettings};
use servicebus_emulator::sas::Authority;
use tokio::net::TcpListener;

/// Messages of a batch, and batches that are on their way.
const BATCH: u32 = 100;
const IN_FLIGHT: u32 = 8;
const BODY: usize = 1024;
const FRAME: usize = 65_536;

fn main() {
    // Cargo says `--bench`, too.
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let span = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let message = Message { raw: message().into(), ..Message::default() };
    let (model, discard) = runtime.block_on(async {
        (serve(Host::in_memory(Clock::System)).await, serve(Host::discarding(message)).await)
    });
    println!("{BODY} bytes, batches of {BATCH}, {IN_FLIGHT} in flight, {seconds} s each");
    let run = |name: &str, measure: fn(SocketAddr, Duration) -> f64| {
        // In turns, so that a machine that is busy for a while is busy for both.
        let (mut with, mut without) = (0.0f64, 0.0f64);
        for _ in 0..3 {
            without = without.max(measure(discard, span / 3));
            with = with.max(measure(model, span / 3));
        }
        let ratio = with / without;
        println!("{name}: {with:.0}/s with the model, {without:.0}/s with none: {ratio:.2}");
    };
    run("send", send);
    run("receive and settle", receive);
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
fn send(address: SocketAddr, span: Duration) -> f64 {
    let mut client = Client::open(address, false);
    let begun = Instant::now();
    let (mut sent, mut accepted) = (0, 0);
    while begun.elapsed() < span {
        while sent < accepted + IN_FLIGHT {
            client.batch(sent);
            sent += 1;
        }
        accepted += client.settled();
    }
    let rate = f64::from(accepted * BATCH) / begun.elapsed().as_secs_f64();
    // What is left is received by the other measurement, and no more than that.
    while accepted < sent {
        accepted += client.settled();
    }
    rate
}

/// Messages in a second, and there are always some: others send them before.
fn receive(address: SocketAddr, span: Duration) -> f64 {
    let mut client = Client::open(address, true);
    let begun = Instant::now();
    let window = BATCH * IN_FLIGHT;
    client.credit(0, window);
    let (mut received, mut settled, mut asked) = (0, 0, 0);
    let mut idle = Instant::now();
    while begun.elapsed() < span {
        match client.next() {
            Some(Told::Transfer) => received += 1,
            Some(Told::Settled(count)) => settled += count,
            Some(Told::Other) => {}
            None if idle.elapsed() > Duration::from_millis(200) => break,
            None => continue,
        }
        idle = Instant::now();
        if received >= asked + BATCH {
            client.settle(asked, asked + BATCH - 1);
            asked += BATCH;
            client.credit(received, window);
        }
    }
    f64::from(settled) / (begun.elapsed() - idle.elapsed()).as_secs_f64()
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
            while client.next().is_none() {}
        }
        client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
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
            if let Some(Told::Settled(count)) = self.next() {
                return count;
            }
        }
    }

    /// The next frame; none where nothing comes for a while.
    fn next(&mut self) -> Option<Told> {
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
                return Some(told);
            }
            self.inbox.drain(..self.start);
            self.start = 0;
            let length = self.inbox.len();
            self.inbox.resize(length + 4 * FRAME, 0);
            let read = self.stream.read(&mut self.inbox[length..]);
            self.inbox.truncate(length + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => panic!("the door closed"),
                Ok(_) => {}
                Err(_) => return None,
            }
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
