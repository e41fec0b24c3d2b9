//! What was found where a topology is to be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was created, what is missing, what is otherwise than it should be, and what belongs to somebody else.
///
/// It is data, and its `Display` form is for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopologyReport {
    /// What was not there and is there now.
    pub created: Vec<Entity>,
    /// What was taken away: by `remove_surplus_rules` alone.
    pub removed: Vec<Entity>,
    /// What is not there, after a mere check.
    pub missing: Vec<Entity>,
    /// What is there, but not as it should be.
    pub drift: Vec<Drift>,
    /// What is there, and not of this topology: left alone.
    pub foreign: Vec<Foreign>,
}

/// A topic, a subscription or a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Entity {
    /// A topic.
    Topic(String),
    /// A subscription on a topic.
    Subscription {
        /// The topic.
        topic: String,
        /// The subscription.
        name: String,
    },
    /// A rule of a subscription.
    Rule {
        /// The topic.
        topic: String,
        /// The subscription.
        subscription: String,
        /// The rule.
        name: String,
    },
}

/// A setting that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Drift {
    /// Whose setting.
    pub entity: Entity,
    /// Which, as Service Bus calls it, for example `requiresSession`.
    pub field: String,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub wanted: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether, while it stays so, events can be lost to this service or lose their order.
    pub harmful: bool,
}

/// What somebody else has made, or an earlier version of this service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Foreign {
    /// What.
    pub entity: Entity,
    /// What it means to this service.
    pub meaning: String,
    /// Whether `remove_surplus_rules` would remove it.
    pub removable: bool,
}

impl TopologyReport {
    /// Whether all is there and as it should be; what is foreign doesn't count.
    #[must_use]
    pub const fn is_as_wanted(&self) -> bool {
        self.missing.is_empty() && self.drift.is_empty()
    }

    /// Settings that lose events, or their order, while they stay as they are.
    pub fn harmful(&self) -> impl Iterator<Item = &Drift> {
        self.drift.iter().filter(|drift| drift.harmful)
    }
}

impl fmt::Display for TopologyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("everything is there, as it should be");
        }
        let mut first = true;
        let mut line = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            let newline = if std::mem::take(&mut first) { "" } else { "\n" };
            write!(f, "{newline}{text}")
        };
        for (word, entities) in
            [("created", &self.created), ("removed", &self.removed), ("missing", &self.missing)]
        {
            for entity in entities {
                line(f, format_args!("{word}: {entity}"))?;
            }
        }
        for drift in &self.drift {
            line(f, format_args!("{drift}"))?;
        }
        for foreign in &self.foreign {
            line(f, format_args!("left alone: {}: {}", foreign.entity, foreign.meaning))?;
        }
        Ok(())
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entity, field, found, wanted, remedy, harmful } = self;
        let word = if *harmful { "HARMFUL" } else { "drift" };
        write!(f, "{word}: {entity}: {field} is {found} and should be {wanted}; {remedy}")
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Subscription { topic, name } => write!(f, "subscription {name} on topic {topic}"),
            Self::Rule { topic, subscription, name } => {
                write!(f, "rule {name} of subscription {subscription} on topic {topic}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_a_line_for_each_finding() {
        let entity = Entity::Subscription { topic: "orders".into(), name: "billing".into() };
        let rule =
            Entity::Rule { topic: "orders".into(), subscription: "billing".into(), name: "$Default".into() };
        let report = TopologyReport {
            created: vec![Entity::Topic("orders".into())],
            drift: vec![Drift {
                entity,
                field: "requiresSession".into(),
                found: "false".into(),
                wanted: "true".into(),
                remedy: "create it anew".into(),
                harmful: true,
            }],
            foreign: vec![Foreign {
                entity: rule,
                meaning: "lets everything through".into(),
                removable: true,
            }],
            ..TopologyReport::default()
        };
        assert_eq!(
            report.to_string(),
            "created: topic orders\n\
             HARMFUL: subscription billing on topic orders: requiresSession is false and should be true; create it anew\n\
             left alone: rule $Default of subscription billing on topic orders: lets everything through"
        );
        assert_eq!((report.is_as_wanted(), report.harmful().count()), (false, 1));
        assert_eq!(TopologyReport::default().to_string(), "everything is there, as it should be");
    }
}
