//! What is shown of payloads, headers and errors.

use distributed_events::EventId;
use distributed_events::dashboard::Private;
use distributed_events::storage::{Body, IncomingEvent};

use crate::client::{READ, Served};

async fn receive(served: &Served, body: Body) -> EventId {
    let mut event = IncomingEvent::new(EventId::new(), "customers.registered", body);
    event.headers.insert("tenant".to_owned(), "acme".to_owned());
    event.headers.insert("email".to_owned(), "ada@example.org".to_owned());
    let id = event.id;
    served.rows.ingest("billing", event).await;
    id
}

async fn page(served: &Served, id: EventId) -> String {
    served.get(&format!("/events/{id}"), READ).await.body
}

fn text(body: &str) -> Body {
    Body::Text(body.to_owned())
}

#[tokio::test]
async fn payloads_and_headers_are_hidden_where_that_is_said() {
    let served = Served::with(|dashboard| dashboard.read_token(READ).hide_payloads()).await;
    let id = receive(&served, text("{\"name\":\"Ada\"}")).await;
    let page = page(&served, id).await;
    assert!(page.contains("Payloads are not shown here (14 bytes)"), "{page}");
    assert!(!page.contains("Ada") && !page.contains("acme") && !page.contains("ada@"), "{page}");
}

#[tokio::test]
async fn a_hook_decides_what_is_shown() {
    let served = Served::with(|dashboard| {
        dashboard.read_token(READ).redact(|private| match private {
            Private::Body { event: "customers.registered", text } => text.replace("Ada", "***"),
            Private::Header { name: "tenant", value, .. } => value.to_owned(),
            _ => "(redacted)".to_owned(),
        })
    })
    .await;
    let page = page(&served, receive(&served, text("{\"name\":\"Ada\"}")).await).await;
    assert!(page.contains("&quot;name&quot;: &quot;***&quot;") && page.contains(", redacted"), "{page}");
    assert!(page.contains("acme") && page.contains("(redacted)"), "{page}");
    assert!(!page.contains("Ada") && !page.contains("ada@"), "{page}");
}

#[tokio::test]
async fn nothing_is_shown_of_what_a_hook_panics_on() {
    let served = Served::with(|dashboard| dashboard.read_token(READ).redact(|_| panic!("no idea"))).await;
    let page = page(&served, receive(&served, text("{\"name\":\"Ada\"}")).await).await;
    assert!(page.contains("the hook that redacts it has panicked"), "{page}");
    assert!(!page.contains("Ada") && !page.contains("acme"), "{page}");
}

#[tokio::test]
async fn bytes_and_long_texts_are_shown_by_their_beginning() {
    let served = Served::new().await;
    let bytes = page(&served, receive(&served, Body::from_bytes(vec![0xff; 4_000])).await).await;
    assert!(bytes.contains("not text; the first bytes") && bytes.contains("ff ff ff"), "{bytes}");
    assert!(bytes.len() < 40_000, "{}", bytes.len());
    let long = page(&served, receive(&served, text(&"ä".repeat(100_000))).await).await;
    assert!(long.contains("Only its beginning is shown.") && long.len() < 150_000, "{}", long.len());
    let turned = page(&served, receive(&served, text("a\u{202e}b\u{1b}[31m")).await).await;
    assert!(turned.contains("a\\u{202e}b\\u{1b}[31m"), "{turned}");
    let wrong = page(&served, receive(&served, text("{\"n\":")).await).await;
    assert!(wrong.contains("5 bytes, text") && wrong.contains("{&quot;n&quot;:"), "{wrong}");
}

/// A dead event whose handler has repeated what was in it.
async fn refused(served: &Served) -> EventId {
    let mut event = IncomingEvent::new(EventId::new(), "customers.registered", text("{}"));
    event.dead = Some("no such customer: Ada".to_owned());
    let id = event.id;
    served.rows.ingest("billing", event).await;
    id
}

#[tokio::test]
async fn a_hook_decides_what_is_shown_of_errors() {
    let served = Served::with(|dashboard| {
        dashboard.read_token(READ).redact(|private| match private {
            Private::Error { event: "customers.registered", text } => text.replace("Ada", "***"),
            _ => "(redacted)".to_owned(),
        })
    })
    .await;
    let id = refused(&served).await;
    for path in ["/".to_owned(), "/inbox".to_owned(), format!("/events/{id}")] {
        let page = served.get(&path, READ).await.body;
        assert!(page.contains("no such customer: ***") && !page.contains("Ada"), "{path}: {page}");
    }
}

#[tokio::test]
async fn errors_are_hidden_and_not_looked_for_where_that_is_said() {
    let served = Served::with(|dashboard| dashboard.read_token(READ).hide_errors()).await;
    let id = refused(&served).await;
    for path in ["/".to_owned(), "/inbox".to_owned(), format!("/events/{id}")] {
        let page = served.get(&path, READ).await.body;
        assert!(page.contains("Errors are not shown here.") && !page.contains("Ada"), "{path}: {page}");
    }
    // Nobody finds out by looking for it whether it is there.
    for sought in ["Ada", "Bob"] {
        let page = served.get(&format!("/inbox?error={sought}"), READ).await.body;
        assert!(page.contains(&format!("/events/{id}")), "{sought}: {page}");
    }
}
