//! The rules of a subscription.

use std::collections::BTreeMap;

use super::super::settle::modify;
use super::super::value::Value;
use super::{Answer, Body, Caller, map, wrong};
use crate::model::{CorrelationFilter, Fault, Filter, Input, RuleInfo, RuleSettings, SqlAction};

const RULE: u64 = 0x137_0000_0004;
const EMPTY_ACTION: u64 = 0x137_0000_0005;
const SQL_ACTION: u64 = 0x137_0000_0006;
const SQL_FILTER: u64 = 0x13_7000_0006;
const TRUE_FILTER: u64 = 0x13_7000_0007;
const FALSE_FILTER: u64 = 0x13_7000_0008;
const CORRELATION_FILTER: u64 = 0x13_7000_0009;

pub(super) async fn add(caller: &Caller, body: Body<'_>) -> Answer {
    let name = name(body)?;
    let description = Body(body.needed("rule-description")?);
    let filter = match (description.0.get("sql-filter"), description.0.get("correlation-filter")) {
        (Some(_), Some(_)) => return Err(wrong("A rule has one filter.")),
        (Some(filter), None) => {
            let expression = Body(filter).text("expression").map(str::to_owned);
            let expression = expression.ok_or_else(|| wrong("The SQL filter has no 'expression'."))?;
            Filter::Sql { expression, parameters: BTreeMap::new() }
        }
        (None, Some(filter)) => Filter::Correlation(correlation(Body(filter))),
        (None, None) => Filter::True,
    };
    let action = description.0.get("sql-rule-action").and_then(|action| Body(action).text("expression"));
    let action = action
        .filter(|expression| !expression.is_empty())
        .map(|expression| SqlAction { expression: expression.to_owned(), ..SqlAction::default() });
    let subscription = caller.entity.clone();
    let rule = RuleSettings { filter, action };
    caller.host.apply(Input::CreateRule { subscription, name, rule }).await?;
    Ok(Some(map([])))
}

pub(super) async fn remove(caller: &Caller, body: Body<'_>) -> Answer {
    let (subscription, name) = (caller.entity.clone(), name(body)?);
    caller.host.apply(Input::DeleteRule { subscription, name }).await?;
    Ok(Some(map([])))
}

pub(super) fn list(caller: &Caller, body: Body<'_>) -> Answer {
    let (skip, top) = (body.count("skip")?, body.count("top")?);
    let rules = caller.host.read(|model, _| model.rules(&caller.entity));
    let rules = rules.ok_or_else(|| {
        let text = format!("'{}' is not a subscription.", caller.entity);
        Fault::new(crate::model::Condition::NotAllowed, text)
    })?;
    let rules: Vec<Value> = rules.iter().skip(skip as usize).take(top as usize).map(describe).collect();
    Ok((!rules.is_empty()).then(|| map([("rules", Value::List(rules))])))
}

fn name(body: Body<'_>) -> Result<String, Fault> {
    let name = body.needed("rule-name")?.text();
    name.map(str::to_owned).ok_or_else(|| wrong("The request's 'rule-name' is not a string."))
}

fn correlation(filter: Body<'_>) -> CorrelationFilter {
    let text = |key: &str| filter.text(key).map(str::to_owned);
    CorrelationFilter {
        correlation_id: text("correlation-id"),
        message_id: text("message-id"),
        to: text("to"),
        reply_to: text("reply-to"),
        label: text("label"),
        session_id: text("session-id"),
        reply_to_session_id: text("reply-to-session-id"),
        content_type: text("content-type"),
        properties: filter.0.get("properties").map(modify).unwrap_or_default(),
    }
}

fn describe(info: &RuleInfo) -> Value {
    let text = |text: &str| Value::List(vec![Value::string(text)]);
    let nothing = || Value::List(Vec::new());
    let filter = match &info.rule.filter {
        Filter::True => Value::described(TRUE_FILTER, nothing()),
        Filter::False => Value::described(FALSE_FILTER, nothing()),
        Filter::Sql { expression, .. } => Value::described(SQL_FILTER, text(expression)),
        Filter::Correlation(filter) => {
            let text = |text: &Option<String>| text.clone().map_or(Value::NULL, Value::string);
            let properties = filter.properties.iter();
            let properties =
                properties.map(|(key, value)| (Value::string(key), Value::Simple(value.clone())));
            let fields = vec![
                text(&filter.correlation_id),
                text(&filter.message_id),
                text(&filter.to),
                text(&filter.reply_to),
                text(&filter.label),
                text(&filter.session_id),
                text(&filter.reply_to_session_id),
                text(&filter.content_type),
                Value::Map(properties.collect()),
            ];
            Value::described(CORRELATION_FILTER, Value::List(fields))
        }
    };
    let action = match &info.rule.action {
        None => Value::described(EMPTY_ACTION, nothing()),
        Some(action) => Value::described(SQL_ACTION, text(&action.expression)),
    };
    let created = super::super::delivery::time(info.created);
    let fields = vec![filter, action, Value::string(&info.name), Value::Simple(created)];
    map([("rule-description", Value::described(RULE, Value::List(fields)))])
}
