//! What goes in comes out, byte by byte.

use distributed_events::storage::{AdminStorage, Body, DeadRowFilter, Storage, Table};

use super::{Fixture, event, inbox_of, ingest, of_session, pending, publish, report};

/// A text with characters of all seventeen planes, the ends of each included, and those that escape, fold or combine.
fn every_plane() -> String {
    let ends =
        (0..17_u32).flat_map(|plane| [0, 1, 0x10, 0xfffd, 0xfffe, 0xffff].map(|low| (plane << 16) + low));
    let ends: String = ends.filter(|code| *code != 0).filter_map(char::from_u32).collect();
    format!("{ends}\u{1}\t\r\n\u{7f}\u{2028}'\"\\%_a\u{308}\u{202e}İıßſ\u{feff}\u{d7ff}\u{e000} ")
}

/// Into the outbox and out.
pub async fn every_plane_survives_the_outbox<F: Fixture>() {
    let fixture = F::fresh().await;
    let text = every_plane();
    let mut published = event(&text);
    published.envelope.session_id = Some(text.clone());
    published.envelope.topic = Some(text.clone());
    published.envelope.correlation_id = Some(text.clone());
    published.envelope.causation_id = Some(text.clone());
    published.envelope.name = text.clone();
    published.envelope.headers.insert(text.clone(), text.clone());
    publish(&fixture, std::slice::from_ref(&published)).await;
    let row = pending(&fixture).await.remove(0);
    published.envelope.created_at = row.envelope.created_at;
    assert_eq!(row.envelope, published.envelope);
    let mut conn = fixture.conn().await;
    F::DB::mark_outbox_dead(&mut *conn, published.envelope.id, &text).await.unwrap();
    let dead =
        F::DB::dead_rows(&mut *conn, Table::Outbox, &DeadRowFilter::default()).await.unwrap().remove(0);
    assert_eq!((dead.reason, dead.data), (text.clone(), text.into_bytes()));
}

/// Into the inbox and out.
pub async fn every_plane_survives_the_inbox<F: Fixture>() {
    let fixture = F::fresh().await;
    let text = every_plane();
    let mut event = of_session(&text, &text);
    event.name = text.clone();
    event.message_id = text.clone();
    event.topic = Some(text.clone());
    event.version = u32::MAX;
    event.correlation_id = Some(text.clone());
    event.causation_id = Some(text.clone());
    event.headers.insert(text.clone(), text.clone());
    event.created_at = Some(std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_123));
    event.expires_at = Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799));
    assert_eq!(ingest(&fixture, std::slice::from_ref(&event)).await, report(1, 0, 0, 0));
    assert_eq!(inbox_of(&fixture, &text).await.remove(0).event, event);
    assert_eq!(ingest(&fixture, &[event]).await, report(0, 1, 0, 0), "its name is recognised");
}

/// A body need not be text; what is text stays text.
pub async fn bytes_survive_the_inbox<F: Fixture>() {
    let fixture = F::fresh().await;
    let bodies = [
        Body::Raw((0..=255).collect()),
        Body::Raw(b"\xff\xfe{\"a\":1}".to_vec()),
        Body::from_bytes(b"a\0b".to_vec()),
        Body::Raw(Vec::new()),
        Body::Text(String::new()),
        Body::Text("null".to_owned()),
        Body::from_bytes("{\"ä\":\"🙂\"}".as_bytes().to_vec()),
    ];
    let events: Vec<_> = bodies
        .iter()
        .map(|body| {
            let mut event = of_session("s", "");
            event.body = body.clone();
            event
        })
        .collect();
    ingest(&fixture, &events).await;
    let found: Vec<_> = inbox_of(&fixture, "s").await.into_iter().map(|row| row.event.body).collect();
    assert_eq!(found, bodies);
    let mut nul = of_session("nul", "");
    nul.body = Body::Text("a\0b".to_owned());
    ingest(&fixture, &[nul]).await;
    let found = inbox_of(&fixture, "nul").await.remove(0).event.body;
    assert_eq!(found, Body::Raw(b"a\0b".to_vec()), "no database is asked to keep NUL in a text");
    let mut dead = of_session("s", "");
    dead.body = bodies[0].clone();
    dead.dead = Some("no JSON".to_owned());
    ingest(&fixture, &[dead]).await;
    let rows =
        F::DB::dead_rows(&mut *fixture.conn().await, Table::Inbox, &DeadRowFilter::default()).await.unwrap();
    assert_eq!(rows[0].data, bodies[0].as_bytes());
}

/// Brokers take megabytes, and so do the tables; a batch of them, too.
pub async fn a_megabyte_survives<F: Fixture>() {
    let fixture = F::fresh().await;
    let text = "äb\"\\".repeat(1_048_576 / 5 + 1);
    assert!(text.len() > 1_048_576);
    publish(&fixture, &[event(&text), event(&text)]).await;
    let rows = pending(&fixture).await;
    assert!(rows.len() == 2 && rows.iter().all(|row| row.envelope.data == text));
    let mut raw = of_session("s", "");
    raw.body = Body::Raw(text.bytes().map(|byte| byte ^ 0x80).collect());
    let mut batch: Vec<_> = (0..7).map(|_| of_session("s", &text)).collect();
    batch.push(raw);
    assert_eq!(ingest(&fixture, &batch).await, report(8, 0, 0, 0));
    for (row, event) in inbox_of(&fixture, "s").await.iter().zip(&batch) {
        assert!(row.event.body == event.body);
    }
}
