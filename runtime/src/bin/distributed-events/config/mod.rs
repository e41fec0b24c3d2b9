//! What a configuration file says: one file for the relay, the topology, and the database of every command.
//!
//! All mistakes are told at once, each with its line and its key; nothing that is unknown is passed over.

mod entities;
mod given;
mod lanes;
mod reader;
mod sections;

use std::path::Path;

pub(crate) use entities::{Subscription, Topic};
pub(crate) use given::Given;
#[cfg(feature = "cli-entra")]
pub(crate) use lanes::Credential;
pub(crate) use lanes::{Access, Identity, Lane, Transport};
pub(crate) use sections::{Errors, Inbox, Log, OnError, Outbox, Telemetry};

use self::reader::Reader;
use crate::failure::Failure;

/// A whole configuration. Secrets are not read before they are needed.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) database: Option<Given>,
    /// Whether the relay listens to the database's hints.
    pub(crate) listen: bool,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) errors: Errors,
    pub(crate) log: Log,
    pub(crate) telemetry: Telemetry,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// With every mistake that is in it.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::Usage(format!("the configuration {} can't be read: {error}", path.display()))
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(file: &str, text: &str) -> Result<Self, Failure> {
        let reader = Reader::new(file, text);
        let (table, errors) = toml::de::DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            reader.tell(at, format_args!("{}", error.message()));
        }
        let config = Self::of(&reader, table.get_ref());
        let problems = reader.problems();
        if problems.is_empty() {
            return Ok(config);
        }
        let count =
            if problems.len() == 1 { "a mistake".to_owned() } else { format!("{} mistakes", problems.len()) };
        Err(Failure::Usage(format!("the configuration has {count}:\n  {}", problems.join("\n  "))))
    }

    fn of<'a>(reader: &'a Reader<'a>, table: &'a toml::de::DeTable<'a>) -> Self {
        let mut root = reader.root(table);
        let (mut database, mut listen) = (None, true);
        if let Some(mut section) = root.section("database") {
            database = section.given("url");
            listen = section.flag("listen").unwrap_or(true);
            section.finish();
        }
        let outbox = root.section("outbox").map(Outbox::of).unwrap_or_default();
        let inbox = root.section("inbox").map(Inbox::of).unwrap_or_default();
        let lanes = root.named("lanes");
        // Those with a mistake are there, too.
        let names: Vec<_> = lanes.iter().map(|(name, _)| name.clone()).collect();
        let lanes = lanes.into_iter().filter_map(Lane::of).collect();
        let known = |lane: &str| names.is_empty() || names.iter().any(|known| known == lane);
        let (mut topics, mut subscriptions) = (Vec::new(), Vec::new());
        for section in root.each("topics") {
            topics.extend(Topic::of(section, known, &topics));
        }
        for section in root.each("subscriptions") {
            subscriptions.extend(Subscription::of(section, known, &subscriptions));
        }
        let errors = root.section("errors").map(Errors::of).unwrap_or_default();
        let log = root.section("log").map(Log::of).unwrap_or_default();
        let telemetry = root.section("telemetry").map(Telemetry::of).unwrap_or_default();
        root.finish();
        Self { database, listen, outbox, inbox, lanes, topics, subscriptions, errors, log, telemetry }
    }
}

#[cfg(test)]
mod tests;
