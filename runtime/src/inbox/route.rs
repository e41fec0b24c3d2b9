//! Which handlers an event of a subscription goes to, and under which terms they run.

use std::collections::HashMap;
use std::time::Duration;

use super::bind::BoundHandler;
use super::settings::InboxSettings;
use crate::chance;
use crate::error::HandlerError;
use crate::retry::RetryPolicy;
use crate::storage::{Handled, InboxRow, Storage};

/// The longest wait a handler can ask for, as for a delay: what every clock and every table can hold.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The handlers of one (event, subscription): they share one transaction, so they agree on their terms (rule 13).
#[derive(Debug)]
pub(crate) struct Route<DB: Storage> {
    pub(crate) handlers: Vec<BoundHandler<DB>>,
    pub(crate) version: u32,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
    /// How many consecutive events may share a transaction; 1 for none.
    pub(crate) batch: usize,
}

impl<DB: Storage> Route<DB> {
    /// In how long a failed handler's event is tried again, if ever, and whether that run counts as an attempt.
    pub(super) fn again_in(&self, error: &HandlerError, row: &InboxRow) -> Option<(Duration, bool)> {
        if let Some(delay) = error.delay() {
            return Some((delay.min(LONGEST_WAIT), false));
        }
        if error.is_dead_letter() {
            return None;
        }
        let delay = self.retry.delay_after(row.attempts + 1, chance::unit())?;
        Some((delay, true))
    }
}

/// The routes of one subscription by event name, aliases included.
#[derive(Debug)]
pub(crate) struct Routes<DB: Storage> {
    routes: Vec<Route<DB>>,
    by_name: HashMap<String, usize>,
}

impl<DB: Storage> Routes<DB> {
    /// Groups handlers by event; all mistakes are returned as sentences.
    pub(crate) fn new(
        handlers: Vec<BoundHandler<DB>>,
        settings: &InboxSettings,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut routes: Vec<Route<DB>> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for handler in handlers {
            let own = handler.declaration.settings;
            let names: Vec<_> = handler.event.names().collect();
            let found = by_name.get(handler.event.name).copied();
            let index = match found {
                Some(index) if routes[index].handlers[0].event.name == handler.event.name => index,
                Some(_) => {
                    problems.push(format!(
                        "{} handles {}, which is an alias of another event of subscription {}",
                        handler.declaration, handler.event.name, own.subscription
                    ));
                    continue;
                }
                None => {
                    routes.push(Route {
                        handlers: Vec::new(),
                        version: handler.event.version,
                        retry: own.retry.unwrap_or(settings.retry),
                        timeout: own
                            .timeout
                            .or(settings.handler_timeout)
                            .unwrap_or(DB::DEFAULT_HANDLER_TIMEOUT),
                        batch: own.batch.unwrap_or(1) as usize,
                    });
                    routes.len() - 1
                }
            };
            for name in names {
                let taken = *by_name.entry(name.to_owned()).or_insert(index);
                if taken != index {
                    problems.push(format!(
                        "two events of subscription {} are received under the name {name}; {} is the second",
                        own.subscription, handler.declaration
                    ));
                }
            }
            let route = &mut routes[index];
            if let Some(first) = route.handlers.first() {
                let other = first.declaration.settings;
                if route.handlers.iter().any(|known| known.key == handler.key) {
                    problems.push(format!("{} is registered twice", handler.declaration));
                    continue;
                }
                if (other.retry, other.batch, other.timeout) != (own.retry, own.batch, own.timeout) {
                    problems.push(format!(
                        "{} and {} handle {} for subscription {} in one transaction, so they must agree on retry, batch and timeout",
                        first.declaration, handler.declaration, handler.event.name, own.subscription
                    ));
                }
                if other.unordered != own.unordered && handler.event.has_session {
                    let (ordered, unordered) =
                        if own.unordered { (first, &handler) } else { (&handler, first) };
                    problems.push(format!(
                        "{} says `unordered` and {} does not, and both handle {} for subscription {}, which has sessions or has none: say it in both, or in neither",
                        unordered.declaration, ordered.declaration, handler.event.name, own.subscription
                    ));
                }
                if first.event.version != handler.event.version {
                    problems.push(format!(
                        "{} and {} handle {} in versions {} and {}: one type must read both",
                        first.declaration,
                        handler.declaration,
                        handler.event.name,
                        first.event.version,
                        handler.event.version
                    ));
                }
            }
            problems.extend(
                own.retry
                    .and_then(|policy| policy.problem())
                    .map(|problem| format!("{}: {problem}", handler.declaration)),
            );
            if own.batch == Some(0) {
                problems.push(format!("{}: batch must be at least 1", handler.declaration));
            }
            if own.timeout.is_some_and(|timeout| timeout.is_zero()) {
                problems.push(format!("{}: timeout must be above zero", handler.declaration));
            }
            route.handlers.push(handler);
        }
        if problems.is_empty() { Ok(Self { routes, by_name }) } else { Err(problems) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Route<DB>> {
        self.by_name.get(name).and_then(|index| self.routes.get(*index))
    }

    pub(crate) fn handlers(&self) -> impl Iterator<Item = &BoundHandler<DB>> {
        self.routes.iter().flat_map(|route| &route.handlers)
    }

    pub(crate) fn longest_timeout(&self) -> Duration {
        self.routes.iter().map(|route| route.timeout).max().unwrap_or_default()
    }

    /// What an instance with these routes tells the others that it handles (rule 21).
    pub(crate) fn handled(&self, subscription: &str) -> Vec<Handled> {
        let mut handled: Vec<_> = self
            .by_name
            .iter()
            .map(|(event, index)| Handled {
                subscription: subscription.to_owned(),
                event: event.clone(),
                version: self.routes[*index].version,
            })
            .collect();
        handled.sort_by(|a, b| a.event.cmp(&b.event));
        handled
    }
}
