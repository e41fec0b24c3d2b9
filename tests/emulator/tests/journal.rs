//! What a directory keeps over the end of its process, however that comes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap here is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use servicebus_emulator::host::{Clock, Host, ManualClock};
use servicebus_emulator::journal::{Error, Recovery};
use servicebus_emulator::model::{
    Condition, Delivery, EntityPath, Input, LockToken, Message, Model, Outcome, Properties, QueueSettings,
    ReceiveMode, SessionWish, Time,
};

fn path(text: &str) -> EntityPath {
    EntityPath::parse(text).unwrap()
}

fn message(id: &str) -> Message {
    Message {
        properties: Properties { message_id: Some(id.to_owned()), ..Properties::default() },
        raw: Bytes::from(id.to_owned()),
        ..Message::default()
    }
}

fn clock() -> (Clock, ManualClock) {
    let clock = ManualClock::at(Time(1_000_000));
    (Clock::Manual(clock.clone()), clock)
}

/// Opens a directory that a dropped host may still be leaving.
async fn open(directory: &Path, clock: Clock) -> (Host, Recovery) {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        match Host::open(directory, clock.clone()) {
            Err(Error::InUse(_)) if std::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

async fn create(host: &Host, name: &str, requires_session: bool) {
    let settings = QueueSettings { requires_session, ..QueueSettings::default() };
    host.apply(Input::CreateQueue { path: path(name), settings }).await.unwrap();
}

async fn receive(host: &Host, max: u32) -> Vec<Delivery> {
    host.receive(path("q"), None, None, ReceiveMode::PeekLock, max).await.unwrap()
}

async fn complete(host: &Host, token: LockToken) {
    host.settle(path("q"), None, None, vec![token], Outcome::Complete).await.unwrap().remove(0).unwrap();
}

fn ids(host: &Host, entity: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut from = 0;
    loop {
        let peeked = host.read(|model, _| model.peek(&path(entity), None, from, 250)).unwrap();
        let Some(last) = peeked.last() else { return ids };
        from = last.sequence_number + 1;
        ids.extend(peeked.iter().map(|delivery| delivery.message.properties.message_id.clone().unwrap()));
    }
}

fn snapshot(host: &Host) -> Model {
    host.read(|model, _| model.clone())
}

#[tokio::test]
async fn everything_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, time) = clock();
    let (host, recovery) = open(directory.path(), clock.clone()).await;
    assert_eq!(recovery, Recovery::default());
    create(&host, "q", false).await;
    create(&host, "s", true).await;
    host.send(path("q"), vec![message("a"), message("b"), message("c")]).await.unwrap();
    let locked = receive(&host, 2).await;
    let receiver = host.new_receiver();
    host.wait_session(&path("s"), receiver, SessionWish::Named("x".to_owned()), Duration::ZERO)
        .await
        .unwrap();
    host.set_session_state(path("s"), Some(receiver), "x".to_owned(), Some(Bytes::from("state")))
        .await
        .unwrap();
    time.advance(Duration::from_secs(1));
    complete(&host, locked[0].lock.unwrap().0).await;
    // What changed nothing isn't written; the restart frees the session of the receiver that is gone.
    assert!(
        host.receive(path("s"), Some(receiver), Some("x".to_owned()), ReceiveMode::PeekLock, 1).await.is_ok()
    );
    let mut expected = snapshot(&host);
    expected.apply(host.now(), Input::Restart);
    drop(host);

    let (host, recovery) = open(directory.path(), clock.clone()).await;
    assert_eq!(recovery, Recovery { inputs: 7, torn_bytes: 0 });
    assert!(snapshot(&host) == expected);
    // A lock without a receiver is as good as before.
    complete(&host, locked[1].lock.unwrap().0).await;
    assert!(host.new_receiver() > receiver);
    drop(host);
    let (host, recovery) = open(directory.path(), clock).await;
    assert_eq!(recovery.inputs, 1, "the start before compacted the rest");
    assert_eq!(ids(&host, "q"), ["c"]);
}

#[tokio::test]
async fn time_goes_on_while_nobody_runs_and_never_back() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, time) = clock();
    let (host, _) = open(directory.path(), clock.clone()).await;
    create(&host, "q", false).await;
    host.send(path("q"), vec![message("a")]).await.unwrap();
    let lost = receive(&host, 1).await.remove(0).lock.unwrap().0;
    drop(host);
    time.advance(Duration::from_secs(3600));
    let (host, _) = open(directory.path(), clock).await;
    let settled = host.settle(path("q"), None, None, vec![lost], Outcome::Complete).await.unwrap().remove(0);
    assert_eq!(settled.unwrap_err().condition, Condition::MessageLockLost);
    assert_eq!(receive(&host, 1).await[0].delivery_count, 1);
    let last = host.now();
    drop(host);
    let (host, _) = open(directory.path(), Clock::Manual(ManualClock::at(Time(5)))).await;
    assert_eq!(host.now(), last);
}

#[tokio::test]
async fn a_directory_belongs_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let (host, _) = open(directory.path(), Clock::System).await;
    let error = Host::open(directory.path(), Clock::System).unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "{error}");
    drop(host);
    open(directory.path(), Clock::System).await;
}

/// A directory with a queue and three messages, each input in a frame of its own; and where the frames end.
async fn prepare(directory: &Path) -> (PathBuf, Vec<usize>) {
    let (host, _) = open(directory, clock().0).await;
    let journal = only(directory, "journal");
    let size = || usize::try_from(fs::metadata(&journal).unwrap().len()).unwrap();
    let mut ends = vec![size()];
    create(&host, "q", false).await;
    ends.push(size());
    for id in ["a", "b", "c"] {
        host.send(path("q"), vec![message(id)]).await.unwrap();
        ends.push(size());
    }
    (journal, ends)
}

fn only(directory: &Path, extension: &str) -> PathBuf {
    let of = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    let mut found = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(of);
    let path = found.next().unwrap();
    assert_eq!(found.next(), None, "old generations are removed");
    path
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

#[tokio::test]
async fn a_torn_end_costs_what_was_torn_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, ends) = prepare(directory.path()).await;
    let bytes = fs::read(&journal).unwrap();
    assert_eq!(bytes.len(), *ends.last().unwrap());
    // Every length near a frame's end, and some between.
    let interesting = |cut: &usize| cut.is_multiple_of(23) || ends.iter().any(|end| cut.abs_diff(*end) < 3);
    for cut in (ends[0]..bytes.len()).filter(interesting) {
        let torn = copy(directory.path());
        fs::write(torn.path().join(journal.file_name().unwrap()), &bytes[..cut]).unwrap();
        let (host, recovery) = open(torn.path(), clock().0).await;
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let expected = Recovery { inputs: whole as u64, torn_bytes: (cut - ends[whole]) as u64 };
        assert_eq!(recovery, expected, "cut at {cut}");
        if whole > 0 {
            assert_eq!(ids(&host, "q"), ["a", "b", "c"][..whole - 1]);
            host.send(path("q"), vec![message("later")]).await.unwrap();
            drop(host);
            let (host, recovery) = open(torn.path(), clock().0).await;
            assert_eq!((recovery.inputs, recovery.torn_bytes), (1, 0));
            assert_eq!(ids(&host, "q").last().unwrap(), "later");
        }
    }
}

#[tokio::test]
async fn damage_is_refused_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, ends) = prepare(directory.path()).await;
    let bytes = fs::read(&journal).unwrap();
    for broken in (0..bytes.len()).step_by(11) {
        let damaged = copy(directory.path());
        let file = damaged.path().join(journal.file_name().unwrap());
        let mut content = bytes.clone();
        content[broken] ^= 0x40;
        fs::write(&file, &content).unwrap();
        let frame = ends.iter().filter(|end| **end <= broken).count();
        match Host::open(damaged.path(), clock().0) {
            Ok((host, recovery)) => {
                assert_eq!(frame, ends.len() - 1, "only the last frame can be taken for a torn one");
                assert!(recovery.torn_bytes > 0);
                assert_eq!(ids(&host, "q"), ["a", "b"]);
            }
            Err(Error::Damaged { path, at, .. }) => {
                let start = if frame == 0 { 0 } else { ends[frame - 1] };
                assert_eq!((path, at), (file.clone(), start as u64), "broken at {broken}");
                assert_eq!(fs::read(&file).unwrap(), content, "what is refused is left as it is");
            }
            Err(other) => panic!("{other}"),
        }
    }
    let snapshot = only(directory.path(), "snapshot");
    let bytes = fs::read(&snapshot).unwrap();
    for broken in (0..bytes.len()).step_by(11) {
        let damaged = copy(directory.path());
        let mut content = bytes.clone();
        content[broken] ^= 0x40;
        fs::write(damaged.path().join(snapshot.file_name().unwrap()), content).unwrap();
        let error = Host::open(damaged.path(), clock().0).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "broken at {broken}: {error}");
    }
    fs::remove_file(directory.path().join(journal.file_name().unwrap())).unwrap();
    assert!(matches!(Host::open(directory.path(), clock().0).unwrap_err(), Error::Io { .. }));
}

#[tokio::test]
async fn a_crash_while_compacting_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = prepare(directory.path()).await;
    let next = journal.to_str().unwrap().replace("0000000001", "0000000002");
    fs::write(&next, "half a header").unwrap();
    fs::write(next.replace("inputs", "state").replace("journal", "writing"), "half a snapshot").unwrap();
    let (host, recovery) = open(directory.path(), clock().0).await;
    assert_eq!((recovery.inputs, ids(&host, "q").len()), (4, 3));
    assert_eq!(only(directory.path(), "journal"), PathBuf::from(next));
    assert!(
        !fs::read_dir(directory.path())
            .unwrap()
            .any(|e| e.unwrap().path().extension() == Some("writing".as_ref()))
    );
}

#[tokio::test]
async fn inputs_submitted_together_become_durable_together() {
    let directory = tempfile::tempdir().unwrap();
    let (host, _) = open(directory.path(), clock().0).await;
    create(&host, "q", false).await;
    let submit =
        |id: usize| host.submit(Input::Send { entity: path("q"), messages: vec![message(&id.to_string())] });
    let submitted: Vec<_> = (0..200).map(submit).collect();
    for (index, submitted) in submitted.into_iter().enumerate() {
        let numbers = submitted.durable().await.unwrap().into_sequence_numbers().unwrap();
        assert_eq!(numbers, [index as i64 + 1]);
    }
    host.shutdown().await.unwrap();
    drop(host);
    let (host, recovery) = open(directory.path(), clock().0).await;
    assert_eq!((recovery.inputs, ids(&host, "q").len()), (201, 200));
}

/// Set in the child that is killed: the directory it works in.
const CHILD: &str = "SERVICEBUS_EMULATOR_TEST_CHILD";

/// Not a test of its own: the process that `what_was_acknowledged_survives_a_kill` starts and kills.
#[tokio::test]
async fn child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let (host, _) = open(Path::new(&directory), Clock::System).await;
    if host.read(|model, _| model.entity(&path("q"))).is_none() {
        create(&host, "q", false).await;
    }
    for number in 0_u64.. {
        let id = format!("{}-{number}", std::process::id());
        host.send(path("q"), vec![message(&id)]).await.unwrap();
        println!("\nsent {id}");
        if number.is_multiple_of(3) {
            let got = receive(&host, 1).await.remove(0);
            let id = got.message.properties.message_id.clone().unwrap();
            println!("\ntaken {id}");
            complete(&host, got.lock.unwrap().0).await;
            println!("\ndone {id}");
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let (mut sent, mut taken, mut done) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut note = |line: String| match line.split_once(' ') {
            Some(("sent", id)) => sent.insert(id.to_owned()),
            Some(("taken", id)) => taken.insert(id.to_owned()),
            Some(("done", id)) => done.insert(id.to_owned()),
            _ => false,
        };
        let mut noted = 0;
        while noted < 20 + round * 7 {
            noted += usize::from(note(lines.next().unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts, too.
        let _rest = lines.map(note).count();
    }
    let (host, _) = open(directory.path(), Clock::System).await;
    let there: Vec<String> = ids(&host, "q");
    let unique: BTreeSet<String> = there.iter().cloned().collect();
    assert_eq!(there.len(), unique.len(), "nothing is doubled");
    assert!(sent.len() >= 50 && done.len() >= 10);
    for id in &sent {
        assert!(unique.contains(id) || taken.contains(id), "{id} was acknowledged and is lost");
    }
    for id in &done {
        assert!(!unique.contains(id), "{id} was completed and is back");
    }
    let unknown = unique.difference(&sent).count();
    assert!(unknown <= 5, "at most one message of each child had not been acknowledged");
}
