//! The manual's rights are enough, and no more than that, on MariaDB.

use tests::fixtures::MySqlDatabase;
use tests::rights;

#[tokio::test]
async fn the_documented_rights_are_enough() {
    rights::the_documented_rights_are_enough::<MySqlDatabase>().await;
}

#[tokio::test]
async fn the_documented_rights_allow_nothing_else() {
    rights::the_documented_rights_allow_nothing_else::<MySqlDatabase>().await;
}
