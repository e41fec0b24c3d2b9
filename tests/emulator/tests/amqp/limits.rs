//! Silence, slowness and numbers: what ends a connection, and what doesn't.

use std::time::Duration;

use serde_amqp::Value;
use servicebus_emulator::amqp::Limits;
use tokio::time::Instant;

use super::client::{CLOSE, DETACH, DISPOSITION, FLOW, OPEN, TRANSFER, frame, performative};
use super::emulator::Emulator;
use super::values::{code, data, flow, source, target};

const SOON: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_silent_client_is_sent_away_and_one_that_says_nothing_isnt() {
    let emulator = Emulator::limited(Limits { idle: SOON * 6, ..Limits::default() }).await;
    let begun = Instant::now();
    let mut silent = emulator.begin().await;
    let mut alive = emulator.begin().await;
    // Two intervals of what was told are silence; an empty frame in between is not.
    let mut ticks = tokio::time::interval(SOON);
    let closed = async {
        loop {
            tokio::select! {
                close = silent.expect(CLOSE) => return close,
                _ = ticks.tick() => alive.write(&frame(0, 0, &[])).await,
            }
        }
    };
    assert_eq!(closed.await.condition(), "amqp:resource-limit-exceeded");
    assert!(begun.elapsed() >= SOON * 12);
    alive.attach_sender(0, "q").await;
    alive.transfer(0, 0, &data(b"x")).await;
    assert_eq!(code(&alive.expect(DISPOSITION).await.fields[4]), 0x24);
}

#[tokio::test]
async fn a_client_that_wants_it_hears_of_us_often_enough() {
    let emulator = Emulator::start().await;
    let mut client = emulator.connect().await;
    client.greet().await;
    let open = client.open_with(Value::Null, Value::Uint(2000)).await;
    assert_eq!(open.code, OPEN);
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(client.read(8).await, frame(0, 0, &[]));
    }
    let took = begun.elapsed();
    // Each in less than its time, and not all at once. The machine may be slow.
    assert!(took > Duration::from_millis(1000) && took < Duration::from_millis(3600), "{took:?}");
}

#[tokio::test]
async fn who_never_gets_to_the_point_is_sent_away() {
    let emulator = Emulator::limited(Limits { greeting: SOON, ..Limits::default() }).await;
    let mut mute = emulator.connect().await;
    mute.ends().await;
    let mut slow = emulator.connect().await;
    slow.write(b"AMQ").await;
    slow.ends().await;
    let mut hesitant = emulator.connect().await;
    hesitant.greet().await;
    hesitant.ends().await;
    emulator.is_well().await;
}

#[tokio::test]
async fn idle_links_and_connections_without_links_end() {
    let limits = Limits { link_idle: SOON, linkless: SOON * 2, ..Limits::default() };
    let emulator = Emulator::limited(limits).await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    client.attach_receiver(1, "q").await;
    client.attach(2, true, source("$cbs", None), target("here")).await;
    for _ in 0..2 {
        let detach = client.expect(DETACH).await;
        assert_eq!(detach.condition(), "amqp:link:detach-forced");
        assert_ne!(detach.fields[0], Value::Uint(2), "a node's link is there for when it is needed");
    }
    client.detach(2).await;
    client.expect(DETACH).await;
    assert_eq!(client.expect(CLOSE).await.condition(), "amqp:connection:forced");
    client.ends().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_left_and_others_never_notice() {
    let limits = Limits { unread: SOON * 10, output: 64 * 1024, ..Limits::default() };
    let emulator = Emulator::limited(limits).await;
    let body = "x".repeat(200_000);
    for _ in 0..100 {
        emulator.send("q", &[&body], None).await;
    }
    let mut stopped = emulator.begin().await;
    stopped.attach_receiver(0, "q").await;
    stopped.credit(0, 0, 1000, false).await;
    // It never reads; meanwhile others go on, and in the end they get what it had.
    let mut other = emulator.begin().await;
    other.attach_deleting_receiver(0, "q").await;
    other.credit(0, 0, 100, false).await;
    let mut whole = 0;
    while whole < 100 {
        let transfer = other.expect(TRANSFER).await;
        other.send(0, FLOW, flow(0, u32::MAX)).await;
        whole += usize::from(transfer.field(5) != &Value::Bool(true));
    }
    let rest = stopped.rest().await;
    assert!(rest.len() < 20_000_000, "{}", rest.len());
    assert_eq!(emulator.count("q"), 0);
}

#[tokio::test]
async fn a_client_that_only_asks_is_not_read_from_for_ever() {
    let limits = Limits { unread: Duration::from_secs(60), output: 64 * 1024, ..Limits::default() };
    let emulator = Emulator::limited(limits).await;
    let mut client = emulator.begin().await;
    // Each asks for an answer, and none is read: at some time the socket takes no more, and nothing grows without end.
    let mut echo = flow(0, 1);
    echo.resize(9, Value::Null);
    echo.push(Value::Bool(true));
    let echoes = frame(0, 0, &performative(FLOW, echo)).repeat(1000);
    let mut written = 0;
    while tokio::time::timeout(Duration::from_millis(500), client.write(&echoes)).await.is_ok() {
        written += echoes.len();
        assert!(written < 1_000_000_000, "it was read from all the time");
    }
    emulator.is_well().await;
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_a_place() {
    let emulator = Emulator::limited(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = emulator.begin().await;
    let mut second = emulator.connect().await;
    second.write(b"AMQP\x03\x01\x00\x00").await;
    first.attach_sender(0, "q").await;
    first.send(0, CLOSE, vec![]).await;
    first.expect(CLOSE).await;
    first.ends().await;
    drop(first);
    assert_eq!(second.read(8).await, b"AMQP\x03\x01\x00\x00");
}

#[tokio::test]
async fn everybody_is_told_when_the_emulator_stops() {
    let emulator = Emulator::start().await;
    let mut client = emulator.begin().await;
    client.attach_sender(0, "q").await;
    let mut greeted = emulator.connect().await;
    greeted.greet().await;
    emulator.host.shutdown().await.unwrap();
    assert_eq!(client.expect(CLOSE).await.condition(), "amqp:connection:forced");
    client.ends().await;
    greeted.expect(OPEN).await;
    assert_eq!(greeted.expect(CLOSE).await.condition(), "amqp:connection:forced");
}
