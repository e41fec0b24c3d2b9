//! Runs in which processes die where only trouble leads them, which is made for each.

use std::time::{Duration, Instant};

use distributed_events::storage::{NewEvent, Storage as _};
use distributed_events::{Envelope, EventId};
use tests::outages::eventually_ok;

use crate::ground::{Ground, numbers};
use crate::run::Run;

/// How long an instance may live without coming to its point, until another is tried.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long all of it may take for each point.
const EACH: Duration = Duration::from_secs(40);

/// What can be wrong while ordering's instances live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// A row of its outbox can't be read, and is to be marked as dead.
    Unreadable,
    /// Billing's inbox is away, so that events are owed to it.
    Away,
    /// It was away, so that events are owed, and is there again.
    Back,
    /// Nothing: another instance comes and takes its share.
    None,
}

impl Trouble {
    fn leading_to(point: &str) -> Self {
        match point {
            "relay.before-dead" | "relay.after-dead" => Self::Unreadable,
            "local.before-owing" | "local.owed" => Self::Away,
            "local.before-paying" | "local.paid" => Self::Back,
            "lease.before-release" | "lease.released" => Self::None,
            other => panic!("nobody knows what leads to {other}"),
        }
    }
}

impl<G: Ground> Run<G> {
    /// Lets one of ordering's instances die at each of these points.
    pub(crate) async fn die_in_trouble(&mut self, points: &[&'static str]) {
        for point in points {
            let trouble = Trouble::leading_to(point);
            self.begin(trouble).await;
            let (end, reached) = (Instant::now() + EACH, self.crew.reached.len());
            self.lead_to(point);
            while self.crew.reached.len() == reached && Instant::now() < end {
                if self.crew.slots[0].point.as_ref().is_some_and(|(_, since)| since.elapsed() > PATIENCE) {
                    self.lead_to(point);
                }
                self.tend_for(Duration::from_millis(20)).await;
            }
            self.end_of(trouble).await;
        }
    }

    /// The twin is out of the way until this one leads, and comes back for its share.
    fn lead_to(&mut self, point: &str) {
        self.crew.kill(1, Duration::from_secs(4), None);
        self.crew.kill(0, Duration::ZERO, Some(format!("{point}:1")));
    }

    async fn begin(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Unreadable => eventually_ok(|| self.spoil()).await,
            Trouble::Away => self.say(false, "ALTER TABLE inbox RENAME TO hidden").await,
            Trouble::Back => {
                self.say(false, "ALTER TABLE inbox RENAME TO hidden").await;
                self.until("SELECT count(*) FROM distributed_events_owed").await;
                self.say(false, "ALTER TABLE hidden RENAME TO inbox").await;
            }
            Trouble::None => {}
        }
    }

    /// Nothing of it is to be in the books: they know orders alone.
    async fn end_of(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Unreadable => {
                self.until("SELECT count(*) FROM outbox WHERE status = 'dead' AND event_type = 'spoilt'")
                    .await;
                self.say(true, "DELETE FROM outbox WHERE event_type = 'spoilt'").await;
            }
            Trouble::Away => self.say(false, "ALTER TABLE hidden RENAME TO inbox").await,
            Trouble::Back | Trouble::None => {}
        }
    }

    /// Waits until there is one in ordering's database, while everybody is looked after.
    async fn until(&mut self, count: &str) {
        let end = Instant::now() + EACH;
        while !numbers::<G>(self.ledgers.ordering.pool(), count).await.is_ok_and(|found| found[0] > 0) {
            assert!(Instant::now() < end, "{count} stays 0");
            self.tend_for(Duration::from_millis(20)).await;
        }
    }

    async fn spoil(&self) -> Result<(), String> {
        let words = |error: sqlx::Error| error.to_string();
        let event = NewEvent::new(Envelope::new(EventId::new(), "spoilt", "{}"));
        let mut tx = self.ledgers.ordering.pool().begin_with(G::DB::BEGIN).await.map_err(words)?;
        G::DB::insert_outbox(&mut tx, &[event]).await.map_err(|error| error.to_string())?;
        G::run(&mut tx, "UPDATE outbox SET headers = 'no JSON' WHERE event_type = 'spoilt'")
            .await
            .map_err(words)?;
        tx.commit().await.map_err(words)
    }

    async fn say(&self, to_ordering: bool, sql: &str) {
        let database = if to_ordering { &self.ledgers.ordering } else { &self.ledgers.billing };
        eventually_ok(|| async {
            let mut conn = database.pool().acquire().await.map_err(|error| error.to_string())?;
            G::run(&mut conn, sql).await.map_err(|error| error.to_string())
        })
        .await;
    }
}
