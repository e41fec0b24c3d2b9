//! Runs in which processes die at named points, all of which must be reached.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::ground::Ground;
use crate::run::Run;

/// How long an instance may live without coming to its point. Many are passed by the one that leads alone, so then its
/// twin is killed.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long all of it may take for each point.
const EACH: Duration = Duration::from_secs(20);

impl<G: Ground> Run<G> {
    /// Lets an instance die at each of these points, alternately one of ordering's and one of billing's.
    pub(crate) async fn die_at(&mut self, points: &[&'static str]) {
        let mut chance = Chance::nth(self.setting.seed, u64::MAX - 1);
        let side = usize::try_from(chance.below(2)).unwrap();
        let mut queues = [VecDeque::new(), VecDeque::new()];
        for (index, point) in points.iter().enumerate() {
            // Only who places orders commits them; whatever billing publishes, it publishes in its handlers.
            let ordering = matches!(*point, "publish.before-commit" | "publish.after-commit");
            let service = if ordering { 0 } else { (index + side) % 2 };
            queues[service].push_back(format!("{point}:{}", 1 + chance.below(3)));
        }
        let end = Instant::now() + EACH * u32::try_from(points.len()).unwrap();
        while self.crew.reached.len() < points.len() && Instant::now() < end {
            for slot in 0..self.crew.slots.len() {
                let twin = slot ^ 1;
                match &self.crew.slots[slot].point {
                    Some((point, since)) if since.elapsed() > PATIENCE => {
                        // It begins anew, with the twin out of the way for as long as it needs to take over.
                        let point = point.clone();
                        let other = self.crew.slots[twin].point.take().map(|(point, _)| point);
                        self.crew.kill(twin, Duration::from_secs(4), other);
                        self.crew.kill(slot, Duration::ZERO, Some(point));
                    }
                    Some(_) => {}
                    None if self.crew.slots[slot].is_waiting() => {}
                    None => {
                        if let Some(point) = queues[slot / 2].pop_front() {
                            self.crew.kill(slot, Duration::ZERO, Some(point));
                        }
                    }
                }
            }
            self.tend_for(Duration::from_millis(20)).await;
        }
    }
}
