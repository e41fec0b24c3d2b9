//! The host: time, waiting and waking.

#![allow(clippy::unwrap_used, reason = "a failed unwrap here is a failed test")]

use std::time::Duration;

use bytes::Bytes;
use servicebus_emulator::host::{Clock, Host, ManualClock};
use servicebus_emulator::model::{
    Condition, EntityPath, Input, Message, Properties, QueueSettings, ReceiveMode, SessionWish, Time,
};

fn path(text: &str) -> EntityPath {
    EntityPath::parse(text).unwrap()
}

async fn host(requires_session: bool) -> (Host, ManualClock) {
    let clock = ManualClock::at(Time(1_000_000));
    let host = Host::in_memory(Clock::Manual(clock.clone()));
    let settings = QueueSettings { requires_session, ..QueueSettings::default() };
    host.apply(Input::CreateQueue { path: path("q"), settings }).await.unwrap();
    (host, clock)
}

fn message() -> Message {
    Message {
        properties: Properties { session_id: Some("s".to_owned()), ..Properties::default() },
        raw: Bytes::from_static(b"x"),
        ..Message::default()
    }
}

#[tokio::test]
async fn a_receiver_that_waits_is_woken_by_a_message() {
    let (host, _) = host(false).await;
    let mut watch = host.watch(&path("Q"));
    let waiting = tokio::spawn({
        let host = host.clone();
        async move {
            loop {
                let got = host.receive(path("q"), None, None, ReceiveMode::PeekLock, 1).await.unwrap();
                if !got.is_empty() {
                    return got;
                }
                watch.changed().await.unwrap();
            }
        }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    host.send(path("q"), vec![message()]).await.unwrap();
    assert_eq!(waiting.await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_due_happens_without_anybody_asking() {
    let (host, clock) = host(false).await;
    host.send(path("q"), vec![message()]).await.unwrap();
    host.receive(path("q"), None, None, ReceiveMode::PeekLock, 1).await.unwrap();
    let mut watch = host.watch(&path("q"));
    watch.mark_unchanged();
    clock.advance(Duration::from_secs(60));
    // The timer alone can tell: nothing else is applied here.
    watch.changed().await.unwrap();
    assert_eq!(host.receive(path("q"), None, None, ReceiveMode::PeekLock, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_machines_clock_works_as_well() {
    let host = Host::in_memory(Clock::System);
    let settings =
        QueueSettings { lock_duration: servicebus_emulator::model::Span(1000), ..Default::default() };
    host.apply(Input::CreateQueue { path: path("q"), settings }).await.unwrap();
    host.send(path("q"), vec![message()]).await.unwrap();
    let got = host.receive(path("q"), None, None, ReceiveMode::PeekLock, 1).await.unwrap();
    let mut watch = host.watch(&path("q"));
    watch.mark_unchanged();
    tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap().unwrap();
    assert!(host.now() >= got[0].lock.unwrap().1);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_session_ends_with_a_session_or_in_time() {
    let (host, _) = host(true).await;
    let wait = |host: &Host| {
        let (host, receiver) = (host.clone(), host.new_receiver());
        async move { host.wait_session(&path("q"), receiver, SessionWish::Next, Duration::from_secs(65)).await }
    };
    let started = tokio::time::Instant::now();
    assert_eq!(wait(&host).await.unwrap_err().condition, Condition::Timeout);
    assert_eq!(started.elapsed().as_secs(), 65);

    let waiting = tokio::spawn(wait(&host));
    tokio::task::yield_now().await;
    host.send(path("q"), vec![message()]).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().session_id, "s");

    let named = SessionWish::Named("s".to_owned());
    let refused = host.wait_session(&path("q"), host.new_receiver(), named, Duration::from_secs(65)).await;
    assert_eq!(refused.unwrap_err().condition, Condition::SessionCannotBeLocked, "at once");
}

#[tokio::test]
async fn one_of_many_that_wait_gets_the_session() {
    let (host, _) = host(true).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (host, receiver) = (host.clone(), host.new_receiver());
        waiting.spawn(async move {
            host.wait_session(&path("q"), receiver, SessionWish::Next, Duration::from_secs(3600))
                .await
                .map(|_| receiver)
        });
    }
    tokio::task::yield_now().await;
    host.send(path("q"), vec![message()]).await.unwrap();
    let mut served = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let receiver = waiting.join_next().await.unwrap().unwrap().unwrap();
        assert!(served.insert(receiver));
        // The next one gets it when this one goes, and not before.
        assert!(waiting.try_join_next().is_none());
        host.apply(Input::CloseReceiver { receiver }).await.unwrap();
    }
}

#[tokio::test]
async fn watches_of_a_deleted_entity_are_woken() {
    let (host, _) = host(false).await;
    let mut watch = host.watch(&path("q/$deadletterqueue"));
    host.apply(Input::DeleteEntity { path: path("q") }).await.unwrap();
    watch.changed().await.unwrap();
    let gone = host.receive(path("q"), None, None, ReceiveMode::PeekLock, 1).await;
    assert_eq!(gone.unwrap_err().condition, Condition::NotFound);
}

#[tokio::test]
async fn shutting_down_ends_all_waiting() {
    let (host, _) = host(true).await;
    let waiting = tokio::spawn({
        let host = host.clone();
        async move {
            let receiver = host.new_receiver();
            let waited =
                host.wait_session(&path("q"), receiver, SessionWish::Next, Duration::from_secs(3600)).await;
            host.stopped().await;
            waited
        }
    });
    tokio::task::yield_now().await;
    host.shutdown().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().condition, Condition::Timeout);
}
