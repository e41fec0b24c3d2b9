//! Looking at a namespace without changing it.

use bytes::Bytes;

use super::queue::{Kind, MOST_PEEKED, Queue};
use super::topic::{Rules, Topic};
use super::{
    Counts, Delivery, EntityInfo, EntityPath, Fault, Filter, Model, QueueInfo, ReceiverId, RuleInfo,
    SubQueue, SubscriptionInfo, Time, TopicInfo,
};

impl Model {
    /// Whether a receiver could be opened there, with or without a session: for a link that is about to be attached.
    pub fn check_receiver(&self, entity: &EntityPath, session: bool) -> Result<(), Fault> {
        self.queue(entity)?.check_receiver(entity.sub(), session)
    }

    /// Messages in order from a sequence number on, without a lock: active, locked, deferred and scheduled ones. At a
    /// topic the scheduled ones that it holds.
    pub fn peek(
        &self,
        entity: &EntityPath,
        session: Option<&str>,
        from: i64,
        max: u32,
    ) -> Result<Vec<Delivery>, Fault> {
        if entity.sub() == SubQueue::Main
            && let Some(topic) = self.topics.get(entity)
        {
            return Ok(topic.peek(from, max.min(MOST_PEEKED)));
        }
        Ok(self.queue(entity)?.peek(entity.sub(), session, from, max))
    }

    /// The state of a session that is locked, by `receiver` where one is named.
    pub fn session_state(
        &self,
        entity: &EntityPath,
        receiver: Option<ReceiverId>,
        session: &str,
    ) -> Result<Option<Bytes>, Fault> {
        self.check_receiver(entity, true)?;
        self.queue(entity)?.session_state(receiver, session)
    }

    /// Sessions in order of their ids: with messages or a state, or (`since`) whose state was set since then.
    pub fn sessions(
        &self,
        entity: &EntityPath,
        since: Option<Time>,
        skip: u32,
        top: u32,
    ) -> Result<Vec<String>, Fault> {
        self.check_receiver(entity, true)?;
        self.queue(entity)?.list_sessions(since, skip, top)
    }

    /// One entity, seen from the management API. A path with a sub-queue has none.
    #[must_use]
    pub fn entity(&self, path: &EntityPath) -> Option<EntityInfo> {
        let topic = || self.topics.get(path).map(|topic| EntityInfo::Topic(self.topic_info(topic)));
        self.queues.get(path).map(queue_info).or_else(topic)
    }

    /// All queues and topics in order of their names.
    #[must_use]
    pub fn entities(&self) -> Vec<EntityInfo> {
        let queues = self.queues.iter().filter(|(path, _)| !path.is_subscription());
        let queues = queues.map(|(path, queue)| (path, queue_info(queue)));
        let topics =
            self.topics.iter().map(|(path, topic)| (path, EntityInfo::Topic(self.topic_info(topic))));
        let mut all: Vec<_> = queues.chain(topics).collect();
        all.sort_by_key(|(path, _)| *path);
        all.into_iter().map(|(_, info)| info).collect()
    }

    /// A topic's subscriptions in order of their names; none when there is no such topic.
    #[must_use]
    pub fn subscriptions(&self, topic: &EntityPath) -> Option<Vec<EntityInfo>> {
        let paths = self.topics.get(topic)?.subscriptions.keys();
        Some(paths.filter_map(|path| self.queues.get(path)).map(queue_info).collect())
    }

    /// A subscription's rules in order of their names; none when there is no such subscription.
    #[must_use]
    pub fn rules(&self, subscription: &EntityPath) -> Option<Vec<RuleInfo>> {
        let rules = self.topics.get(&subscription.topic()?)?.subscriptions.get(subscription)?;
        Some(rules.values().map(super::topic::Rule::info).collect())
    }

    pub(super) fn topic_bytes(&self, topic: &Topic) -> u64 {
        let queues = topic.subscriptions.keys().filter_map(|path| self.queues.get(path));
        topic.scheduled_bytes() + queues.map(Queue::bytes).sum::<u64>()
    }

    fn topic_info(&self, topic: &Topic) -> TopicInfo {
        let rules = || topic.subscriptions.values().flat_map(Rules::values);
        let correlation = rules().filter(|rule| matches!(rule.filter(), Filter::Correlation(_))).count();
        TopicInfo {
            path: topic.path.clone(),
            settings: topic.settings.clone(),
            stamps: topic.stamps,
            counts: Counts { scheduled: topic.scheduled_count(), ..Counts::default() },
            size_in_bytes: self.topic_bytes(topic),
            subscription_count: count(topic.subscriptions.len()),
            sql_filter_count: count(rules().count() - correlation),
            correlation_filter_count: count(correlation),
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn queue_info(queue: &Queue) -> EntityInfo {
    let (path, stamps, counts) = (queue.path.clone(), queue.stamps, queue.counts());
    match &queue.kind {
        Kind::Queue(settings) => EntityInfo::Queue(QueueInfo {
            path,
            settings: settings.clone(),
            stamps,
            counts,
            size_in_bytes: queue.bytes(),
        }),
        Kind::Subscription(settings) => {
            EntityInfo::Subscription(SubscriptionInfo { path, settings: settings.clone(), stamps, counts })
        }
    }
}
