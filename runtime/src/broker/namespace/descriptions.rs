//! Topics, subscriptions and rules as the management API describes them.

use std::time::Duration;

use super::xml::{Element, Writer};
use crate::topology::{
    self, Filter, Rule, SubscriptionSettings, TopicSettings, read_span, show_span, write_span,
};

const ATOM: &str = "xmlns=\"http://www.w3.org/2005/Atom\"";
/// As the default namespace, because Service Bus takes no prefixed names.
const SERVICE_BUS: &str = "xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\" \
                           xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\"";

/// A setting by its name in a description, and what it is to be.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) wanted: Value,
    /// Whether it is written; the others are only looked at.
    written: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    Number(u32),
    /// None is for ever.
    Span(Option<Duration>),
    Text(&'static str),
    /// Nothing is to stand there.
    Nothing,
}

impl Value {
    /// What a description says, where it isn't this; for people.
    pub(super) fn otherwise(&self, found: Option<&str>) -> Option<String> {
        let Some(found) = found else {
            // Older versions of the API leave out what they don't know.
            return None;
        };
        let same = match self {
            Self::Bool(wanted) => found.eq_ignore_ascii_case(if *wanted { "true" } else { "false" }),
            Self::Number(wanted) => found.parse() == Ok(*wanted),
            Self::Span(wanted) => match read_span(found) {
                Some(read) if read == *wanted => true,
                Some(read) => return Some(shown(read)),
                None => false,
            },
            Self::Text(wanted) => found.eq_ignore_ascii_case(wanted),
            Self::Nothing => false,
        };
        (!same).then(|| found.to_owned())
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Span(span) => f.write_str(&shown(*span)),
            Self::Text(text) => f.write_str(text),
            Self::Nothing => f.write_str("not set"),
        }
    }
}

fn shown(span: Option<Duration>) -> String {
    span.map_or_else(|| "unlimited".to_owned(), show_span)
}

/// The settings of a topic, in the order in which Service Bus wants them.
pub(super) fn topic(settings: &TopicSettings) -> Vec<Setting> {
    use Value::{Bool, Span, Text};
    let mut all = vec![
        written("DefaultMessageTimeToLive", Span(settings.default_ttl)),
        written("RequiresDuplicateDetection", Bool(settings.duplicate_detection.is_some())),
    ];
    if settings.duplicate_detection.is_some() {
        all.push(written("DuplicateDetectionHistoryTimeWindow", Span(settings.duplicate_detection)));
    }
    all.extend([looked_at("Status", Text("Active")), looked_at("AutoDeleteOnIdle", Span(None))]);
    all
}

/// The settings of a subscription, in the order in which Service Bus wants them.
pub(super) fn subscription(settings: &SubscriptionSettings) -> Vec<Setting> {
    use Value::{Bool, Nothing, Number, Span, Text};
    let expiry = settings.dead_letter_on_expiry;
    let filter_error = settings.dead_letter_on_filter_error;
    vec![
        written("LockDuration", Span(Some(settings.lock_duration))),
        written("RequiresSession", Bool(settings.sessions)),
        written("DefaultMessageTimeToLive", Span(settings.default_ttl)),
        written("DeadLetteringOnMessageExpiration", Bool(expiry)),
        written("DeadLetteringOnFilterEvaluationExceptions", Bool(filter_error)),
        written("MaxDeliveryCount", Number(settings.max_delivery_count)),
        looked_at("Status", Text("Active")),
        looked_at("ForwardTo", Nothing),
        looked_at("ForwardDeadLetteredMessagesTo", Nothing),
        looked_at("AutoDeleteOnIdle", Span(None)),
    ]
}

const fn written(name: &'static str, wanted: Value) -> Setting {
    Setting { name, wanted, written: true }
}

const fn looked_at(name: &'static str, wanted: Value) -> Setting {
    Setting { name, wanted, written: false }
}

/// The document that creates a topic.
pub(super) fn new_topic(settings: &TopicSettings) -> String {
    entry("TopicDescription", |writer| {
        for setting in topic(settings).iter().filter(|setting| setting.written) {
            write(writer, setting);
        }
    })
}

/// The document that creates a subscription together with its first rule.
pub(super) fn new_subscription(subscription: &topology::Subscription) -> String {
    entry("SubscriptionDescription", |writer| {
        for setting in self::subscription(&subscription.settings).iter().filter(|setting| setting.written) {
            // Its place is before that of the number of deliveries.
            if setting.name == "MaxDeliveryCount"
                && let Some(rule) = subscription.rules.first()
            {
                writer.element("DefaultRuleDescription", "", |writer| inside_rule(writer, rule));
            }
            write(writer, setting);
        }
    })
}

/// The document that creates a rule.
pub(super) fn new_rule(rule: &Rule) -> String {
    entry("RuleDescription", |writer| inside_rule(writer, rule))
}

fn write(writer: &mut Writer, setting: &Setting) {
    let text = match &setting.wanted {
        Value::Span(span) => write_span(*span),
        other => other.to_string(),
    };
    writer.text(setting.name, &text);
}

fn inside_rule(writer: &mut Writer, rule: &Rule) {
    match &rule.filter {
        Filter::Everything => writer.element("Filter", "i:type=\"TrueFilter\"", |writer| {
            writer.text("SqlExpression", "1=1");
            writer.text("CompatibilityLevel", "20");
        }),
        Filter::Subject(event) => {
            writer.element("Filter", "i:type=\"CorrelationFilter\"", |writer| writer.text("Label", event));
        }
    }
    writer.element("Action", "i:type=\"EmptyRuleAction\"", |_| ());
    writer.text("Name", &rule.name);
}

fn entry(kind: &str, inside: impl FnOnce(&mut Writer)) -> String {
    let mut writer = Writer::default();
    writer.element("entry", ATOM, |writer| {
        writer.element("content", "type=\"application/xml\"", |writer| {
            writer.element(kind, SERVICE_BUS, inside);
        });
    });
    writer.finish()
}

/// A rule as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundRule {
    pub(super) name: String,
    pub(super) filter: FoundFilter,
    /// Whether it changes what it lets through, and so makes a copy of its own.
    pub(super) acts: bool,
}

/// What a rule lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FoundFilter {
    Known(Filter),
    Nothing,
    /// In words.
    Other(String),
}

impl FoundRule {
    /// Reads an entry of the list of rules.
    pub(super) fn read(entry: &Element) -> Option<Self> {
        let rule = entry.child("content")?.child("RuleDescription")?;
        let name = rule.text_of("Name").or_else(|| entry.text_of("title"))?.to_owned();
        let acts = rule
            .child("Action")
            .is_some_and(|action| action.kind.as_deref().is_some_and(|kind| kind != "EmptyRuleAction"));
        Some(Self { name, filter: FoundFilter::read(rule.child("Filter")?), acts })
    }

    /// Whether it does what a rule is to do, whatever it is called.
    pub(super) fn does(&self, rule: &Rule) -> bool {
        !self.acts && self.filter == FoundFilter::Known(rule.filter.clone())
    }
}

impl FoundFilter {
    fn read(filter: &Element) -> Self {
        let kind = filter.kind.as_deref().unwrap_or_default();
        let expression = filter.text_of("SqlExpression").unwrap_or_default();
        let plain: String = expression.chars().filter(|c| !c.is_whitespace()).collect();
        match (kind, plain.as_str()) {
            ("TrueFilter", _) | ("SqlFilter", "1=1") => Self::Known(Filter::Everything),
            ("FalseFilter", _) | ("SqlFilter", "1=0") => Self::Nothing,
            ("CorrelationFilter", _) => Self::correlation(filter),
            _ => Self::Other(format!("{kind} `{expression}`")),
        }
    }

    fn correlation(filter: &Element) -> Self {
        let set = |child: &&Element| !child.text.trim().is_empty() || !child.children.is_empty();
        let set: Vec<_> = filter.children.iter().filter(set).collect();
        match set.as_slice() {
            [label] if label.name == "Label" => Self::Known(Filter::Subject(label.text.clone())),
            _ => {
                let names: Vec<_> = set.iter().map(|child| child.name.as_str()).collect();
                Self::Other(format!("CorrelationFilter on {}", names.join(", ")))
            }
        }
    }
}

impl std::fmt::Display for FoundFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(filter) => f.write_str(&in_words(filter)),
            Self::Nothing => f.write_str("nothing"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// A filter for people.
pub(super) fn in_words(filter: &Filter) -> String {
    match filter {
        Filter::Everything => "every event".to_owned(),
        Filter::Subject(event) => format!("events of name {event}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Takes, Topology};

    fn read_rule(filter: &str, action: &str) -> FoundRule {
        let document = format!(
            "<entry xmlns='http://www.w3.org/2005/Atom'><title type='text'>r1</title><content type='application/xml'>\
             <RuleDescription xmlns:i='http://www.w3.org/2001/XMLSchema-instance'>{filter}{action}\
             <Name>r1</Name></RuleDescription></content></entry>"
        );
        FoundRule::read(&Element::parse(document.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_subscription_is_created_with_its_first_rule() {
        let mut topology = Topology::new("b", ["default"]);
        let events = Takes::Events(vec!["a & b".to_owned(), "c".to_owned()]);
        let subscription = topology.subscribe("orders", "billing", events, true);
        let document = new_subscription(subscription);
        let name = &subscription.rules[0].name;
        assert_eq!(
            document,
            format!(
                "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">\
                 <SubscriptionDescription {SERVICE_BUS}><LockDuration>PT1M</LockDuration>\
                 <RequiresSession>true</RequiresSession>\
                 <DefaultMessageTimeToLive>P10675199DT2H48M5.4775807S</DefaultMessageTimeToLive>\
                 <DeadLetteringOnMessageExpiration>true</DeadLetteringOnMessageExpiration>\
                 <DeadLetteringOnFilterEvaluationExceptions>true</DeadLetteringOnFilterEvaluationExceptions>\
                 <DefaultRuleDescription><Filter i:type=\"CorrelationFilter\"><Label>a &amp; b</Label></Filter>\
                 <Action i:type=\"EmptyRuleAction\"></Action><Name>{name}</Name></DefaultRuleDescription>\
                 <MaxDeliveryCount>100</MaxDeliveryCount></SubscriptionDescription></content></entry>"
            )
        );
    }

    #[test]
    fn a_topic_without_duplicate_detection_names_no_window() {
        let mut topology = Topology::new("b", ["default"]);
        let topic = topology.topic("orders");
        assert!(new_topic(&topic.settings).contains("<DuplicateDetectionHistoryTimeWindow>PT10M<"));
        topic.settings.duplicate_detection = None;
        let document = new_topic(&topic.settings);
        assert!(document.contains("<RequiresDuplicateDetection>false<"), "{document}");
        assert!(!document.contains("Window") && !document.contains("Status"), "{document}");
    }

    #[test]
    fn rules_are_known_by_what_they_do() {
        let everything = FoundFilter::Known(Filter::Everything);
        let label = "<Filter i:type='CorrelationFilter'><Label>placed</Label><Properties/></Filter>";
        for (filter, wanted) in [
            ("<Filter i:type='TrueFilter'><SqlExpression>1=1</SqlExpression></Filter>", everything.clone()),
            ("<Filter i:type='SqlFilter'><SqlExpression>1 = 1</SqlExpression></Filter>", everything),
            ("<Filter i:type='FalseFilter'/>", FoundFilter::Nothing),
            ("<Filter i:type='SqlFilter'><SqlExpression>1=0</SqlExpression></Filter>", FoundFilter::Nothing),
            (label, FoundFilter::Known(Filter::Subject("placed".to_owned()))),
            (
                "<Filter i:type='SqlFilter'><SqlExpression>color = 'red'</SqlExpression></Filter>",
                FoundFilter::Other("SqlFilter `color = 'red'`".to_owned()),
            ),
            (
                "<Filter i:type='CorrelationFilter'><Label>placed</Label><To>x</To></Filter>",
                FoundFilter::Other("CorrelationFilter on Label, To".to_owned()),
            ),
        ] {
            assert_eq!(read_rule(filter, "<Action i:type='EmptyRuleAction'/>").filter, wanted, "{filter}");
        }
        let rule = Rule { name: "other".to_owned(), filter: Filter::Subject("placed".to_owned()) };
        assert!(read_rule(label, "").does(&rule));
        assert!(!read_rule(label, "<Action i:type='SqlRuleAction'/>").does(&rule), "it would come twice");
    }

    #[test]
    fn values_are_compared_by_what_they_mean() {
        let minute = Value::Span(Some(Duration::from_secs(60)));
        assert_eq!(minute.otherwise(Some("PT60S")), None);
        assert_eq!(minute.otherwise(Some("PT1M30S")).as_deref(), Some("1 min 30 s"));
        assert_eq!(Value::Span(None).otherwise(Some("P10675199DT2H48M5.4775807S")), None);
        assert_eq!(Value::Bool(true).otherwise(Some("True")), None);
        assert_eq!(Value::Number(10).otherwise(Some("100")).as_deref(), Some("100"));
        assert_eq!(Value::Number(10).otherwise(None), None, "left out by an old version of the API");
        assert_eq!(Value::Nothing.otherwise(Some("sb://x/y")).as_deref(), Some("sb://x/y"));
    }
}
