//! `[[topics]]` and `[[subscriptions]]`. Declared twice with the same settings they are one; with others they are a mistake.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Section;

const DAY: u64 = 86_400;

const fn seconds(span: RangeInclusive<u64>) -> RangeInclusive<Duration> {
    Duration::from_secs(*span.start())..=Duration::from_secs(*span.end())
}

/// `[[topics]]`: a topic that events are published to.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) lane: String,
    pub(crate) duplicate_detection: Option<Duration>,
    pub(crate) default_ttl: Option<Duration>,
    /// File and line.
    pub(crate) at: String,
}

impl Topic {
    /// None where it lacks what it can't be without, or stands among the earlier ones.
    pub(super) fn of(
        mut section: Section<'_>,
        known: impl Fn(&str) -> bool,
        earlier: &[Self],
    ) -> Option<Self> {
        let name = section.needed("name");
        let lane = section.text("lane").unwrap_or_else(|| "default".to_owned());
        if !known(&lane) {
            section.wrong("lane", &format!("there is no [lanes.{lane}] that it could be published by"));
        }
        let found = Self {
            name: name.clone().unwrap_or_default(),
            lane,
            duplicate_detection: section.span("duplicate_detection", seconds(20..=7 * DAY)),
            default_ttl: section.span("default_ttl", seconds(1..=3_650 * DAY)),
            at: section.place(),
        };
        let same = |other: &&Self| (&other.name, &other.lane) == (&found.name, &found.lane);
        let other = earlier.iter().find(same).filter(|_| name.is_some());
        if let Some(other) = other {
            for key in found.differing(other) {
                section.wrong(key, &otherwise(&format!("topic {}", found.name), &other.at));
            }
        }
        section.finish();
        (name.is_some() && other.is_none()).then_some(found)
    }

    /// The keys of what two declarations of one topic say differently.
    pub(crate) fn differing(&self, other: &Self) -> Vec<&'static str> {
        told([
            ("duplicate_detection", self.duplicate_detection == other.duplicate_detection),
            ("default_ttl", self.default_ttl == other.default_ttl),
        ])
    }
}

/// `[[subscriptions]]`: a subscription whose events this database's inbox receives.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) topic: String,
    pub(crate) name: String,
    pub(crate) lane: String,
    pub(crate) events: Vec<String>,
    pub(crate) everything: bool,
    pub(crate) sessions: bool,
    pub(crate) lock_duration: Option<Duration>,
    pub(crate) max_delivery_count: Option<u32>,
    /// File and line.
    pub(crate) at: String,
}

impl Subscription {
    /// The same.
    pub(super) fn of(
        mut section: Section<'_>,
        known: impl Fn(&str) -> bool,
        earlier: &[Self],
    ) -> Option<Self> {
        let (topic, name) = (section.needed("topic"), section.needed("name"));
        let is_named = topic.is_some() && name.is_some();
        let lane = section.text("lane").unwrap_or_else(|| "default".to_owned());
        if !known(&lane) {
            section.wrong("lane", &format!("there is no [lanes.{lane}] that it could be received by"));
        }
        let found = Self {
            topic: topic.unwrap_or_default(),
            name: name.unwrap_or_default(),
            lane,
            events: section.texts("events").unwrap_or_default(),
            everything: section.flag("everything").unwrap_or(false),
            sessions: section.flag("sessions").unwrap_or(false),
            lock_duration: section.span("lock_duration", seconds(5..=300)),
            max_delivery_count: section.number("max_delivery_count", 1..=2_000),
            at: section.place(),
        };
        if found.everything && !found.events.is_empty() {
            section.wrong(
                "everything",
                "a subscription takes every event or those that are named: leave one out",
            );
        }
        let same = |other: &&Self| {
            (&other.topic, &other.name, &other.lane) == (&found.topic, &found.name, &found.lane)
        };
        let other = earlier.iter().find(same).filter(|_| is_named);
        if let Some(other) = other {
            for key in found.differing(other) {
                let what = format!("subscription {} on topic {}", found.name, found.topic);
                section.wrong(key, &otherwise(&what, &other.at));
            }
        }
        section.finish();
        (is_named && other.is_none()).then_some(found)
    }

    /// The keys of what two declarations of one subscription say differently.
    pub(crate) fn differing(&self, other: &Self) -> Vec<&'static str> {
        let events = |of: &Self| of.events.iter().cloned().collect::<BTreeSet<_>>();
        told([
            ("events", events(self) == events(other)),
            ("everything", self.everything == other.everything),
            ("sessions", self.sessions == other.sessions),
            ("lock_duration", self.lock_duration == other.lock_duration),
            ("max_delivery_count", self.max_delivery_count == other.max_delivery_count),
        ])
    }
}

fn told<const N: usize>(same: [(&'static str, bool); N]) -> Vec<&'static str> {
    same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

fn otherwise(what: &str, at: &str) -> String {
    format!("{what} is declared at {at} already, and otherwise: say the same in both, or leave one out")
}
