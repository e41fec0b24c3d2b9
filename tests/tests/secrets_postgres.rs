//! Nothing that a run on PostgreSQL shows holds its password, whatever goes wrong.

use tests::fixtures::PgDatabase;
use tests::secrets::{OF_DATABASES, databases, fails_without};

#[tokio::test]
async fn a_run_shows_no_password() {
    databases::a_run_shows_no_password::<PgDatabase>().await;
}

#[test]
fn a_run_without_one_redaction_is_found_out() {
    for redaction in OF_DATABASES {
        // The local broker knows databases by their names.
        fails_without(redaction, "a_run_shows_no_password", &["the Debug form of EventBus"]);
    }
}
