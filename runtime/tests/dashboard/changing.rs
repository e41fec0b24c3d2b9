//! Requeue and discard, and whose forms are taken.

use crate::client::{READ, Served, WRITE};

async fn state(served: &Served, seq: i64) -> String {
    sqlx::query_scalar("SELECT status FROM inbox WHERE seq = ?")
        .bind(seq)
        .fetch_one(&served.rows.pool)
        .await
        .unwrap()
}

async fn error(served: &Served, seq: i64) -> String {
    sqlx::query_scalar("SELECT last_error FROM inbox WHERE seq = ?")
        .bind(seq)
        .fetch_one(&served.rows.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_token_for_reading_changes_nothing() {
    let served = Served::new().await;
    served.rows.receive("billing", b"{}", Some("no card")).await;
    let cookie = served.log_in(READ).await;
    let page = served.ask("GET /inbox", &[&cookie], "").await;
    assert!(!page.body.contains("name=\"seq\""));
    let body = format!("action=discard&seq=1&reason=x&form={}", page.form());
    for path in ["/inbox/choose", "/inbox/change"] {
        assert_eq!(served.ask(&format!("POST {path}"), &[&cookie], &body).await.status, 403);
        let bearer = format!("authorization: Bearer {READ}");
        assert_eq!(served.ask(&format!("POST {path}"), &[&bearer], &body).await.status, 403);
    }
    assert_eq!(state(&served, 1).await, "dead");
}

#[tokio::test]
async fn only_forms_of_its_own_pages_are_taken() {
    let served = Served::new().await;
    served.rows.receive("billing", b"{}", Some("no card")).await;
    let cookie = served.log_in(WRITE).await;
    let form = served.ask("GET /inbox", &[&cookie], "").await.form();
    let another = served.log_in(WRITE).await;
    let foreign = served.ask("GET /inbox", &[&another], "").await.form();
    assert_ne!(form, foreign);
    let body = |form: &str| format!("action=requeue&seq=1&form={form}");
    let own = format!("origin: http://{}", served.host);
    for (headers, form) in [
        (&[cookie.as_str()][..], ""),
        (&[&cookie], &foreign),
        (&[&cookie, "origin: https://evil.example"], &form),
        (&[&cookie, "origin: null"], &form),
        (&[&cookie, "sec-fetch-site: cross-site"], &form),
        (&[&cookie, "sec-fetch-site: same-site", &own], &form),
    ] {
        for path in ["/inbox/choose", "/inbox/change"] {
            let answer = served.ask(&format!("POST {path}"), headers, &body(form)).await;
            assert_eq!(answer.status, 403, "{headers:?}");
            assert!(answer.body.contains("nothing was changed"), "{headers:?}");
        }
    }
    assert_eq!(state(&served, 1).await, "dead");
    let answer =
        served.ask("POST /inbox/change", &[&cookie, &own, "sec-fetch-site: same-origin"], &body(&form)).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/inbox?state=dead&done=requeued&count=1"))
    );
    assert_eq!(state(&served, 1).await, "pending");
}

#[tokio::test]
async fn behind_a_proxy_forms_are_taken_from_where_it_is_seen() {
    let served =
        Served::with(|dashboard| dashboard.write_token(WRITE).origin("https://ops.example.org/")).await;
    served.rows.receive("billing", b"{}", Some("no card")).await;
    let cookie = served.log_in(WRITE).await;
    let body = format!("action=requeue&seq=1&form={}", served.ask("GET /inbox", &[&cookie], "").await.form());
    let inside = format!("origin: http://{}", served.host);
    assert_eq!(served.ask("POST /inbox/change", &[&cookie, &inside], &body).await.status, 403);
    let outside = "origin: https://ops.example.org";
    assert_eq!(served.ask("POST /inbox/change", &[&cookie, outside], &body).await.status, 303);
}

#[tokio::test]
async fn rows_are_requeued_and_discarded_with_their_reasons() {
    let served = Served::new().await;
    for _ in 0..3 {
        served.rows.receive("billing", b"{}", Some("no card")).await;
    }
    let sent = served.rows.publish("order-placed", None).await;
    let dead = served.rows.publish("order-placed", None).await;
    served.rows.sent(sent).await;
    served.rows.kill(dead, "too big").await;
    let bearer = format!("authorization: Bearer {WRITE}");
    let change = async |path: &str, body: &str| served.ask(&format!("POST {path}"), &[&bearer], body).await;

    let asked = change("/inbox/choose", "action=discard&seq=1&seq=2").await;
    assert_eq!(asked.status, 200);
    assert!(asked.body.contains("<strong>2 events</strong>") && asked.body.contains("Discard for good"));
    assert_eq!(state(&served, 1).await, "dead", "it was only asked");

    assert_eq!(change("/inbox/change", "action=discard&seq=1&seq=2&reason=+").await.status, 400, "no reason");
    assert_eq!(state(&served, 1).await, "dead");
    let done = change("/inbox/change", "action=discard&seq=1&seq=2&reason=test+orders").await;
    assert_eq!(done.header("location"), Some("/inbox?state=dead&done=discarded&count=2"));
    assert_eq!((state(&served, 1).await.as_str(), state(&served, 3).await.as_str()), ("discarded", "dead"));
    assert_eq!(error(&served, 2).await, "no card\ndiscarded by an operator: test orders");
    assert!(
        served
            .get("/inbox?state=dead&done=discarded&count=2", READ)
            .await
            .body
            .contains("discarded: 2 events.")
    );

    change("/inbox/change", "action=requeue&seq=3&reason=a+new+card").await;
    assert_eq!(
        (state(&served, 3).await.as_str(), error(&served, 3).await.as_str()),
        ("pending", "no card\nrequeued by an operator: a new card")
    );
    // What is not dead is left alone.
    let done = change("/outbox/change", "action=requeue&seq=1&seq=2&reason=").await;
    assert_eq!(done.header("location"), Some("/outbox?state=dead&done=requeued&count=1"));
    assert_eq!(served.rows.number("SELECT count(*) FROM outbox WHERE status = 'pending'").await, 1);
    served.rows.kill(dead, "too big").await;
    change("/outbox/change", "action=discard&seq=2&reason=x").await;
    assert_eq!(served.rows.number("SELECT count(*) FROM outbox").await, 1, "the outbox keeps nothing of it");
}

#[tokio::test]
async fn forms_that_make_no_sense_change_nothing() {
    let served = Served::new().await;
    served.rows.receive("billing", b"{}", Some("no card")).await;
    let bearer = format!("authorization: Bearer {WRITE}");
    let many: String = (0..501).map(|seq| format!("&seq={seq}")).collect();
    for (path, body) in [
        ("/inbox/change", "seq=1&reason=x"),
        ("/inbox/change", "action=purge&seq=1&reason=x"),
        ("/inbox/change", "action=discard&seq=1%20OR%201&reason=x"),
        ("/inbox/change", &format!("action=discard&reason=x{many}")),
        ("/inbox/choose", "action=discard"),
        ("/leases/change", "action=discard&seq=1&reason=x"),
    ] {
        assert_eq!(served.ask(&format!("POST {path}"), &[&bearer], body).await.status, 400, "{body:.40}");
    }
    assert_eq!(served.ask("GET /inbox/change", &[&bearer], "").await.status, 405);
    assert_eq!(state(&served, 1).await, "dead");
}
