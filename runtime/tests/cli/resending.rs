//! Sending again what was sent (SEMANTICS.md, rule 26).

use crate::program::Program;
use crate::rows::Rows;

async fn sent(rows: &Rows, name: &str, minutes_ago: i64) {
    let id = rows.publish(name, None).await;
    rows.sent(id).await;
    let hex = id.as_uuid().simple();
    let ago = minutes_ago * 60_000;
    rows.run(&format!("UPDATE outbox SET processed_at = processed_at - {ago} WHERE id = x'{hex}'")).await;
}

#[tokio::test]
async fn a_span_of_time_is_sent_again() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    for minutes in [5, 20, 40, 90] {
        sent(&rows, "order-placed", minutes).await;
    }
    sent(&rows, "order-changed", 30).await;
    let pending = "SELECT count(*) FROM outbox WHERE status = 'pending'";
    let resend = |arguments: &[&'static str]| [&["outbox", "resend"], arguments].concat();
    let error = program.fails(2, &resend(&["--since", "1h"]));
    assert!(error.contains("Send 4 rows again, sent from 20"), "{error}");
    assert!(error.contains("note: of these 1 row came within the last 10 min 0 s"), "{error}");
    assert_eq!(rows.number(pending).await, 0);

    let json =
        program.json(&resend(&["--since", "1h", "--until", "10m", "--event", "order-placed", "--yes"]));
    assert_eq!(json, serde_json::json!({ "resent": 2, "within_duplicate_detection": 0 }));
    assert_eq!(rows.number(pending).await, 2);
    assert_eq!(program.ok(&resend(&["--since", "2h", "--yes"])), "pending again: 3 rows\n");
    assert_eq!(program.ok(&resend(&["--since", "2h", "--yes"])), "pending again: 0 rows\n");
    assert_eq!(rows.number(pending).await, 5);
}

#[tokio::test]
async fn what_receivers_do_not_know_any_more_is_refused() {
    let program = Program::new();
    let rows = Rows::of(&program).await;
    sent(&rows, "order-placed", 60 * 24 * 31).await;
    let old = ["outbox", "resend", "--since", "40d", "--yes"];
    let error = program.fails(2, &old);
    assert!(error.contains("dedupe horizon (30 d 0 h ago") && error.contains("--force"), "{error}");
    let error = program.fails(2, &["outbox", "resend", "--since", "2d", "--horizon", "1d", "--yes"]);
    assert!(error.contains("(1 d 0 h ago"), "{error}");
    assert_eq!(program.ok(&[&old[..], &["--force"]].concat()), "pending again: 1 row\n");
    let error = program.fails(2, &["outbox", "resend", "--since", "1h", "--until", "2h"]);
    assert!(error.contains("nothing lies between"), "{error}");
    program.fails(2, &["outbox", "resend"]);
}
