//! The examples that need a PostgreSQL server.

use tests::programs::run;

fn url() -> String {
    tests::fixtures::server("DISTRIBUTED_EVENTS_POSTGRES")
}

#[test]
fn the_quickstart_reconciles() {
    let out = run("quickstart", &["--postgres", &url()]);
    assert!(out.contains("reconciled: yes"), "{out}");
    let again = run("quickstart", &["--postgres", &url()]);
    assert!(again.contains("300 orders were known") && again.contains("reconciled: yes"), "{again}");
}

#[test]
fn two_databases_of_different_kinds() {
    let out = run("two_databases", &[&url()]);
    assert_eq!(out, "booked on PostgreSQL: [250, 1000, 75]\n");
}
