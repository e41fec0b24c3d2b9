//! What happens because nothing happens.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::connection::Connection;
use super::error::Error;
use super::frame;

impl Connection {
    /// How often the timers are looked at: often enough for the shortest of them.
    pub(super) fn tick(&self) -> Duration {
        let limits = &self.shared.limits;
        let shortest = [limits.idle, limits.unread, limits.authorization, limits.greeting, limits.link_idle]
            .into_iter()
            .chain([limits.linkless])
            .chain(self.keep_alive)
            .min()
            .unwrap_or_default();
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    pub(super) fn ticks(&self) -> Interval {
        let mut ticks = tokio::time::interval(self.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        ticks
    }

    pub(super) fn timers(&mut self) -> Result<(), Option<Option<Error>>> {
        let limits = self.shared.limits;
        let now = Instant::now();
        if self.out.is_empty() {
            self.stalled = None;
        } else if *self.stalled.get_or_insert(now) + limits.unread < now {
            return Err(None);
        }
        if self.heard + limits.idle * 2 < now {
            let text = format!("The connection was idle for {:?}.", limits.idle * 2);
            return Err(Some(Some(Error::new("amqp:resource-limit-exceeded", text))));
        }
        if self.keep_alive.is_some_and(|half| self.spoke + half.mul_f32(0.7) < now) && self.out.is_empty() {
            frame::empty(&mut self.out);
        }
        let Some(opened) = self.opened else {
            return if self.begun + limits.greeting < now { Err(None) } else { Ok(()) };
        };
        if !self.access.is_some() && opened + limits.authorization < now {
            let text = "No valid token was put in time.";
            return Err(Some(Some(Error::new("amqp:unauthorized-access", text))));
        }
        if !(self.inlets.is_empty() && self.outlets.is_empty()) {
            self.linkless = now;
        } else if self.linkless + limits.linkless < now {
            let text = "The connection was inactive: it has no links.";
            return Err(Some(Some(Error::new("amqp:connection:forced", text))));
        }
        self.check_links();
        Ok(())
    }
}
