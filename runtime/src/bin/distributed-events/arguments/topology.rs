//! What can be said about a topology.

use std::path::PathBuf;

use clap::Args;

/// From `[[topics]]` and `[[subscriptions]]` of the configuration, or from a service's own `bus.topology()`.
#[derive(Args, Debug)]
#[group(id = "what", multiple = false)]
pub(crate) struct What {
    /// Shows it (the default).
    #[arg(long)]
    pub(crate) show: bool,
    /// Prints it as Bicep.
    #[arg(long)]
    pub(crate) bicep: bool,
    /// Creates at the broker what is missing, and reports what is otherwise.
    #[arg(long)]
    pub(crate) ensure: bool,
    /// Reports what is missing or otherwise at the broker, with exit status 3 if anything is.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Topology {
    #[command(flatten)]
    pub(crate) what: What,
    /// The JSON of one topology or of several, as a service writes it, instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Of this lane alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) lane: Option<String>,
}
