//! The official emulator's `config.json`: a namespace's entities.
//!
//! Everything that is wrong is told at once, each with its line and key.

mod json;
mod plan;
mod read;
mod walk;

use std::fmt;
use std::path::Path;

use crate::model::{EntityPath, QueueSettings, RuleSettings, SubscriptionSettings, TopicSettings};

/// What a file asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The namespace's name, which is nothing but a name here.
    pub namespace: String,
    /// Queues in the file's order.
    pub queues: Vec<(EntityPath, QueueSettings)>,
    /// Topics in the file's order.
    pub topics: Vec<(EntityPath, TopicSettings)>,
    /// Subscriptions of all topics.
    pub subscriptions: Vec<Subscription>,
}

/// A subscription and its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Where it is.
    pub path: EntityPath,
    /// Its settings.
    pub settings: SubscriptionSettings,
    /// None at all means one that lets everything through.
    pub rules: Vec<(String, RuleSettings)>,
}

impl Default for Config {
    fn default() -> Self {
        // The name that the official emulator insists on.
        let namespace = "sbemulatorns".to_owned();
        Self { namespace, queues: Vec::new(), topics: Vec::new(), subscriptions: Vec::new() }
    }
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// Where, such as `UserConfig.Namespaces[0].Queues[1].Properties.LockDuration`.
    pub key: String,
    /// What.
    pub text: String,
}

/// Everything that is wrong in a file, by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { line, key, text }) in self.0.iter().enumerate() {
            let (end, colon) = (if index == 0 { "" } else { "\n" }, if key.is_empty() { "" } else { ": " });
            write!(f, "{end}line {line}: {key}{colon}{text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is wrong.
    #[error("{path}:\n{mistakes}")]
    Mistakes {
        /// The file.
        path: String,
        /// What is wrong.
        mistakes: Mistakes,
    },
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Io { path: shown.clone(), source })?;
        Self::parse(&text).map_err(|mistakes| Error::Mistakes { path: shown, mistakes })
    }

    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        read::config(text)
    }
}

#[cfg(test)]
mod properties;
