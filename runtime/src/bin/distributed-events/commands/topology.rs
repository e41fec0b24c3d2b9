//! stub
use crate::arguments::{General, Topology};
use crate::failure::Failure;
use crate::output::Format;
pub(super) async fn run(_general: &General, _arguments: &Topology, _format: Format) -> Result<(), Failure> {
    Ok(())
}
