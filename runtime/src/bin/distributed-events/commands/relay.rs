//! stub
use crate::arguments::{General, Relay};
use crate::failure::Failure;
pub(super) async fn run(_general: &General, _arguments: &Relay) -> Result<(), Failure> {
    Ok(())
}
