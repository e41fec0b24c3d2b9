//! Who is let in, and who is not.

use std::time::{Duration, Instant};

use crate::client::{READ, Served, WRITE};

const PAGES: [&str; 8] = [
    "/",
    "/outbox",
    "/inbox",
    "/find?id=x",
    "/events/00000000-0000-4000-8000-000000000000",
    "/work",
    "/topology",
    "/nothing",
];
const CHANGES: [&str; 4] = ["/inbox/choose", "/inbox/change", "/outbox/change", "/logout"];

#[tokio::test]
async fn nobody_is_let_in_without_a_token() {
    let served = Served::new().await;
    let id = served.rows.receive("billing", b"{\"secret\":1}", Some("no card")).await;
    for page in PAGES.iter().copied().chain([format!("/events/{id}").as_str()]) {
        let answer = served.ask(&format!("GET {page}"), &[], "").await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{page}");
        assert!(!answer.body.contains("billing"), "{page}");
        let answer = served.ask(&format!("GET {page}"), &["accept: text/html"], "").await;
        assert_eq!(answer.status, 303, "{page}");
        assert!(answer.header("location").unwrap().starts_with("/login?next=%2F"), "{page}");
    }
    for change in CHANGES {
        let answer = served
            .ask(&format!("POST {change}"), &["accept: text/html"], "action=discard&seq=1&reason=x")
            .await;
        assert_eq!(answer.status, 401, "{change}");
    }
    assert_eq!(served.rows.number("SELECT count(*) FROM inbox WHERE status = 'dead'").await, 1);
}

#[tokio::test]
async fn a_dashboard_of_which_nothing_was_said_lets_nobody_in() {
    let served = Served::with(|dashboard| dashboard.read_token("").write_token("")).await;
    for page in PAGES.iter().chain(&["/login"]) {
        for header in ["accept: text/html", "authorization: Bearer ", "authorization: Bearer x"] {
            assert_eq!(served.ask(&format!("GET {page}"), &[header], "").await.status, 403, "{page}");
        }
    }
    assert_eq!(served.ask("POST /login", &[], "token=").await.status, 403);
}

#[tokio::test]
async fn a_token_is_taken_as_a_bearer_header_and_no_other_one_is() {
    let served = Served::new().await;
    for token in [READ, WRITE] {
        assert_eq!(served.get("/", token).await.status, 200);
    }
    let asked = Instant::now();
    for wrong in ["a-token-for-readin", "A-TOKEN-FOR-READING", ""] {
        let answer = served.get("/", wrong).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{wrong}");
        assert!(!answer.body.contains("Outbox, pending"));
    }
    assert!(asked.elapsed() >= Duration::from_secs(2), "each guess takes its time");
    // Not where it would stand in logs and histories.
    assert_eq!(served.ask(&format!("GET /?token={READ}"), &[], "").await.status, 401);
}

#[tokio::test]
async fn many_guesses_at_a_time_are_refused_and_keep_nobody_with_a_token_out() {
    let served = Served::new().await;
    let guesses = (0..40).map(|n| {
        let served = &served;
        async move { served.get("/", &format!("guess {n}")).await.status }
    });
    let guessing = futures_util::future::join_all(guesses);
    let (guessed, right) = tokio::join!(guessing, served.get("/work", READ));
    assert!(guessed.iter().all(|status| [401, 429].contains(status)), "{guessed:?}");
    assert!(guessed.iter().filter(|status| **status == 429).count() >= 24, "{guessed:?}");
    assert_eq!(right.status, 200);
}

#[tokio::test]
async fn a_log_in_is_a_cookie_that_holds_no_token_and_that_nobody_can_make() {
    let served = Served::new().await;
    let answer = served.ask("POST /login", &[], &format!("token={READ}&next=%2Finbox%3Fstate%3Ddead")).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/inbox?state=dead")));
    let set = answer.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains(READ), "{set}");
    let session = answer.cookie();
    let let_in =
        async |cookie: &str| served.ask("GET /", &[&format!("cookie: {cookie}")], "").await.status == 200;
    assert!(let_in(&session).await);
    assert!(let_in(&format!("theme=dark; {session}")).await);
    // One for changes, one that lasts longer, one of another key, and one of none.
    let (name, value) = session.split_once('=').unwrap();
    let parts: Vec<_> = value.split('.').collect();
    for made in [
        value.replacen('r', "w", 1),
        format!("{}.9999999999.{}.{}", parts[0], parts[2], parts[3]),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], "0".repeat(64)),
        format!("{}.{}.{}.", parts[0], parts[1], parts[2]),
        "r.9999999999.x.é".to_owned(),
        String::new(),
    ] {
        assert!(!let_in(&format!("{name}={made}")).await, "{made}");
    }
    // A new token ends all sessions.
    let other = Served::with(|dashboard| dashboard.read_token("another-token")).await;
    let answer = other.ask("GET /", &[&format!("cookie: {session}")], "").await;
    assert_eq!(answer.status, 401);
    // Out is out, for the browser.
    let page = served.ask("GET /", &[&format!("cookie: {session}")], "").await;
    let out =
        served.ask("POST /logout", &[&format!("cookie: {session}")], &format!("form={}", page.form())).await;
    assert_eq!(out.status, 303);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn a_wrong_log_in_says_so_and_leads_nowhere() {
    let served = Served::new().await;
    let answer = served.ask("POST /login", &[], "token=wrong&next=%2Finbox").await;
    assert_eq!((answer.status, answer.header("set-cookie")), (401, None));
    assert!(answer.body.contains("This token is not known."));
    let answer = served.ask("POST /login", &[], &format!("token={READ}&next=%2F%2Fevil.example")).await;
    assert_eq!(answer.header("location"), Some("/"));
    // From another site's form.
    let foreign =
        served.ask("POST /login", &["origin: https://evil.example"], &format!("token={READ}")).await;
    assert_eq!((foreign.status, foreign.header("set-cookie")), (403, None));
}

#[tokio::test]
async fn the_host_may_let_people_in_for_reading_alone_or_for_both() {
    let served = Served::with(|dashboard| dashboard.host_lets_in_readers()).await;
    served.rows.receive("billing", b"{}", Some("no card")).await;
    let page = served.ask("GET /inbox", &[], "").await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("Discard chosen"), "there is nothing to change with");
    let cookie = format!("cookie: {}", page.cookie());
    let form = page.cookie().split_once('=').unwrap().1.to_owned();
    let body = format!("action=discard&seq=1&reason=x&form={form}");
    assert_eq!(served.ask("POST /inbox/change", &[&cookie], &body).await.status, 403);
    assert_eq!(served.rows.number("SELECT count(*) FROM inbox WHERE status = 'dead'").await, 1);

    let served = Served::with(|dashboard| dashboard.host_lets_in_writers()).await;
    served.rows.receive("billing", b"{}", Some("no card")).await;
    let page = served.ask("GET /inbox", &[], "").await;
    let cookie = format!("cookie: {}", page.cookie());
    let body = format!("action=discard&seq=1&reason=x&form={}", page.form());
    // The host's own cookie would come along with another site's form, and this one's form with nobody's.
    assert_eq!(served.ask("POST /inbox/change", &[], &body).await.status, 403);
    assert_eq!(
        served.ask("POST /inbox/change", &[&cookie], "action=discard&seq=1&reason=x").await.status,
        403
    );
    assert_eq!(served.ask("POST /inbox/change", &[&cookie], &body).await.status, 303);
    assert_eq!(served.rows.number("SELECT count(*) FROM inbox WHERE status = 'discarded'").await, 1);
}

#[tokio::test]
async fn every_answer_forbids_what_it_does_not_need() {
    let served = Served::new().await;
    let mut answers = Vec::new();
    for page in PAGES {
        answers.push(served.get(page, WRITE).await);
        answers.push(served.ask(&format!("GET {page}"), &[], "").await);
    }
    answers.push(served.ask("GET /login", &[], "").await);
    answers.push(served.ask("DELETE /outbox", &[], "").await);
    answers.push(served.ask("POST /inbox/change", &[], "x").await);
    for answer in answers {
        let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{answer:?}"));
        assert!(
            policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        for (header, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(header), Some(value));
        }
    }
}
