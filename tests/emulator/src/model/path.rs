//! Addresses of entities: parsed without regard to case, compared without regard to case, shown as written.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Fault;

const SUBSCRIPTIONS: &str = "/subscriptions/";
const DEAD_LETTER: &str = "/$deadletterqueue";
const TRANSFER: &str = "/$transfer/$deadletterqueue";
/// <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas>
const LONGEST_PATH: usize = 260;
const LONGEST_NAME: usize = 50;

/// Which of an entity's queues is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SubQueue {
    /// The entity itself.
    Main,
    /// `/$DeadLetterQueue`
    DeadLetter,
    /// `/$Transfer/$DeadLetterQueue`
    TransferDeadLetter,
}

/// `queue`, `topic`, `topic/Subscriptions/sub`, each with an optional sub-queue behind it. Cheap to clone.
#[derive(Clone)]
pub struct EntityPath {
    /// Without the sub-queue, in the spelling it came in.
    shown: Arc<str>,
    /// The same in lower case: what is compared.
    key: Arc<str>,
    sub: SubQueue,
    /// Where the topic's name ends, for a subscription.
    topic_end: Option<usize>,
}

impl EntityPath {
    /// Reads an address: a bare path, one with a leading slash, or a URL, whose scheme and authority don't count.
    ///
    /// `$cbs` and `…/$management` are the doors' own business and are refused here.
    pub fn parse(address: &str) -> Result<Self, Fault> {
        let path = match address.find("://") {
            Some(scheme) => {
                let rest = &address[scheme + 3..];
                rest.find('/').map_or("", |slash| &rest[slash..])
            }
            None => address,
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        // ASCII lower case keeps every byte's place, so that positions in one are positions in the other.
        let lower = path.to_ascii_lowercase();
        let (end, sub) = if let Some(entity) = lower.strip_suffix(TRANSFER) {
            (entity.len(), SubQueue::TransferDeadLetter)
        } else if let Some(entity) = lower.strip_suffix(DEAD_LETTER) {
            (entity.len(), SubQueue::DeadLetter)
        } else {
            (lower.len(), SubQueue::Main)
        };
        let (shown, key) = (&path[..end], &lower[..end]);
        let topic_end = key.find(SUBSCRIPTIONS);
        if let Some(topic) = topic_end {
            check(&key[..topic], LONGEST_PATH, address, true)?;
            check(&key[topic + SUBSCRIPTIONS.len()..], LONGEST_NAME, address, false)?;
        } else {
            check(key, LONGEST_PATH, address, true)?;
        }
        Ok(Self { shown: shown.into(), key: key.into(), sub, topic_end })
    }

    /// The subscription `name` of `topic`.
    pub fn subscription(topic: &str, name: &str) -> Result<Self, Fault> {
        Self::parse(&format!("{topic}/Subscriptions/{name}"))
    }

    /// The same entity's other queue.
    #[must_use]
    pub fn with(&self, sub: SubQueue) -> Self {
        Self { sub, ..self.clone() }
    }

    /// The entity without its sub-queue.
    #[must_use]
    pub fn entity(&self) -> Self {
        self.with(SubQueue::Main)
    }

    /// Which of the entity's queues is meant.
    #[must_use]
    pub fn sub(&self) -> SubQueue {
        self.sub
    }

    /// The topic's path, when this is a subscription.
    #[must_use]
    pub fn topic(&self) -> Option<Self> {
        let end = self.topic_end?;
        Some(Self {
            shown: self.shown[..end].into(),
            key: self.key[..end].into(),
            sub: SubQueue::Main,
            topic_end: None,
        })
    }

    /// Whether it is one: cheaper than asking for the topic.
    #[must_use]
    pub fn is_subscription(&self) -> bool {
        self.topic_end.is_some()
    }

    /// The entity's own name: a subscription's without its topic, a queue's or topic's whole path; no sub-queue.
    #[must_use]
    pub fn name(&self) -> &str {
        self.topic_end.map_or(&*self.shown, |end| &self.shown[end + SUBSCRIPTIONS.len()..])
    }
}

fn check(name: &str, longest: usize, address: &str, slashes: bool) -> Result<(), Fault> {
    let wrong = |why: &str| {
        Err(Fault::argument(format!("`{}` is not the name of an entity: {why}", shorten(address))))
    };
    if name.is_empty() {
        return wrong("it is empty");
    }
    if name.chars().count() > longest {
        return wrong(&format!("it has more than {longest} characters"));
    }
    let parts = || name.split('/');
    if !slashes && parts().count() > 1 {
        return wrong("a subscription's name has no slash");
    }
    if parts().any(str::is_empty) {
        return wrong("a part between slashes is empty");
    }
    if let Some(c) = name.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '~')))
    {
        return wrong(&format!("{c:?} is not allowed"));
    }
    let ends = [name.chars().next(), name.chars().last()];
    if ends.into_iter().flatten().any(|c| matches!(c, '.' | '-')) {
        return wrong("it begins or ends with a dot or a hyphen");
    }
    Ok(())
}

fn shorten(address: &str) -> String {
    address.chars().take(80).collect()
}

impl fmt::Display for EntityPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)?;
        match self.sub {
            SubQueue::Main => Ok(()),
            SubQueue::DeadLetter => f.write_str("/$DeadLetterQueue"),
            SubQueue::TransferDeadLetter => f.write_str("/$Transfer/$DeadLetterQueue"),
        }
    }
}

impl fmt::Debug for EntityPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

impl PartialEq for EntityPath {
    fn eq(&self, other: &Self) -> bool {
        // Most often it is a clone.
        self.sub == other.sub && (Arc::ptr_eq(&self.key, &other.key) || self.key == other.key)
    }
}

impl Eq for EntityPath {}

impl Hash for EntityPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
        self.sub.hash(state);
    }
}

impl PartialOrd for EntityPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EntityPath {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.key, self.sub).cmp(&(&other.key, other.sub))
    }
}

impl Serialize for EntityPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntityPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_the_same_entity() {
        let plain = EntityPath::parse("Orders").unwrap();
        for same in
            ["orders", "/ORDERS", "amqps://localhost:5671/orders", "sb://ns.servicebus.windows.net/orders"]
        {
            assert_eq!(EntityPath::parse(same).unwrap(), plain, "{same}");
        }
        assert_eq!(plain.to_string(), "Orders");
        let dead = EntityPath::parse("a/b/Subscriptions/S1/$deadletterqueue").unwrap();
        assert_eq!(dead.sub(), SubQueue::DeadLetter);
        assert_eq!(dead.topic(), Some(EntityPath::parse("A/B").unwrap()));
        assert_eq!(dead.name(), "S1");
        assert_eq!(dead.entity(), EntityPath::subscription("a/b", "s1").unwrap());
        assert_eq!(dead.to_string(), "a/b/Subscriptions/S1/$DeadLetterQueue");
        let transfer = EntityPath::parse("q/$Transfer/$DeadLetterQueue").unwrap();
        assert_eq!((transfer.sub(), transfer.name()), (SubQueue::TransferDeadLetter, "q"));
        assert_ne!(transfer, transfer.entity());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(261);
        for wrong in [
            "",
            "/",
            "amqp://host",
            "a//b",
            "q/",
            "q/$management",
            "$cbs",
            "q/$deadletterqueue/x",
            "t/subscriptions/",
            "t/subscriptions/a/b",
            "//subscriptions/s",
            "a b",
            "q?",
            ".a",
            "a-",
            &long,
        ] {
            assert!(EntityPath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
