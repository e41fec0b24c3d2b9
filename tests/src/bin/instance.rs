//! One instance of a service, for the tests of several: see `tests::instances`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    tests::instances::program::main().await
}
