//! What goes wrong in a world, and when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::world::{SimulationError, World};

/// How long a world may take to become quiet, in simulated time.
const PATIENCE: Duration = Duration::from_secs(1_200);

impl World {
    /// A time of troubles, and then one without, until nothing is open.
    pub(super) async fn trouble_all(&mut self) -> Result<(), SimulationError> {
        self.shared.trouble(true);
        self.start_missing()?;
        let places = self.places();
        let (start, length) = (Instant::now(), 10_000 + self.numbers.below(40_000));
        let end = start + Duration::from_millis(length);
        let numbers = &mut self.numbers;
        self.namespace.spread(|| start + Duration::from_millis(numbers.below(length)));
        while Instant::now() < end && !places.is_empty() {
            tokio::time::sleep(Duration::from_millis(self.numbers.below(4_000))).await;
            let count = self.numbers.below(places.len() as u64);
            let (at, instance) = places[usize::try_from(count).unwrap_or_default()];
            self.trouble(at, instance).await;
            if self.numbers.happens(30) {
                self.start_missing()?;
            }
        }
        self.shared.trouble(false);
        self.shared.say("world", "no more troubles");
        let give_up = Instant::now() + PATIENCE;
        let mut open = self.open().await?;
        while !open.is_empty() && Instant::now() < give_up {
            self.start_missing()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            open = self.open().await?;
        }
        self.stop_all().await;
        if open.is_empty() { Ok(()) } else { Err(SimulationError::Unsettled(open.join(", "))) }
    }

    async fn trouble(&mut self, at: usize, instance: usize) {
        let kind = self.numbers.below(100);
        let is_long = self.numbers.happens(30);
        let mut time = |most: u64| Duration::from_millis(50 + self.numbers.below(most));
        let running = self.services[at].instances[instance].as_ref();
        let process =
            running.map(|running| Arc::clone(&running.process)).filter(|process| !process.is_dead());
        match (kind, process) {
            (0..25, Some(process)) => process.kill("from outside"),
            // Longer than a lease, now and then.
            (25..40, Some(process)) => process.freeze(time(if is_long { 60_000 } else { 8_000 })),
            (40..50, Some(_)) => self.stop(at, instance).await,
            (50..65, Some(process)) => process.lose_database(time(5_000)),
            (65..75, _) => {
                let time = time(8_000);
                self.shared.say("broker", &format!("is away for {time:?}"));
                self.namespace.go_away(time);
            }
            (75..90, _) => {
                self.shared.say("broker", "all links are cut");
                self.namespace.cut();
            }
            (90..95, _) => {
                let most = if is_long { 60_000 } else { 20_000 };
                let by = i64::try_from(self.numbers.below(most)).unwrap_or_default() - 10_000;
                self.shared.say("clock", &format!("jumps by {by} ms"));
                self.clock.jump(by);
            }
            _ => {}
        }
    }
}
