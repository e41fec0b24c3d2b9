//! What pages show, and that what others have written stays text.

use distributed_events::storage::{
    Body, Handled, IncomingEvent, Instance, LeaseStorage, LocalStorage, LocalSubscription, NewEvent, Storage,
};
use distributed_events::topology::{Takes, Topology};
use distributed_events::{Envelope, EventId};
use sqlx::Sqlite;
use std::time::Duration;
use uuid::Uuid;

use crate::client::{READ, Served, WRITE};

const ATTACK: &str = "'\"><script>evil()</script><img src=x onerror=evil()>&amp;";

#[tokio::test]
async fn what_others_have_written_stays_text_on_every_page() {
    let topology = {
        let mut topology = Topology::new(ATTACK, [ATTACK]);
        topology.subscribe(ATTACK, ATTACK, Takes::Events(vec![ATTACK.to_owned()]), true);
        topology
    };
    let served = Served::with(|dashboard| dashboard.write_token(WRITE).topology([topology])).await;
    let text = || Some(ATTACK.to_owned());
    let mut event = NewEvent::new(Envelope::new(EventId::new(), ATTACK, ATTACK));
    let envelope = &mut event.envelope;
    (envelope.lane, envelope.topic, envelope.session_id) = (ATTACK.to_owned(), text(), text());
    (envelope.correlation_id, envelope.causation_id) = (text(), text());
    envelope.headers.insert(ATTACK.to_owned(), ATTACK.to_owned());
    let id = envelope.id;
    let pool = &served.rows.pool;
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Sqlite::insert_outbox(&mut *tx, &[event]).await.unwrap();
    tx.commit().await.unwrap();
    served.rows.kill(id, ATTACK).await;
    let mut received = IncomingEvent::new(id, ATTACK, Body::Text(ATTACK.to_owned()));
    (received.message_id, received.topic, received.session_id) = (ATTACK.to_owned(), text(), text());
    (received.correlation_id, received.causation_id, received.dead) = (text(), text(), text());
    received.headers.insert(ATTACK.to_owned(), ATTACK.to_owned());
    served.rows.ingest(ATTACK, received).await;
    let mut conn = pool.acquire().await.unwrap();
    let minute = Duration::from_secs(60);
    let leases = [format!("outbox:{ATTACK}"), format!("inbox:{ATTACK}:03")];
    Sqlite::take_leases(&mut conn, &leases, Uuid::new_v4(), 2, minute).await.unwrap();
    Sqlite::bind_lane(&mut conn, ATTACK, ATTACK).await.unwrap();
    let handled = Handled { subscription: ATTACK.to_owned(), event: ATTACK.to_owned(), version: 1 };
    Sqlite::announce(&mut conn, &Instance::new(Uuid::new_v4(), vec![handled]), minute).await.unwrap();
    drop(conn);

    let cookie = served.log_in(WRITE).await;
    let attack = "%27%22%3E%3Cscript%3Eevil()%3C%2Fscript%3E";
    for path in [
        "/".to_owned(),
        "/outbox".to_owned(),
        "/inbox".to_owned(),
        format!(
            "/inbox?state={attack}&subscription={attack}&event={attack}&session={attack}&error={attack}&since={attack}&done={attack}"
        ),
        format!("/events/{id}"),
        "/work".to_owned(),
        "/topology".to_owned(),
        format!("/events/{attack}"),
        format!("/find?id={attack}"),
        format!("/outbox?after={attack}"),
        format!("/?window={attack}"),
        format!("/login?next={attack}"),
        format!("/{attack}"),
    ] {
        let answer = served.ask(&format!("GET {path}"), &[&cookie], "").await;
        assert!(
            !answer.body.contains("<script>evil") && !answer.body.contains("<img"),
            "{path}: {}",
            answer.body
        );
        if ["/", "/outbox", "/inbox", "/work", "/topology"].contains(&path.as_str())
            || path == format!("/events/{id}")
        {
            assert!(answer.body.contains("&lt;script&gt;evil()"), "{path} shows it: {}", answer.body);
        }
    }
    let body = format!(
        "action=discard&seq=1&reason={attack}&form={}",
        served.ask("GET /inbox", &[&cookie], "").await.form()
    );
    assert_eq!(served.ask("POST /inbox/change", &[&cookie], &body).await.status, 303);
    let page = served.ask(&format!("GET /events/{id}"), &[&cookie], "").await;
    assert!(page.body.contains("discarded by an operator: '&quot;&gt;&lt;script&gt;"), "{}", page.body);
}

#[tokio::test]
async fn depths_and_charts_tell_what_the_tables_have() {
    let served = Served::new().await;
    for _ in 0..7 {
        let id = served.rows.publish("order-placed", None).await;
        served.rows.sent(id).await;
    }
    let waiting = served.rows.publish("order-placed", None).await;
    served.rows.receive("billing", b"{}", Some("no card")).await;
    let page = served.get("/", READ).await.body;
    assert!(page.contains("data-chart=\"outbox\" data-total=\"7\""), "{page}");
    assert!(page.contains("data-chart=\"inbox\" data-total=\"0\""));
    assert!(page.contains("<dt>Outbox, pending</dt><dd>1"), "{page}");
    assert!(page.contains("<dt>Inbox, dead</dt><dd>1"), "{page}");
    assert!(page.contains("<dt>Sent in the last minute</dt><dd>7"), "{page}");
    let list = served.get("/outbox?state=pending&lane=default", READ).await.body;
    assert!(list.contains(&waiting.to_string()) && list.contains("<h2>1 row"), "{list}");
}

#[tokio::test]
async fn lists_are_narrowed_and_go_on_from_page_to_page() {
    let served = Served::new().await;
    for n in 0..60 {
        served.rows.receive("billing", b"{}", Some(&format!("no card {n}."))).await;
    }
    served.rows.receive("shipping", b"{}", Some("no parcel")).await;
    let get = async |path: &str| served.get(path, READ).await.body;
    let first = get("/inbox?state=dead&subscription=billing").await;
    assert!(first.contains("no card 49.") && !first.contains("no card 50.") && !first.contains("no parcel"));
    let (_, link) = first.split_once("class=\"button\" href=\"").unwrap();
    let next = get(&link.split('"').next().unwrap().replace("&amp;", "&")).await;
    assert!(
        next.contains("no card 50.") && next.contains("no card 59.") && !next.contains("no card 49."),
        "{next}"
    );
    assert!(!next.contains("Next page"));
    let one = get("/inbox?error=card+17.").await;
    assert!(one.contains("no card 17.") && one.contains("<h2>1 row"), "{one}");
    assert!(get("/inbox?event=another").await.contains("Nothing is in this state"));
    assert!(
        get("/inbox?session=%00order-1").await.contains("no card 0."),
        "a zero byte is no part of any text"
    );
    assert_eq!(served.get("/inbox?after=there", READ).await.status, 400);
}

#[tokio::test]
async fn an_event_is_shown_from_both_tables_with_what_has_come_of_it() {
    let served = Served::new().await;
    let cause = served.rows.publish("order-placed", Some("order-1")).await;
    served.rows.sent(cause).await;
    served.rows.run("UPDATE outbox SET correlation_id = 'one'").await;
    let effect = served.rows.publish("card-charged", None).await;
    served.rows.run(&format!("UPDATE outbox SET correlation_id = 'one', causation_id = '{cause}' WHERE event_type = 'card-charged'")).await;
    let mut received = IncomingEvent::new(cause, "order-placed", Body::Text("{\"n\":1}".to_owned()));
    received.dead = Some("no card".to_owned());
    served.rows.ingest("billing", received).await;
    for id in [cause, effect] {
        let page = served.get(&format!("/events/{id}"), READ).await.body;
        assert!(page.contains("What it belongs to"), "{page}");
        for other in [cause, effect] {
            assert!(page.contains(&format!("href=\"/events/{other}\"")), "{page}");
        }
    }
    let page = served.get(&format!("/events/{cause}"), READ).await.body;
    assert!(page.contains("In the outbox") && page.contains("In the inbox") && page.contains("no card"));
    assert!(page.contains("\n  &quot;n&quot;: 1\n"), "the payload, indented: {page}");
    assert_eq!(page.matches("<h2>Payload").count(), 1, "both tables have the same");
    let found = served.get(&format!("/find?id=%20{cause}"), READ).await;
    assert_eq!((found.status, found.header("location")), (303, Some(format!("/events/{cause}").as_str())));
    assert_eq!(served.get(&format!("/events/{}", EventId::new()), READ).await.status, 404);
    assert_eq!(served.get("/events/1", READ).await.status, 400);
}

#[tokio::test]
async fn the_picture_is_drawn_of_what_the_database_knows() {
    let served = Served::new().await;
    assert!(served.get("/topology", READ).await.body.contains("There is nothing to draw"));
    let mut conn = served.rows.pool.acquire().await.unwrap();
    let known = LocalSubscription {
        topic: "orders".to_owned(),
        name: "billing".to_owned(),
        events: vec!["order-placed".to_owned()],
        store: "store".to_owned(),
    };
    Sqlite::record_subscriptions(&mut conn, "store", &[known]).await.unwrap();
    drop(conn);
    let page = served.get("/topology", READ).await.body;
    assert!(page.contains("1 events, 1 topics, 1 subscriptions, 1 handlers and their connections"), "{page}");
    assert!(page.contains("no live instance"));
}

#[tokio::test]
async fn it_can_be_nested_anywhere() {
    let served = Served::routed(
        |dashboard| dashboard.read_token(READ),
        |router| axum::Router::new().nest("/ops/events", router),
    )
    .await;
    let answer = served.ask("GET /ops/events/outbox?state=sent", &["accept: text/html"], "").await;
    assert_eq!(answer.header("location"), Some("/ops/events/login?next=%2Foutbox%3Fstate%3Dsent"));
    let answer = served.ask("POST /ops/events/login", &[], &format!("token={READ}&next=%2Foutbox")).await;
    assert_eq!(answer.header("location"), Some("/ops/events/outbox"));
    assert!(answer.header("set-cookie").unwrap().contains("Path=/ops/events;"));
    for page in ["/ops/events", "/ops/events/outbox"] {
        let body = served.get(page, READ).await.body;
        assert!(
            body.contains("href=\"/ops/events/inbox\"") && !body.contains("href=\"/inbox\""),
            "{page}: {body}"
        );
    }
}

#[tokio::test]
async fn a_row_that_is_no_event_hides_no_other() {
    let served = Served::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = served.rows.publish("order-placed", None).await;
        served.rows.kill(id, "too big").await;
        ids.push(id);
    }
    served.rows.run("UPDATE outbox SET id = 'none' WHERE seq = 2").await;
    served.rows.run("UPDATE outbox SET event_version = -1, created_at = -86400000 WHERE seq = 3").await;
    for path in ["/outbox?state=dead", "/"] {
        let page = served.get(path, READ).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.body.contains(&format!("/events/{}", ids[0])), "{path}: {}", page.body);
    }
    let list = served.get("/outbox?state=dead", READ).await.body;
    assert!(
        list.contains("This row can't be read: id: &quot;none&quot; is no UUID of 16 bytes; mend"),
        "{list}"
    );
    let page = served.get(&format!("/events/{}", ids[2]), READ).await;
    assert!(page.body.contains("This row can't be read: event_version: -1 is not between"), "{}", page.body);
}

#[tokio::test]
async fn rows_are_looked_for_between_two_times_of_any_zone() {
    let served = Served::new().await;
    let mut ids = Vec::new();
    for (n, time) in [(1, 1_795_852_800_000_i64), (2, 1_795_856_400_000), (3, 1_795_860_000_000)] {
        let id = served.rows.publish("order-placed", None).await;
        let set = "status = 'sent', processed_at";
        served.rows.run(&format!("UPDATE outbox SET {set} = {time} WHERE seq = {n}")).await;
        ids.push(id);
    }
    // 08:00, 09:00 and 10:00 in UTC.
    let ask = async |times: &str| served.get(&format!("/outbox?state=sent&{times}"), READ).await;
    let found = async |times: &str| {
        let page = ask(times).await;
        assert_eq!(page.status, 200, "{}", page.body);
        ids.iter().map(|id| page.body.contains(&format!("/events/{id}"))).collect::<Vec<_>>()
    };
    assert_eq!(
        found("from=2026-11-28T10:30:00%2B02:00&until=2026-11-28T09:30:00Z").await,
        [false, true, false]
    );
    assert_eq!(found("from=2026-11-28T03:00:00-05:00&until=2026-11-28+10:00").await, [true, true, false]);
    assert_eq!(found("until=2026-11-28T10:00:01Z").await, [false, false, true], "of the hour before");
    for (times, told) in [("from=yesterday", "This is no time"), ("from=2026-11-28", "six hours at a time")] {
        let page = ask(times).await;
        assert!(page.status == 400 && page.body.contains(told), "{times}: {}", page.body);
    }
}
