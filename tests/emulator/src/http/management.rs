//! The management API: create, get, list, update and delete entities and rules, in Atom.

use hyper::body::{Bytes, Incoming};
use hyper::header::IF_MATCH;
use hyper::{Method, StatusCode};

use super::Inner;
use super::atom::{self, Entry, Version};
use super::request::{Asked, Refused, Reply, body, empty, reply};
use crate::model::Condition::ArgumentError;
use crate::model::{EntityInfo, EntityPath, Fault, Input, RuleInfo, SubQueue};

/// Bytes of a description.
const LARGEST: usize = 1024 * 1024;
/// Entries of a page.
const PAGE: u32 = 100;

const ENTRY: &str = "application/atom+xml;type=entry;charset=utf-8";
const FEED: &str = "application/atom+xml;type=feed;charset=utf-8";

/// What a path means here.
enum Target {
    Namespace,
    Queues,
    Topics,
    Entity(EntityPath),
    Subscriptions(EntityPath),
    Rules(EntityPath),
    Rule(EntityPath, String),
}

impl Target {
    fn of(path: &str) -> Result<Self, Refused> {
        let segments: Vec<&str> = path.split('/').collect();
        let lower = path.to_ascii_lowercase();
        match lower.as_str() {
            "$namespaceinfo" => return Ok(Self::Namespace),
            "$resources/queues" => return Ok(Self::Queues),
            "$resources/topics" => return Ok(Self::Topics),
            _ => {}
        }
        // A name can have slashes in it, but no part of a topic's is called so.
        let subscriptions =
            segments.iter().skip(1).position(|part| part.eq_ignore_ascii_case("subscriptions"));
        let Some(at) = subscriptions.map(|position| position + 1) else {
            return Ok(Self::Entity(entity(path)?));
        };
        let topic = segments[..at].join("/");
        let rules = |part: &str| part.eq_ignore_ascii_case("rules");
        match &segments[at + 1..] {
            [] => Ok(Self::Subscriptions(entity(&topic)?)),
            [name] => Ok(Self::Entity(EntityPath::subscription(&topic, name)?)),
            [name, part] if rules(part) => Ok(Self::Rules(EntityPath::subscription(&topic, name)?)),
            [name, part, rule] if rules(part) => {
                Ok(Self::Rule(EntityPath::subscription(&topic, name)?, (*rule).to_owned()))
            }
            _ => Err(Refused::new(StatusCode::NOT_FOUND, format!("There is nothing at `{path}`."))),
        }
    }
}

fn entity(path: &str) -> Result<EntityPath, Refused> {
    let path = EntityPath::parse(path)?;
    if path.sub() != SubQueue::Main {
        let text = format!("`{path}` is part of its entity and has no description.");
        return Err(Refused::new(StatusCode::BAD_REQUEST, text));
    }
    Ok(path)
}

fn not_found(what: impl std::fmt::Display) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, format!("The entity '{what}' could not be found."))
}

pub(super) async fn answer(door: &Inner, asked: &Asked, incoming: Incoming) -> Result<Reply, Refused> {
    let call = Call { door, asked, version: Version::new(asked.query("api-version")) };
    let target = Target::of(&asked.path)?;
    match (&asked.method, target) {
        (&Method::GET, target) => call.get(target),
        (&Method::PUT, Target::Entity(path)) => call.put_entity(path, &description(incoming).await?).await,
        (&Method::PUT, Target::Rule(path, name)) => {
            call.put_rule(path, name, &description(incoming).await?).await
        }
        (&Method::DELETE, Target::Entity(path)) => call.apply(Input::DeleteEntity { path }).await,
        (&Method::DELETE, Target::Rule(subscription, name)) => {
            call.apply(Input::DeleteRule { subscription, name }).await
        }
        (_, Target::Entity(_) | Target::Rule(..)) => Err(Refused::method(asked, "GET, PUT, DELETE")),
        _ => Err(Refused::method(asked, "GET")),
    }
}

async fn description(incoming: Incoming) -> Result<Bytes, Refused> {
    let too_large = || {
        let text = format!("A description has at most {LARGEST} bytes.");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    body(incoming, LARGEST).await?.ok_or_else(too_large)
}

struct Call<'a> {
    door: &'a Inner,
    asked: &'a Asked,
    version: Version,
}

impl Call<'_> {
    async fn apply(&self, input: Input) -> Result<Reply, Refused> {
        self.door.host.apply(input).await?;
        Ok(empty(StatusCode::OK))
    }

    fn get(&self, target: Target) -> Result<Reply, Refused> {
        let host = &self.door.host;
        match target {
            Target::Namespace => {
                let created = self.door.created;
                let name = &self.door.namespace;
                let content = atom::namespace(name, created);
                let url = self.url("$namespaceinfo");
                let entry = Entry { url, title: name.clone(), published: created, updated: created, content };
                Ok(reply(StatusCode::OK, ENTRY, entry.document()))
            }
            Target::Queues => self.list("Queues", |call, skip, top| {
                let queues = host.read(|model, _| model.entities());
                let queues = queues.into_iter().filter(|info| matches!(info, EntityInfo::Queue(_)));
                Ok(call.page(queues, skip, top))
            }),
            Target::Topics => self.list("Topics", |call, skip, top| {
                let topics = host.read(|model, _| model.entities());
                let topics = topics.into_iter().filter(|info| matches!(info, EntityInfo::Topic(_)));
                Ok(call.page(topics, skip, top))
            }),
            Target::Subscriptions(topic) => self.list("Subscriptions", |call, skip, top| {
                let all =
                    host.read(|model, _| model.subscriptions(&topic)).ok_or_else(|| not_found(&topic))?;
                Ok(call.page(all.into_iter(), skip, top))
            }),
            Target::Rules(path) => self.list("Rules", |call, skip, top| {
                let all = host.read(|model, _| model.rules(&path)).ok_or_else(|| not_found(&path))?;
                let rules = all.iter().skip(skip).take(top + 1).map(|rule| call.rule(&path, rule));
                Ok(rules.collect())
            }),
            Target::Entity(path) => match host.read(|model, _| model.entity(&path)) {
                Some(info) => Ok(reply(StatusCode::OK, ENTRY, self.entry(&info).document())),
                None if path.topic().is_some() => Err(not_found(path)),
                // Service Bus's own way to say so of queues and topics.
                None => {
                    let url = self.url(&path.to_string());
                    let feed = atom::feed(&url, "Publicly Listed Services", host.now(), &[], None);
                    Ok(reply(StatusCode::OK, FEED, feed))
                }
            },
            Target::Rule(path, name) => {
                let entry =
                    self.find_rule(&path, &name).ok_or_else(|| not_found(format!("{path}/Rules/{name}")))?;
                Ok(reply(StatusCode::OK, ENTRY, entry.document()))
            }
        }
    }

    /// `read` gives one more than asked for where there is more.
    fn list(
        &self,
        title: &str,
        read: impl FnOnce(&Self, usize, usize) -> Result<Vec<Entry>, Refused>,
    ) -> Result<Reply, Refused> {
        let skip = self.asked.number("$skip")?.unwrap_or(0);
        let top = self.asked.number("$top")?.unwrap_or(PAGE).clamp(1, PAGE);
        let mut entries = read(self, skip as usize, top as usize)?;
        let more = entries.len() > top as usize;
        entries.truncate(top as usize);
        let url = self.url(&self.asked.path);
        let separator = if url.contains('?') { '&' } else { '?' };
        let next = more.then(|| format!("{url}{separator}$skip={}&$top={top}", skip.saturating_add(top)));
        let feed = atom::feed(&url, title, self.door.host.now(), &entries, next.as_deref());
        Ok(reply(StatusCode::OK, FEED, feed))
    }

    fn page(&self, all: impl Iterator<Item = EntityInfo>, skip: usize, top: usize) -> Vec<Entry> {
        all.skip(skip).take(top + 1).map(|info| self.entry(&info)).collect()
    }

    fn url(&self, path: &str) -> String {
        let url = self.asked.url(path);
        match self.asked.query("api-version") {
            Some(version) => format!("{url}?api-version={version}"),
            None => url,
        }
    }

    fn entry(&self, info: &EntityInfo) -> Entry {
        let forward_base = format!("sb://{}/", self.asked.host);
        let (path, stamps, content) = match info {
            EntityInfo::Queue(info) => {
                (&info.path, info.stamps, atom::queue(info, &forward_base, self.version))
            }
            EntityInfo::Topic(info) => (&info.path, info.stamps, atom::topic(info, self.version)),
            EntityInfo::Subscription(info) => {
                (&info.path, info.stamps, atom::subscription(info, &forward_base))
            }
        };
        Entry {
            url: self.url(&path.to_string()),
            title: path.name().to_owned(),
            published: stamps.created,
            updated: stamps.updated,
            content,
        }
    }

    fn rule(&self, path: &EntityPath, rule: &RuleInfo) -> Entry {
        Entry {
            url: self.url(&format!("{path}/Rules/{}", rule.name)),
            title: rule.name.clone(),
            published: rule.created,
            updated: rule.created,
            content: atom::rule(rule),
        }
    }

    fn find_rule(&self, path: &EntityPath, name: &str) -> Option<Entry> {
        let rules = self.door.host.read(|model, _| model.rules(path))?;
        let rule = rules.iter().find(|rule| rule.name.eq_ignore_ascii_case(name))?;
        Some(self.rule(path, rule))
    }

    /// An `If-Match` header makes an update of a creation.
    fn updates(&self) -> bool {
        self.asked.headers.contains_key(IF_MATCH)
    }

    fn done(&self, entry: &Entry) -> Reply {
        let status = if self.updates() { StatusCode::OK } else { StatusCode::CREATED };
        reply(status, ENTRY, entry.document())
    }

    async fn put_entity(&self, path: EntityPath, document: &[u8]) -> Result<Reply, Refused> {
        let kinds: &[&str] = match path.topic() {
            Some(_) => &["SubscriptionDescription"],
            None => &["QueueDescription", "TopicDescription"],
        };
        let element = atom::content(document, kinds)?;
        let path_of_entity = path.clone();
        let input = match (element.name.local.as_str(), self.updates()) {
            ("QueueDescription", false) => {
                Input::CreateQueue { path, settings: atom::read_queue(&element, self.version)? }
            }
            ("QueueDescription", true) => {
                Input::UpdateQueue { path, settings: atom::read_queue(&element, self.version)? }
            }
            ("TopicDescription", false) => {
                Input::CreateTopic { path, settings: atom::read_topic(&element, self.version)? }
            }
            ("TopicDescription", true) => {
                Input::UpdateTopic { path, settings: atom::read_topic(&element, self.version)? }
            }
            (_, false) => {
                let rule = atom::default_rule(&element)?;
                Input::CreateSubscription { path, settings: atom::read_subscription(&element)?, rule }
            }
            (_, true) => Input::UpdateSubscription { path, settings: atom::read_subscription(&element)? },
        };
        self.door.host.apply(input).await?;
        let info = self.door.host.read(|model, _| model.entity(&path_of_entity));
        info.map(|info| self.done(&self.entry(&info))).ok_or_else(|| not_found(path_of_entity))
    }

    async fn put_rule(
        &self,
        subscription: EntityPath,
        name: String,
        document: &[u8],
    ) -> Result<Reply, Refused> {
        let element = atom::content(document, &["RuleDescription"])?;
        let (written, rule) = atom::read_rule(&element)?;
        if written.is_some_and(|written| !written.eq_ignore_ascii_case(&name)) {
            let text = "The rule's Name is not the one in the path.";
            return Err(Fault::new(ArgumentError, text).into());
        }
        let (path, rule_name) = (subscription.clone(), name.clone());
        let input = match self.updates() {
            true => Input::UpdateRule { subscription, name, rule },
            false => Input::CreateRule { subscription, name, rule },
        };
        self.door.host.apply(input).await?;
        let entry = self.find_rule(&path, &rule_name);
        entry.map(|entry| self.done(&entry)).ok_or_else(|| not_found(format!("{path}/Rules/{rule_name}")))
    }
}
