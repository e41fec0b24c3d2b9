//! The manual's rights are enough, and no more than that, on PostgreSQL.

use tests::fixtures::PgDatabase;
use tests::rights;

#[tokio::test]
async fn the_documented_rights_are_enough() {
    rights::the_documented_rights_are_enough::<PgDatabase>().await;
}

#[tokio::test]
async fn the_documented_rights_allow_nothing_else() {
    rights::the_documented_rights_allow_nothing_else::<PgDatabase>().await;
}
