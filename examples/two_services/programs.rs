//! The programs that are started: built here, so that `cargo run --example two_services` is all there is to type, and the
//! quickstart's build stays small.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;

pub(crate) struct Programs {
    pub(crate) emulator: PathBuf,
    pub(crate) shop: PathBuf,
}

impl Programs {
    /// Those that lie in a directory, as cargo lays them.
    pub(crate) fn of(directory: &Path) -> Self {
        Self {
            emulator: directory.join("servicebus-emulator"),
            shop: directory.join("examples").join("shop"),
        }
    }

    /// Builds them beside this program, with the cargo that runs it.
    pub(crate) fn build(postgres: bool) -> Result<Self, Failure> {
        let this = std::env::current_exe()?;
        // target/debug/examples/two_services
        let directory =
            this.parent().and_then(Path::parent).ok_or("this program is in no target directory")?;
        let target = directory.parent().ok_or("this program is in no target directory")?;
        let profile = match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let features =
            if postgres { "examples/service-bus,examples/postgres" } else { "examples/service-bus" };
        println!("building the emulator and the services");
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--profile", profile, "--features", features])
            .args(["--package", "servicebus-emulator", "--bin", "servicebus-emulator"])
            .args(["--package", "examples", "--example", "shop"])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .status()
            .map_err(|error| format!("cargo can't be started: {error}"))?;
        if !status.success() {
            return Err("the emulator and the services could not be built".into());
        }
        Ok(Self::of(directory))
    }
}
