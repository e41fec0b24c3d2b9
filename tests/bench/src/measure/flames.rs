//! Flame graphs of what is measured, by Linux's `perf`: of the whole machine, so of the client and the server beside it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::looks::{self, Look};
use super::{Bench, target};
use crate::Result;

/// What draws, and where it comes from.
const INFERNO: &str = "0.12.4";
/// Samples a second and processor: no divisor of what the kernel's own clock ticks at.
const RATE: &str = "499";

/// Runs what is timed under the profiler, which writes a file.
pub(super) async fn recorded<T>(file: &Path, timed: impl Future<Output = T>) -> Result<T> {
    let mut perf = Command::new("perf")
        .args(["record", "--quiet", "--all-cpus", "--call-graph", "dwarf,4096", "-F", RATE, "-o"])
        .arg(file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("perf can't be started: {error}; install Linux's perf"))?;
    begun(&mut perf, file).await?;
    let output = timed.await;
    let id = perf.id().ok_or("perf has ended before what it was to look at")?;
    let asked = Command::new("kill").args(["-INT", &id.to_string()]).status().await?;
    let ended = perf.wait().await?;
    // It ends by the signal that it was asked by.
    if !asked.success() || ended.code().is_some_and(|code| code != 0) {
        return Err(format!("perf: {ended}; kernel.perf_event_paranoid may forbid it").into());
    }
    Ok(output)
}

/// Waits until the profiler has its file.
async fn begun(perf: &mut Child, file: &Path) -> Result<()> {
    let begins = async {
        while !file.metadata().is_ok_and(|data| data.len() > 0) {
            if let Some(ended) = perf.try_wait()? {
                return Err(format!("perf: {ended}; kernel.perf_event_paranoid may forbid it").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), begins).await.map_err(|_| "perf does not begin")?
}

/// A folder of graphs, and what draws them.
#[derive(Debug)]
pub(super) struct Drawing<'f> {
    folder: &'f Path,
    inferno: PathBuf,
}

impl<'f> Drawing<'f> {
    pub(super) async fn begin(folder: &'f Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder, inferno: install().await? })
    }

    /// Draws what a client and PostgreSQL do while somebody looks.
    pub(super) async fn of<T>(
        &self,
        name: &str,
        client: &str,
        run: impl AsyncFnOnce(Look) -> Result<T>,
    ) -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let profile = scratch.path().join("profile");
        run(Look::Perf(profile.clone())).await?;
        let graph = self.folder.join(format!("{name}.svg"));
        let drawn = Command::new("bash")
            .args(["-c", DRAW, "draw"])
            .args([&profile, &self.inferno, &graph])
            .arg(format!("{name}: the client ({client}) and PostgreSQL"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        if !drawn.status.success() {
            return Err(format!("{name}: {}", String::from_utf8_lossy(&drawn.stderr)).into());
        }
        println!("drawn: {}", graph.display());
        Ok(())
    }
}

/// Draws a graph of each; measures nothing.
pub(super) async fn draw(bench: &Bench, drawing: &Drawing<'_>) -> Result<()> {
    for (name, subject) in looks::SUBJECTS {
        drawing.of(name, "bench", async |look| looks::run(bench, subject, look).await).await?;
    }
    Ok(())
}

/// Stacks of the idle task are left out: what is drawn is what was done.
const DRAW: &str = r#"set -euo pipefail
perf script --no-inline --force -i "$1" 2>/dev/null | "$2/inferno-collapse-perf" --quiet | grep -v '^swapper' |
    "$2/inferno-flamegraph" --quiet --deterministic --minwidth 0.2 --title "$4" --countname samples >"$3.new"
mv "$3.new" "$3""#;

/// The folder of the programs that draw, which are built at the first time.
async fn install() -> Result<PathBuf> {
    let root = target()?.join("tools");
    let programs = root.join("bin");
    if !programs.join("inferno-flamegraph").exists() {
        println!("building inferno {INFERNO}");
        let built = Command::new("cargo")
            .args(["install", "--quiet", "--locked", "inferno", "--version", INFERNO, "--root"])
            .arg(&root)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await?;
        if !built.success() {
            return Err(format!("inferno could not be built: {built}").into());
        }
    }
    Ok(programs)
}
