//! What can't be brought about from outside: a disk that fails.

use std::fs::File;

use super::*;
use crate::model::QueueSettings;

fn create(name: &str) -> Input {
    Input::CreateQueue { path: EntityPath::parse(name).unwrap(), settings: QueueSettings::default() }
}

#[tokio::test]
async fn a_journal_that_fails_stops_everything_and_acknowledges_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let lock = File::create(&path).unwrap();
    // Opened for reading alone, so that the first write fails.
    let journal = Writer::start(File::open(&path).unwrap(), path, lock);
    let host =
        Host::start(Model::new(1), Some(journal), Time(0), Clock::Manual(ManualClock::at(Time(1000))), None);
    let (first, second) = (host.submit(create("a")), host.submit(create("b")));
    for submitted in [first, second] {
        let fault = submitted.durable().await.unwrap_err();
        assert_eq!(fault.condition, Condition::InternalError);
        assert!(fault.text.contains("journal"), "{fault}");
    }
    // From here on the model stands still: it must not run ahead of what a restart would find.
    let fault = host.apply(create("c")).await.unwrap_err();
    assert_eq!(fault.condition, Condition::InternalError);
    assert!(host.read(|model, _| model.entity(&EntityPath::parse("c").unwrap())).is_none());
    assert!(host.shutdown().await.is_err());
}

#[tokio::test]
async fn the_last_clone_takes_the_timers_and_the_journal_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (host, _) = Host::open(directory.path(), Clock::System).unwrap();
    let clone = host.clone();
    let shared = Arc::downgrade(&host.0);
    tokio::task::yield_now().await;
    drop(host);
    assert!(shared.upgrade().is_some());
    drop(clone);
    assert!(shared.upgrade().is_none());
}
