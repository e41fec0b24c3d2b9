//! Files as people write them, with comments, trailing commas and blanks, and what is read from them.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::config::json::{self, Json, Member, Node};
use crate::model::{Filter, Span, Status};

fn any_json() -> impl Strategy<Value = Json> {
    let simple = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::Integer),
        prop::num::f64::NORMAL
            .prop_map(|n| n % 1e300)
            .prop_filter("whole ones are integers", |n| n.fract() != 0.0)
            .prop_map(Json::Double),
        any::<String>().prop_map(Json::Text),
    ];
    let node = |value| Node { line: 0, value };
    simple.prop_recursive(4, 40, 5, move |inner| {
        let member = (any::<String>(), inner.clone()).prop_map(move |(name, value)| Member {
            name,
            line: 0,
            node: node(value),
        });
        prop_oneof![
            prop::collection::vec(inner.prop_map(node), 0..5).prop_map(Json::Array),
            prop::collection::vec(member, 0..5).prop_map(Json::Object),
        ]
    })
}

/// What may stand wherever a blank may.
fn gap() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "",
        " ",
        "\n",
        "\r\n\t",
        "// a, \"b\" { }\n",
        "/* [ */",
        "/* two\nlines */",
        "/**/",
    ])
}

/// Writes JSON with gaps, noting the line of each value as it goes.
struct Writer {
    text: String,
    gaps: Vec<&'static str>,
    next: usize,
}

impl Writer {
    fn new(gaps: Vec<&'static str>) -> Self {
        Self { text: String::new(), gaps, next: 0 }
    }

    fn gap(&mut self) -> bool {
        self.next += 1;
        self.text += self.gaps[self.next % self.gaps.len()];
        self.next.is_multiple_of(3)
    }

    fn line(&self) -> usize {
        1 + self.text.matches('\n').count()
    }

    fn quoted(&mut self, text: &str) {
        self.text += &serde_json::to_string(text).unwrap();
    }

    /// The same value with its lines.
    fn node(&mut self, value: &Json) -> Node {
        let line = self.line();
        let value = match value {
            Json::Array(items) => {
                self.text.push('[');
                let all = items.iter().enumerate();
                let all =
                    all.map(|(index, item)| self.item(index, items.len(), |writer| writer.node(&item.value)));
                let all = all.collect();
                self.close(']');
                Json::Array(all)
            }
            Json::Object(members) => {
                self.text.push('{');
                let all = members.iter().enumerate().map(|(index, member)| {
                    self.item(index, members.len(), |writer| {
                        let line = writer.line();
                        writer.quoted(&member.name);
                        writer.gap();
                        writer.text.push(':');
                        writer.gap();
                        Member { name: member.name.clone(), line, node: writer.node(&member.node.value) }
                    })
                });
                let all = all.collect();
                self.close('}');
                Json::Object(all)
            }
            simple => {
                match simple {
                    Json::Bool(value) => write!(self.text, "{value}").unwrap(),
                    Json::Integer(value) => write!(self.text, "{value}").unwrap(),
                    Json::Double(value) => write!(self.text, "{value:e}").unwrap(),
                    Json::Text(text) => self.quoted(text),
                    _ => self.text += "null",
                }
                simple.clone()
            }
        };
        Node { line, value }
    }

    fn item<T>(&mut self, index: usize, count: usize, write: impl FnOnce(&mut Self) -> T) -> T {
        self.gap();
        let written = write(self);
        // The last may have a comma behind it, too.
        if self.gap() || index + 1 < count {
            self.text.push(',');
        }
        written
    }

    fn close(&mut self, sign: char) {
        self.gap();
        self.text.push(sign);
    }
}

/// A value's short form as an object: the file's own is long.
fn object(members: Vec<(&str, Json)>) -> Json {
    let member = |(name, value): (&str, Json)| Member { name: name.to_owned(), line: 0, node: node(value) };
    Json::Object(members.into_iter().map(member).collect())
}

fn node(value: Json) -> Node {
    Node { line: 0, value }
}

fn array(values: Vec<Json>) -> Json {
    Json::Array(values.into_iter().map(node).collect())
}

#[allow(clippy::needless_pass_by_value, reason = "for whoever has a text or what shows as one")]
fn text(value: impl ToString) -> Json {
    Json::Text(value.to_string())
}

fn span(most: u64) -> impl Strategy<Value = Span> {
    (1..=most, 0..1000_u64).prop_map(|(seconds, milliseconds)| Span(seconds * 1000 + milliseconds))
}

fn forever() -> impl Strategy<Value = Span> {
    prop_oneof![Just(Span::FOREVER), span(100_000_000)]
}

fn status() -> impl Strategy<Value = Status> {
    prop::sample::select(vec![
        Status::Active,
        Status::Disabled,
        Status::SendDisabled,
        Status::ReceiveDisabled,
    ])
}

fn any_queue() -> impl Strategy<Value = QueueSettings> {
    let spans = (span(299), forever(), span(604_799), forever());
    let flags = any::<[bool; 6]>();
    let numbers = (1..=81_920_u32, 1..=2000_u32, 1..=102_400_u32);
    (spans, flags, numbers, status(), prop::option::of("\\PC{0,20}")).prop_map(
        |(spans, flags, numbers, status, metadata)| {
            let [duplicates, sessions, expiry, batched, partitioned, express] = flags;
            QueueSettings {
                lock_duration: spans.0,
                max_size_in_megabytes: numbers.0,
                requires_duplicate_detection: duplicates,
                requires_session: sessions,
                default_message_time_to_live: spans.1,
                dead_lettering_on_message_expiration: expiry,
                duplicate_detection_history_time_window: spans.2,
                max_delivery_count: numbers.1,
                enable_batched_operations: batched,
                status,
                forward_to: None,
                forward_dead_lettered_messages_to: None,
                user_metadata: metadata,
                auto_delete_on_idle: spans.3,
                enable_partitioning: partitioned,
                enable_express: express,
                max_message_size_in_kilobytes: numbers.2,
            }
        },
    )
}

/// As a file says it.
fn queue(name: &str, queue: &QueueSettings) -> Json {
    let properties = vec![
        ("LockDuration", text(queue.lock_duration)),
        ("maxsizeinmegabytes", Json::Integer(queue.max_size_in_megabytes.into())),
        ("RequiresDuplicateDetection", Json::Bool(queue.requires_duplicate_detection)),
        ("REQUIRESSESSION", Json::Bool(queue.requires_session)),
        ("DefaultMessageTimeToLive", text(queue.default_message_time_to_live)),
        ("DeadLetteringOnMessageExpiration", Json::Bool(queue.dead_lettering_on_message_expiration)),
        ("DuplicateDetectionHistoryTimeWindow", text(queue.duplicate_detection_history_time_window)),
        ("MaxDeliveryCount", Json::Integer(queue.max_delivery_count.into())),
        ("EnableBatchedOperations", Json::Bool(queue.enable_batched_operations)),
        ("Status", text(format!("{:?}", queue.status))),
        // An empty text is none, and so is null.
        ("ForwardTo", text("")),
        ("ForwardDeadLetteredMessagesTo", Json::Null),
        ("UserMetadata", queue.user_metadata.as_ref().map_or(Json::Null, text)),
        ("AutoDeleteOnIdle", text(queue.auto_delete_on_idle)),
        ("EnablePartitioning", Json::Bool(queue.enable_partitioning)),
        ("enableExpress", Json::Bool(queue.enable_express)),
        ("MaxMessageSizeInKilobytes", Json::Integer(queue.max_message_size_in_kilobytes.into())),
    ];
    object(vec![("Name", text(name)), ("Properties", object(properties))])
}

/// Every order of an object's members says the same.
fn shuffled(json: Json, seed: &mut usize) -> Json {
    match json {
        Json::Object(mut members) => {
            for member in &mut members {
                member.node.value = shuffled(std::mem::replace(&mut member.node.value, Json::Null), seed);
            }
            *seed = seed.wrapping_mul(31).wrapping_add(7);
            let by = *seed % members.len().max(1);
            members.rotate_left(by);
            Json::Object(members)
        }
        Json::Array(mut items) => {
            for item in &mut items {
                item.value = shuffled(std::mem::replace(&mut item.value, Json::Null), seed);
            }
            Json::Array(items)
        }
        other => other,
    }
}

fn written(json: &Json, gaps: Vec<&'static str>) -> (String, Node) {
    let mut writer = Writer::new(gaps);
    writer.gap();
    let node = writer.node(json);
    writer.gap();
    (writer.text, node)
}

fn gaps() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(gap(), 1..30)
}

proptest! {
    #[test]
    fn what_is_written_is_read_with_its_lines(value in any_json(), gaps in gaps()) {
        let (text, node) = written(&value, gaps);
        prop_assert_eq!(json::parse(&text), Ok(node), "{}", text);
    }

    #[test]
    fn a_file_says_the_same_in_any_order_and_form(
        queues in prop::collection::vec(any_queue(), 0..4),
        sessions in any::<[bool; 3]>(),
        locks in prop::collection::vec(span(299), 3),
        // With a first letter that no keyword has.
        filter in prop::option::of("x[a-z]{0,4} = '[a-z ]{0,8}'"),
        gaps in gaps(),
        mut seed: usize,
    ) {
        let names: Vec<_> = (0..queues.len()).map(|index| format!("queue-{index}")).collect();
        let subscriptions = sessions.iter().zip(&locks).enumerate().map(|(index, (sessions, lock))| {
            let properties = object(vec![("RequiresSession", Json::Bool(*sessions)), ("lockduration", text(lock))]);
            let mut members = vec![("Name", text(format!("s{index}"))), ("Properties", properties)];
            if let Some(filter) = &filter {
                let sql = object(vec![("FilterType", text("Sql")), ("SqlFilter", object(vec![("SqlExpression", text(filter))]))]);
                members.push(("Rules", array(vec![object(vec![("Name", text("only")), ("Properties", sql)])])));
            }
            object(members)
        });
        let topic = object(vec![("Name", text("orders")), ("Subscriptions", array(subscriptions.collect()))]);
        let all = names.iter().zip(&queues).map(|(name, settings)| queue(name, settings)).collect();
        let namespace = object(vec![("Name", text("sbemulatorns")), ("Queues", array(all)), ("Topics", array(vec![topic]))]);
        let file = object(vec![("UserConfig", object(vec![("Namespaces", array(vec![namespace]))]))]);
        let (text, _) = written(&shuffled(file, &mut seed), gaps);

        let config = Config::parse(&text);
        prop_assert!(config.is_ok(), "{}\n{}", config.unwrap_err(), text);
        let config = config.unwrap();
        let expected: Vec<_> = names.iter().map(|name| EntityPath::parse(name).unwrap()).zip(queues).collect();
        prop_assert_eq!(config.queues, expected);
        prop_assert_eq!(config.topics, vec![(EntityPath::parse("orders").unwrap(), TopicSettings::default())]);
        let found: Vec<_> = config.subscriptions.iter().map(|it| (it.settings.requires_session, it.settings.lock_duration)).collect();
        prop_assert_eq!(found, sessions.into_iter().zip(locks).collect::<Vec<_>>());
        for subscription in &config.subscriptions {
            let rules: Vec<_> = subscription.rules.iter().map(|(_, rule)| rule.filter.clone()).collect();
            let sql = |expression: &String| Filter::Sql { expression: expression.clone(), parameters: Default::default() };
            prop_assert_eq!(rules, filter.iter().map(sql).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_mistake_has_a_line_of_the_file(value in any_json(), gaps in gaps(), cut in any::<prop::sample::Index>()) {
        let (text, _) = written(&object(vec![("UserConfig", value)]), gaps);
        let mut end = cut.index(text.len() + 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        for text in [&text[..], &text[..end]] {
            if let Err(mistakes) = Config::parse(text) {
                prop_assert!(!mistakes.0.is_empty() && mistakes.0.is_sorted());
                let lines = 1 + text.matches('\n').count();
                for Mistake { line, text, .. } in &mistakes.0 {
                    prop_assert!((1..=lines).contains(line) && !text.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_span_is_written_as_it_is_read(milliseconds: u64) {
        for span in [Span(milliseconds), Span(milliseconds % 1_000_000_000)] {
            let read = Span::parse(&span.to_string()).unwrap();
            prop_assert!(read == span || span.0 >= 922_337_203_685_000, "{span}: {read:?}");
        }
    }
}
