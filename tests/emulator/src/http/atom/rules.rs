//! Rules: filters, actions, and the typed values in them.

use std::collections::BTreeMap;

use super::{SERVICE_BUS, description};
use crate::http::dates;
use crate::http::xml::{Element, Writer};
use crate::model::Condition::ArgumentError;
use crate::model::{CorrelationFilter, Fault, Filter, RuleInfo, RuleSettings, SqlAction};

use super::values::{self, XSD};

/// Clients check it; the language has no other level left.
const LEVEL: &str = "20";

type Parameters = BTreeMap<String, crate::model::Value>;

/// A `RuleDescription`.
#[must_use]
pub(crate) fn rule(info: &RuleInfo) -> String {
    description("RuleDescription", |writer| {
        filter(writer, &info.rule.filter);
        action(writer, info.rule.action.as_ref());
        writer.shown("CreatedAt", dates::iso(info.created));
        writer.text("Name", &[], &info.name);
    })
}

fn filter(writer: &mut Writer, filter: &Filter) {
    let none = Parameters::new();
    match filter {
        Filter::True => sql(writer, "Filter", "TrueFilter", "1=1", &none),
        Filter::False => sql(writer, "Filter", "FalseFilter", "1=0", &none),
        Filter::Sql { expression, parameters } => sql(writer, "Filter", "SqlFilter", expression, parameters),
        Filter::Correlation(filter) => {
            writer.element("Filter", &[("i:type", "CorrelationFilter")], |writer| {
                writer.optional("CorrelationId", filter.correlation_id.as_deref());
                writer.optional("MessageId", filter.message_id.as_deref());
                writer.optional("To", filter.to.as_deref());
                writer.optional("ReplyTo", filter.reply_to.as_deref());
                writer.optional("Label", filter.label.as_deref());
                writer.optional("SessionId", filter.session_id.as_deref());
                writer.optional("ReplyToSessionId", filter.reply_to_session_id.as_deref());
                writer.optional("ContentType", filter.content_type.as_deref());
                pairs(writer, "Properties", "", &filter.properties);
            })
        }
    }
}

fn action(writer: &mut Writer, action: Option<&SqlAction>) {
    match action {
        None => writer.empty("Action", &[("i:type", "EmptyRuleAction")]),
        Some(action) => sql(writer, "Action", "SqlRuleAction", &action.expression, &action.parameters),
    }
}

fn sql(writer: &mut Writer, name: &str, kind: &str, expression: &str, parameters: &Parameters) {
    writer.element(name, &[("i:type", kind)], |writer| {
        writer.text("SqlExpression", &[], expression);
        writer.text("CompatibilityLevel", &[], LEVEL);
        pairs(writer, "Parameters", "@", parameters);
    });
}

/// Left out when there are none: JavaScript's client can't read an empty list.
fn pairs(writer: &mut Writer, name: &str, sign: &str, pairs: &Parameters) {
    if pairs.is_empty() {
        return;
    }
    writer.element(name, &[], |writer| {
        for (key, value) in pairs {
            writer.element("KeyValueOfstringanyType", &[], |writer| {
                writer.shown("Key", format_args!("{sign}{key}"));
                let (kind, text) = values::write(value);
                // JavaScript's client cuts off the first five characters of the type, whatever they are.
                writer.text("Value", &[("i:type", &format!("d6p1:{kind}")), ("xmlns:d6p1", XSD)], &text);
            });
        }
    });
}

/// A `RuleDescription` and the name in it.
pub(crate) fn read_rule(element: &Element) -> Result<(Option<String>, RuleSettings), Fault> {
    let name = text(element, "Name");
    read(element)
        .map(|settings| (name, settings))
        .map_err(|why| Fault::new(ArgumentError, format!("{} is not valid: {why}.", element.name.local)))
}

/// The first rule of a subscription that is being created, where the client gives one.
pub(crate) fn default_rule(subscription: &Element) -> Result<Option<(String, RuleSettings)>, Fault> {
    let Some(element) = subscription.child(SERVICE_BUS, "DefaultRuleDescription") else { return Ok(None) };
    let (name, settings) = read_rule(element)?;
    Ok(Some((name.unwrap_or_else(|| String::from("$Default")), settings)))
}

fn read(element: &Element) -> Result<RuleSettings, String> {
    let filter = match element.child(SERVICE_BUS, "Filter") {
        None => Filter::True,
        Some(filter) => match kind(filter)? {
            "TrueFilter" => Filter::True,
            "FalseFilter" => Filter::False,
            "SqlFilter" => Filter::Sql {
                expression: text(filter, "SqlExpression").ok_or("Filter: a SqlFilter has a SqlExpression")?,
                parameters: read_pairs(filter, "Parameters")?,
            },
            "CorrelationFilter" => Filter::Correlation(read_correlation(filter)?),
            other => return Err(format!("Filter: there is no type `{other}`")),
        },
    };
    let action = match element.child(SERVICE_BUS, "Action") {
        None => None,
        Some(action) => match kind(action)? {
            "EmptyRuleAction" => None,
            "SqlRuleAction" => Some(SqlAction {
                expression: text(action, "SqlExpression")
                    .ok_or("Action: a SqlRuleAction has a SqlExpression")?,
                parameters: read_pairs(action, "Parameters")?,
            }),
            other => return Err(format!("Action: there is no type `{other}`")),
        },
    };
    Ok(RuleSettings { filter, action })
}

fn read_correlation(filter: &Element) -> Result<CorrelationFilter, String> {
    Ok(CorrelationFilter {
        correlation_id: text(filter, "CorrelationId"),
        message_id: text(filter, "MessageId"),
        to: text(filter, "To"),
        reply_to: text(filter, "ReplyTo"),
        label: text(filter, "Label"),
        session_id: text(filter, "SessionId"),
        reply_to_session_id: text(filter, "ReplyToSessionId"),
        content_type: text(filter, "ContentType"),
        properties: read_pairs(filter, "Properties")?,
    })
}

fn read_pairs(element: &Element, name: &str) -> Result<Parameters, String> {
    let mut read = Parameters::new();
    for pair in element.child(SERVICE_BUS, name).map_or(&[][..], |pairs| &pairs.children) {
        let key = text(pair, "Key").ok_or_else(|| format!("{name}: a pair has no Key"))?;
        let value = pair
            .child(SERVICE_BUS, "Value")
            .ok_or_else(|| format!("{name}: `{key}` has no Value"))
            .and_then(|value| values::read(value).map_err(|why| format!("{name}: `{key}`: {why}")))?;
        if read.contains_key(&key) {
            return Err(format!("{name}: `{key}` is there twice"));
        }
        // SQL's parameters are `@name` in an expression, and come with or without the sign.
        let key = if name == "Parameters" { key.trim_start_matches('@').to_owned() } else { key };
        read.insert(key, value);
    }
    Ok(read)
}

fn kind(element: &Element) -> Result<&str, String> {
    match &element.kind {
        // Some clients write the type's name without a prefix where there is no default namespace.
        Some(kind) if kind.space == SERVICE_BUS || kind.space.is_empty() => Ok(&kind.local),
        Some(kind) => {
            Err(format!("{}: its type `{}` is one of {}", element.name.local, kind.local, kind.space))
        }
        None => Err(format!("{} has no type", element.name.local)),
    }
}

fn text(element: &Element, name: &str) -> Option<String> {
    element.child(SERVICE_BUS, name).map(|child| child.text.clone())
}
