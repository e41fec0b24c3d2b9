//! The two services with ordering on a PostgreSQL server.

use tests::two_services::{PROCESSES, TwoServices};

#[tokio::test]
async fn killed_and_run_again_it_ends_reconciled() {
    let mut two = TwoServices::on_postgres(0, tests::fixtures::server("DISTRIBUTED_EVENTS_POSTGRES"));
    let billing = two.database("billing.db").await;
    let mut handled = 0;
    for victim in PROCESSES.into_iter().chain(["launcher"]) {
        two.order(10);
        let mut run = two.start();
        run.reaches(handled + 15, &billing).await;
        run.signal("KILL", victim);
        assert!(!run.wait().success(), "it was killed before everything was done");
        handled += 15;
    }
    let out = two.assert_reconciles("after five kills");
    assert!(out.contains("sessions: 50 orders"), "{out}");
    assert!(!two.data().join("ordering.db").exists());
    let again = two.assert_reconciles("again");
    assert!(again.contains("50 orders were known from an earlier run"), "{again}");
    two.assert_nobody_is_left().await;
}
