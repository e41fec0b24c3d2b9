//! Several instances of a service as real processes on one database: killed, frozen, resumed, deployed one after the other.
//! Everything is judged by business rows, which the handlers write in their transactions.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use distributed_events::storage::Storage;
use distributed_events::{DistributedEvent, EventId};
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use tempfile::TempDir;

use crate::conformance::Fixture;
use crate::eventually::eventually;
use crate::programs::program;

pub mod deaths;
pub mod deployment;
pub mod freezing;
pub mod program;
pub mod sharing;

/// A database that another process can open.
pub trait Shared: Fixture {
    /// The table `effects`, whose `seq` counts up: (seq, session_id, n, instance).
    const EFFECTS: &'static str;

    /// Records tables of a newer library, with which this one's code still works.
    const NEWER: &'static str;

    /// Lets all leases run out.
    const BURY: &'static str;

    /// A statement that never ends.
    const ENDLESS: &'static str;

    /// How many connections are at work on a statement that never ends, where the database can tell.
    const AT_WORK: Option<&'static str>;

    /// Ends the connection that says it, where there is a server.
    const SUICIDE: Option<&'static str>;

    /// Makes a transaction the one that survives a deadlock.
    const WINS_DEADLOCKS: &'static [&'static str];

    /// Where it is.
    fn url(&self) -> String;

    /// Ends all other connections to it.
    fn cut_connections(&self) -> impl Future<Output = ()> + Send;
}

/// What an instance's handler is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Todo {
    /// Write the row.
    #[default]
    Succeed,
    /// Write the row and wait in the transaction for as long as the file `pause` is there.
    Pause,
    /// End the process.
    Abort,
    /// The same by using up the stack.
    Overflow,
    /// The same politely.
    Exit,
}

/// The `n`-th event of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// Its session, if any.
    pub session: Option<String>,
    /// Its place there.
    pub n: i64,
    /// What its handler does.
    pub todo: Todo,
}

impl DistributedEvent for Counted {
    const NAME: &'static str = "instances.counted";
    const HAS_SESSION: bool = true;

    fn session_id(&self) -> Option<String> {
        self.session.clone()
    }
}

/// An event of a session.
pub fn of(session: &str, n: i64) -> Counted {
    Counted { session: Some(session.to_owned()), n, todo: Todo::Succeed }
}

/// The same with something to do.
pub fn doing(session: &str, n: i64, todo: Todo) -> Counted {
    Counted { todo, ..of(session, n) }
}

/// A database, and a folder of which the instances know.
pub struct Place<F> {
    /// The database.
    pub fixture: F,
    folder: TempDir,
}

impl<F: Shared> Place<F> {
    /// With the library's tables and `effects`.
    pub async fn new() -> Self {
        let place = Self { fixture: F::fresh().await, folder: tempfile::tempdir().unwrap() };
        place.fixture.execute(F::EFFECTS).await;
        place
    }

    /// A file that the instances look at.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts an instance; further words are for [`mod@program`].
    pub fn start(&self, name: &str, words: &[&str]) -> Instance {
        Instance::start(&self.fixture.url(), self.folder.path(), name, words)
    }

    /// Publishes in one transaction.
    pub async fn publish<E: DistributedEvent>(&self, events: &[E]) -> Vec<EventId> {
        let mut tx = self.fixture.pool().begin_with(F::DB::BEGIN).await.unwrap();
        let ids = E::publish_all(&mut tx, events).await.unwrap();
        tx.commit().await.unwrap();
        ids
    }

    /// SIGSTOP, but not while it holds the only write lock of its database, which nobody would free (rule 10).
    pub async fn freeze(&self, instance: &Instance) {
        loop {
            instance.freeze().await;
            if !F::DB::SINGLE_WRITER || self.can_write().await {
                return;
            }
            instance.resume();
        }
    }

    /// Whether the only write lock can be had soon. The pool's connections would wait for it as long as a service does, and
    /// everybody with them.
    async fn can_write(&self) -> bool {
        let mut conn = self.fixture.pool().acquire().await.unwrap().detach();
        F::run(&mut conn, "PRAGMA busy_timeout = 1000").await.unwrap();
        let can_write = F::run(&mut conn, F::DB::BEGIN).await.is_ok();
        // Which ends what it has begun.
        conn.close().await.unwrap();
        can_write
    }

    /// One number.
    pub async fn number(&self, sql: &str) -> i64 {
        self.fixture.number(sql).await
    }

    /// Waits until so many rows were written.
    pub async fn effects(&self, count: i64) {
        let look = || self.number("SELECT count(*) FROM effects");
        eventually("effects", look, |found| *found >= count).await;
    }

    /// That each session has exactly the rows 0, 1, 2 … in this order, and nothing is open.
    pub async fn assert_in_order(&self, sessions: usize, each: i64) {
        self.effects(i64::try_from(sessions).unwrap() * each).await;
        let open = "SELECT count(*) FROM inbox WHERE status <> 'processed'";
        eventually("nothing is open or dead", || self.number(open), |open| *open == 0).await;
        let mut conn = self.fixture.conn().await;
        for session in 0..sessions {
            let sql = format!("SELECT n FROM effects WHERE session_id = 's{session}' ORDER BY seq");
            let found = F::numbers(&mut conn, &sql).await;
            assert_eq!(found, (0..each).collect::<Vec<_>>(), "session s{session}");
        }
    }

    /// How many rows an instance has written.
    pub async fn share(&self, name: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM effects WHERE instance = '{name}'")).await
    }
}

/// A running process; it is killed with this value.
#[derive(Debug)]
pub struct Instance {
    child: Child,
}

impl Instance {
    fn start(url: &str, folder: &Path, name: &str, words: &[&str]) -> Self {
        let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
        let child = Command::new(program("instance"))
            .args([url, folder.to_str().unwrap(), name])
            .args(words)
            // Its end tells the child that the test is gone.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "SIG{name}");
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP. The signal is one thread's to take before it stops the others, which on a busy machine go on meanwhile.
    pub async fn freeze(&self) {
        self.signal("STOP");
        eventually("every thread has stopped", || async { self.is_stopped() }, |stopped| *stopped).await;
    }

    /// Whether all its threads are in the state that Linux calls `T` (`proc_pid_stat(5)`).
    fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat"))).all(|stat| {
            // After the name, which may hold anything. A thread that has ended meanwhile goes on with nothing.
            stat.ok().is_none_or(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
        })
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// SIGTERM, and its orderly end.
    pub async fn stop(mut self) {
        self.signal("TERM");
        let status = self.end().await;
        assert!(status.success(), "{status}");
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        let child = std::sync::Mutex::new(&mut self.child);
        let look = || async { child.lock().unwrap().try_wait().unwrap() };
        eventually("the process ends", look, Option::is_some).await.unwrap()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _may_have_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Stamps out one test for each case on a fixture.
#[macro_export]
macro_rules! instances {
    ($fixture:ty) => {
        $crate::instances! { @cases ($fixture)
            sharing: instances_that_join_and_leave_share_the_work, eight_instances_start_on_an_empty_database,
                an_instance_lives_on_after_its_connections_were_cut;
            deaths: a_killed_instance_loses_and_doubles_nothing, an_event_that_kills_its_process_ends_dead;
            freezing: an_instance_that_is_frozen_between_events_is_replaced_and_comes_back,
                an_instance_that_is_frozen_inside_its_handler_doubles_nothing,
                a_thousand_sessions_stay_in_order_whatever_happens;
            deployment: a_new_handler_and_a_new_version_are_deployed_without_loss,
                an_old_instance_works_on_newer_tables;
        }
    };
    (@cases ($fixture:ty) $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[::tokio::test]
            async fn $case() {
                $crate::instances::$module::$case::<$fixture>().await;
            })+
        })+
    };
}
