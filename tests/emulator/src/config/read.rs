//! From a file's text to a [`Config`].

use std::collections::{BTreeMap, BTreeSet};

use super::json::{self, Json, Member, Node};
use super::walk::{Notes, Object, join};
use super::{Config, Mistakes, Subscription};
use crate::model::{
    CorrelationFilter, EntityPath, Filter, QueueSettings, RuleSettings, SqlAction, Status,
    SubscriptionSettings, TopicSettings, Value,
};

/// The official emulator's limit of subscriptions and entities is not ours: the model has Service Bus's own.
pub(super) fn config(text: &str) -> Result<Config, Mistakes> {
    let mut notes = Notes::default();
    let mut reader = Reader { config: Config::default(), names: BTreeSet::new(), forwards: Vec::new() };
    match json::parse(text) {
        Err((line, error)) => notes.add(line, "", error),
        Ok(node) => reader.file(&mut notes, &node),
    }
    for forward in &reader.forwards {
        let known = reader.names.contains(&forward.to) && forward.to.topic().is_none();
        if !known {
            let text = format!("there is no queue or topic '{}'", forward.to);
            notes.add(forward.line, &forward.key, text);
        } else if forward.to == forward.from {
            notes.add(forward.line, &forward.key, "an entity cannot forward to itself");
        }
    }
    notes.into_result(reader.config)
}

struct Reader {
    config: Config,
    names: BTreeSet<EntityPath>,
    /// Looked at when all entities are known.
    forwards: Vec<Forward>,
}

struct Forward {
    from: EntityPath,
    to: EntityPath,
    line: usize,
    key: String,
}

impl Reader {
    fn file(&mut self, notes: &mut Notes, node: &Node) {
        let Some(mut file) = notes.object(node, "") else { return };
        match file.get("UserConfig") {
            None => notes.add(file.line, "UserConfig", "it is missing"),
            Some(node) => {
                if let Some(user) = notes.object(node, "UserConfig") {
                    self.user(notes, user);
                }
            }
        }
        file.finish(notes);
    }

    fn user(&mut self, notes: &mut Notes, mut user: Object<'_>) {
        if let Some(node) = user.get("Namespaces") {
            let key = user.key_of("Namespaces");
            for (index, (key, node)) in notes.items(node, &key).into_iter().enumerate() {
                if index > 0 {
                    notes.add(
                        node.line,
                        &key,
                        "an emulator has one namespace: start another for another namespace",
                    );
                } else if let Some(namespace) = notes.object(node, &key) {
                    self.namespace(notes, namespace);
                }
            }
        }
        // Where the official emulator writes its log; this one's goes to standard error.
        let logging = user.key_of("Logging");
        if let Some(mut logging) = user.get("Logging").and_then(|node| notes.object(node, &logging)) {
            logging.text(notes, "Type");
            logging.finish(notes);
        }
        user.finish(notes);
    }

    fn namespace(&mut self, notes: &mut Notes, mut namespace: Object<'_>) {
        if let Some(name) = namespace.text(notes, "Name") {
            self.config.namespace = name;
        }
        if let Some(node) = namespace.get("Queues") {
            let key = namespace.key_of("Queues");
            for (key, node) in notes.items(node, &key) {
                if let Some(queue) = notes.object(node, &key) {
                    self.queue(notes, queue);
                }
            }
        }
        if let Some(node) = namespace.get("Topics") {
            let key = namespace.key_of("Topics");
            for (key, node) in notes.items(node, &key) {
                if let Some(topic) = notes.object(node, &key) {
                    self.topic(notes, topic);
                }
            }
        }
        namespace.finish(notes);
    }

    /// An entity's name; none where it has none of its own.
    fn name(
        &mut self,
        notes: &mut Notes,
        object: &mut Object<'_>,
        topic: Option<&EntityPath>,
    ) -> Option<EntityPath> {
        let (line, key) = (object.line_of("Name"), object.key_of("Name"));
        let Some(name) = object.text(notes, "Name") else {
            if object.get("Name").is_none() {
                notes.add(line, &key, "it is missing");
            }
            return None;
        };
        let path = match topic {
            Some(topic) => EntityPath::subscription(&topic.to_string(), &name),
            None => EntityPath::parse(&name),
        };
        match path {
            Err(fault) => notes.add(line, &key, fault.text),
            Ok(path) if topic.is_none() && (path.topic().is_some() || path != path.entity()) => {
                notes.add(line, &key, format!("`{name}` is not the name of a queue or a topic"));
            }
            Ok(path) if !self.names.insert(path.clone()) => {
                notes.add(line, &key, format!("`{path}` is there twice; case does not count"));
            }
            Ok(path) => return Some(path),
        }
        None
    }

    fn properties<'a>(&self, notes: &mut Notes, object: &mut Object<'a>) -> Option<Object<'a>> {
        let key = object.key_of("Properties");
        object.get("Properties").and_then(|node| notes.object(node, &key))
    }

    fn forward(
        &mut self,
        notes: &mut Notes,
        from: Option<&EntityPath>,
        properties: &mut Object<'_>,
        name: &'static str,
    ) -> Option<EntityPath> {
        // The official emulator takes an empty text for none.
        let text = properties.text(notes, name).filter(|text| !text.is_empty())?;
        let (line, key) = (properties.line_of(name), properties.key_of(name));
        match EntityPath::parse(&text) {
            Err(fault) => {
                notes.add(line, &key, fault.text);
                None
            }
            Ok(to) => {
                if let Some(from) = from.cloned() {
                    self.forwards.push(Forward { from, to: to.clone(), line, key });
                }
                Some(to)
            }
        }
    }

    fn queue(&mut self, notes: &mut Notes, mut queue: Object<'_>) {
        let path = self.name(notes, &mut queue, None);
        let mut s = QueueSettings::default();
        if let Some(mut p) = self.properties(notes, &mut queue) {
            p.boolean(notes, "DeadLetteringOnMessageExpiration", &mut s.dead_lettering_on_message_expiration);
            p.span(notes, "DefaultMessageTimeToLive", &mut s.default_message_time_to_live);
            p.span(
                notes,
                "DuplicateDetectionHistoryTimeWindow",
                &mut s.duplicate_detection_history_time_window,
            );
            s.forward_dead_lettered_messages_to =
                self.forward(notes, path.as_ref(), &mut p, "ForwardDeadLetteredMessagesTo");
            s.forward_to = self.forward(notes, path.as_ref(), &mut p, "ForwardTo");
            p.span(notes, "LockDuration", &mut s.lock_duration);
            p.number(notes, "MaxDeliveryCount", &mut s.max_delivery_count);
            p.boolean(notes, "RequiresDuplicateDetection", &mut s.requires_duplicate_detection);
            p.boolean(notes, "RequiresSession", &mut s.requires_session);
            p.number(notes, "MaxSizeInMegabytes", &mut s.max_size_in_megabytes);
            p.number(notes, "MaxMessageSizeInKilobytes", &mut s.max_message_size_in_kilobytes);
            p.span(notes, "AutoDeleteOnIdle", &mut s.auto_delete_on_idle);
            p.boolean(notes, "EnableBatchedOperations", &mut s.enable_batched_operations);
            p.boolean(notes, "EnablePartitioning", &mut s.enable_partitioning);
            p.boolean(notes, "EnableExpress", &mut s.enable_express);
            s.user_metadata = p.text(notes, "UserMetadata");
            s.status = status(notes, &mut p);
            p.settings(notes, s.mistakes());
            p.finish(notes);
        }
        queue.finish(notes);
        self.config.queues.extend(path.map(|path| (path, s)));
    }

    fn topic(&mut self, notes: &mut Notes, mut topic: Object<'_>) {
        let path = self.name(notes, &mut topic, None);
        let mut s = TopicSettings::default();
        if let Some(mut p) = self.properties(notes, &mut topic) {
            p.span(notes, "DefaultMessageTimeToLive", &mut s.default_message_time_to_live);
            p.span(
                notes,
                "DuplicateDetectionHistoryTimeWindow",
                &mut s.duplicate_detection_history_time_window,
            );
            p.boolean(notes, "RequiresDuplicateDetection", &mut s.requires_duplicate_detection);
            p.number(notes, "MaxSizeInMegabytes", &mut s.max_size_in_megabytes);
            p.number(notes, "MaxMessageSizeInKilobytes", &mut s.max_message_size_in_kilobytes);
            p.span(notes, "AutoDeleteOnIdle", &mut s.auto_delete_on_idle);
            p.boolean(notes, "EnableBatchedOperations", &mut s.enable_batched_operations);
            p.boolean(notes, "EnablePartitioning", &mut s.enable_partitioning);
            p.boolean(notes, "EnableExpress", &mut s.enable_express);
            p.boolean(notes, "SupportOrdering", &mut s.support_ordering);
            s.user_metadata = p.text(notes, "UserMetadata");
            s.status = status(notes, &mut p);
            p.settings(notes, s.mistakes());
            p.finish(notes);
        }
        if let Some(node) = topic.get("Subscriptions") {
            let key = topic.key_of("Subscriptions");
            for (key, node) in notes.items(node, &key) {
                if let Some(subscription) = notes.object(node, &key) {
                    self.subscription(notes, path.as_ref(), subscription);
                }
            }
        }
        topic.finish(notes);
        self.config.topics.extend(path.map(|path| (path, s)));
    }

    fn subscription(&mut self, notes: &mut Notes, topic: Option<&EntityPath>, mut subscription: Object<'_>) {
        // Below a topic whose name is wrong everything else is still looked at.
        let nowhere = EntityPath::parse("~").ok();
        let path = self.name(notes, &mut subscription, topic.or(nowhere.as_ref()));
        let mut s = SubscriptionSettings::default();
        if let Some(mut p) = self.properties(notes, &mut subscription) {
            p.boolean(notes, "DeadLetteringOnMessageExpiration", &mut s.dead_lettering_on_message_expiration);
            p.span(notes, "DefaultMessageTimeToLive", &mut s.default_message_time_to_live);
            p.span(notes, "LockDuration", &mut s.lock_duration);
            p.number(notes, "MaxDeliveryCount", &mut s.max_delivery_count);
            s.forward_dead_lettered_messages_to =
                self.forward(notes, path.as_ref(), &mut p, "ForwardDeadLetteredMessagesTo");
            s.forward_to = self.forward(notes, path.as_ref(), &mut p, "ForwardTo");
            p.boolean(notes, "RequiresSession", &mut s.requires_session);
            let on_exceptions = &mut s.dead_lettering_on_filter_evaluation_exceptions;
            p.boolean(notes, "DeadLetteringOnFilterEvaluationExceptions", on_exceptions);
            p.span(notes, "AutoDeleteOnIdle", &mut s.auto_delete_on_idle);
            p.boolean(notes, "EnableBatchedOperations", &mut s.enable_batched_operations);
            s.user_metadata = p.text(notes, "UserMetadata");
            s.status = status(notes, &mut p);
            p.settings(notes, s.mistakes());
            p.finish(notes);
        }
        let mut rules: Vec<(String, RuleSettings)> = Vec::new();
        if let Some(node) = subscription.get("Rules") {
            let key = subscription.key_of("Rules");
            for (key, node) in notes.items(node, &key) {
                let Some(object) = notes.object(node, &key) else { continue };
                let line = object.line_of("Name");
                let Some((name, settings)) = rule(notes, object) else { continue };
                if rules.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                    notes.add(
                        line,
                        &join(&key, "Name"),
                        format!("`{name}` is there twice; case does not count"),
                    );
                }
                rules.push((name, settings));
            }
        }
        subscription.finish(notes);
        self.config.subscriptions.extend(path.map(|path| Subscription { path, settings: s, rules }));
    }
}

fn status(notes: &mut Notes, properties: &mut Object<'_>) -> Status {
    let Some(text) = properties.text(notes, "Status") else { return Status::Active };
    match text.as_str() {
        "Active" => Status::Active,
        "Disabled" => Status::Disabled,
        "SendDisabled" => Status::SendDisabled,
        "ReceiveDisabled" => Status::ReceiveDisabled,
        _ => {
            let text = format!("`{text}` is none of Active, Disabled, SendDisabled, ReceiveDisabled");
            notes.add(properties.line_of("Status"), &properties.key_of("Status"), text);
            Status::Active
        }
    }
}

fn rule(notes: &mut Notes, mut rule: Object<'_>) -> Option<(String, RuleSettings)> {
    let name = rule.text(notes, "Name");
    if name.is_none() {
        notes.add(rule.line_of("Name"), &rule.key_of("Name"), "it is missing");
    }
    let key = rule.key_of("Properties");
    let properties = rule.get("Properties").and_then(|node| notes.object(node, &key));
    rule.finish(notes);
    let mut properties = properties?;
    let kind = properties.text(notes, "FilterType");
    let sql_filter = expression(notes, &mut properties, "SqlFilter");
    let correlation = properties.get("CorrelationFilter").and_then(|node| {
        let key = properties.key_of("CorrelationFilter");
        notes.object(node, &key).map(|filter| correlation(notes, filter))
    });
    let action = expression(notes, &mut properties, "Action");
    let parameters = BTreeMap::new;
    let line = properties.line_of("FilterType");
    let key = properties.key_of("FilterType");
    let filter = match (kind.as_deref(), sql_filter, correlation) {
        (Some("Sql"), Some(expression), _) => Filter::Sql { expression, parameters: parameters() },
        (Some("Correlation"), _, Some(filter)) => Filter::Correlation(filter),
        (Some("True"), ..) => Filter::True,
        (Some("False"), ..) => Filter::False,
        (Some(kind @ ("Sql" | "Correlation")), ..) => {
            notes.add(line, &key, format!("`{kind}` wants a {kind}Filter beside it"));
            return None;
        }
        (Some(other), ..) => {
            notes.add(line, &key, format!("`{other}` is none of Correlation, Sql, True, False"));
            return None;
        }
        // Either filter says by itself what it is.
        (None, Some(expression), None) => Filter::Sql { expression, parameters: parameters() },
        (None, None, Some(filter)) => Filter::Correlation(filter),
        (None, None, None) => Filter::True,
        (None, Some(_), Some(_)) => {
            notes.add(line, &key, "it is missing, and there are two filters");
            return None;
        }
    };
    let action = action.map(|expression| SqlAction { expression, parameters: parameters() });
    let settings = RuleSettings { filter, action };
    properties.settings(notes, settings.mistakes());
    properties.finish(notes);
    name.map(|name| (name, settings))
}

/// The `SqlExpression` of a filter or an action; an action may also be empty.
fn expression(notes: &mut Notes, properties: &mut Object<'_>, name: &'static str) -> Option<String> {
    let key = properties.key_of(name);
    let mut object = properties.get(name).and_then(|node| notes.object(node, &key))?;
    let expression = object.text(notes, "SqlExpression").filter(|text| !text.is_empty());
    if expression.is_none() && name == "SqlFilter" && object.get("SqlExpression").is_none() {
        notes.add(object.line, &object.key_of("SqlExpression"), "it is missing");
    }
    object.finish(notes);
    expression
}

fn correlation(notes: &mut Notes, mut filter: Object<'_>) -> CorrelationFilter {
    let properties = filter.get("Properties").and_then(|node| {
        let key = filter.key_of("Properties");
        notes.object(node, &key)
    });
    let mut values = BTreeMap::new();
    for Member { name, line, node } in properties.iter().flat_map(|properties| properties.all()) {
        let value = match &node.value {
            Json::Text(text) => Value::String(text.clone()),
            Json::Integer(number) => Value::Long(*number),
            Json::Double(number) => Value::Double(*number),
            Json::Bool(truth) => Value::Bool(*truth),
            other => {
                let key = join(&filter.key_of("Properties"), name);
                notes.add(*line, &key, format!("{} cannot be compared with", other.kind()));
                continue;
            }
        };
        values.insert(name.clone(), value);
    }
    let correlation = CorrelationFilter {
        correlation_id: filter.text(notes, "CorrelationId"),
        message_id: filter.text(notes, "MessageId"),
        to: filter.text(notes, "To"),
        reply_to: filter.text(notes, "ReplyTo"),
        label: filter.text(notes, "Label"),
        session_id: filter.text(notes, "SessionId"),
        reply_to_session_id: filter.text(notes, "ReplyToSessionId"),
        content_type: filter.text(notes, "ContentType"),
        properties: values,
    };
    filter.finish(notes);
    correlation
}
