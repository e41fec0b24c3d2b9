//! The examples that need a MariaDB server.

use tests::programs::run;

#[test]
fn the_quickstart_reconciles() {
    let url = tests::fixtures::server("DISTRIBUTED_EVENTS_MYSQL");
    let out = run("quickstart", &["--mysql", &url]);
    assert!(out.contains("reconciled: yes"), "{out}");
    let again = run("quickstart", &["--mysql", &url]);
    assert!(again.contains("300 orders were known") && again.contains("reconciled: yes"), "{again}");
}
