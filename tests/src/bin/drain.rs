//! Drains a backlog and tells the most memory it took: see `tests::load`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    tests::load::program::main().await
}
