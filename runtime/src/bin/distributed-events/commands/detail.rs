//! One event with everything that is known of it.

use distributed_events::EventId;
use distributed_events::admin::{self, RowDetail, Table};
use distributed_events::storage::OperatorStorage;
use serde_json::{Value, json};
use sqlx::Pool;

use super::list;
use crate::arguments::Show;
use crate::failure::Failure;
use crate::output::{self, Format, clean};
use crate::when::{exact, time};

pub(super) async fn run<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    arguments: &Show,
    format: Format,
) -> Result<(), Failure> {
    let mut rows = find(pool, table, arguments.id).await?;
    if rows.is_empty() {
        return Err(Failure::Differs(format!(
            "the {} has no event {}: it was never there, or retention has taken it",
            table.name(),
            arguments.id
        )));
    }
    if arguments.no_body {
        rows.iter_mut().for_each(|row| row.data = None);
    }
    match format {
        Format::People => {
            let texts: Vec<_> = rows.iter().map(|row| people(row, table)).collect();
            output::say(&texts.join("\n\n"))
        }
        Format::Json => output::json(&rows.iter().map(|row| whole(row, table)).collect()),
    }
}

/// The event in the outbox, or as each subscription of the inbox has it.
pub(super) async fn find<DB: OperatorStorage>(
    pool: &Pool<DB>,
    table: Table,
    id: EventId,
) -> Result<Vec<RowDetail>, Failure> {
    Ok(match table {
        Table::Outbox => admin::outbox_row(pool, id).await?.into_iter().collect(),
        Table::Inbox => admin::inbox_rows(pool, id).await?,
    })
}

fn people(row: &RowDetail, table: Table) -> String {
    let summary = &row.summary;
    let mut lines = Vec::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("{name:<15}{}", clean(&value)));
        }
    };
    line("unreadable", summary.trouble(table).map(|trouble| format!("this row {trouble}")));
    line("id", Some(summary.id.to_string()));
    line("message id", row.message_id.clone().filter(|text| *text != summary.id.to_string()));
    line("event", Some(format!("{}, version {}", summary.event, summary.version)));
    line(list::owner_of(table), Some(summary.owner.clone()));
    line("topic", row.topic.clone());
    line("session", summary.session_id.clone());
    line("state", Some(summary.state.clone()));
    line("attempts", Some(summary.attempts.to_string()));
    line("last error", summary.error.clone());
    line("published", row.published_at.map(time));
    line("written", Some(time(summary.written_at)));
    line("settled", summary.settled_at.map(time));
    line("due", summary.due_at.map(time));
    line("expires", row.expires_at.map(time));
    line("correlation", row.correlation_id.clone());
    line("causation", row.causation_id.clone());
    line("headers", Some(row.headers.clone()).filter(|headers| headers != "{}"));
    match row.data.as_deref().map(std::str::from_utf8) {
        Some(Ok(text)) => {
            // Lines may stay lines; nothing else reaches the terminal as it is.
            let text: Vec<_> = text.lines().map(clean).collect();
            format!("{}\n\n{}", lines.join("\n"), text.join("\n"))
        }
        Some(Err(_)) => {
            let bytes = row.data.as_ref().map_or(0, Vec::len);
            format!("{}\n\n({bytes} bytes that are no text: --json has them as Base64)", lines.join("\n"))
        }
        None => lines.join("\n"),
    }
}

fn whole(row: &RowDetail, table: Table) -> Value {
    let mut value = list::summary(&row.summary, table);
    // Headers that something else has written may be no JSON.
    let headers = serde_json::from_str(&row.headers).unwrap_or_else(|_| Value::from(row.headers.as_str()));
    let (body, base64) = match row.data.as_deref().map(std::str::from_utf8) {
        Some(Ok(text)) => (Some(text.to_owned()), None),
        Some(Err(_)) => (None, row.data.as_deref().map(encode)),
        None => (None, None),
    };
    let more = json!({
        "message_id": row.message_id,
        "topic": row.topic,
        "correlation_id": row.correlation_id,
        "causation_id": row.causation_id,
        "headers": headers,
        "published_at": row.published_at.map(exact),
        "expires_at": row.expires_at.map(exact),
        "body": body,
        "body_base64": base64,
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
