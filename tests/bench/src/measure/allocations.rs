//! How often the client asks the allocator for memory while it does what is measured, by [dhat](https://docs.rs/dhat).

use std::path::Path;

use super::Bench;
use super::looks::{self, Look};
use crate::Result;

/// Counts for each of what can be looked at, and leaves a profile of it in a folder; measures nothing.
pub(super) async fn count(bench: &Bench, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    println!("{:<14} {:>12} {:>12}   of this process", "", "allocations", "bytes");
    for (name, subject) in looks::SUBJECTS {
        let file = folder.join(format!("{name}.json"));
        let of = looks::run(bench, subject, Look::Allocations(file.clone())).await?;
        let (blocks, bytes) = totals(&file)?;
        let (blocks, bytes, unit) = (blocks / of, bytes / of, subject.unit());
        println!("{name:<14} {blocks:>12.1} {bytes:>12.0}   for each {unit}: {}", file.display());
    }
    println!("profiles: https://nnethercote.github.io/dh_view/dh_view.html shows which call asked for what");
    Ok(())
}

/// Runs what is timed while the allocator writes down who asks it for what.
pub(super) async fn counted<T>(file: &Path, timed: impl Future<Output = T>) -> Result<T> {
    let counting = counting(file);
    let output = timed.await;
    drop(counting);
    Ok(output)
}

#[cfg(feature = "allocations")]
fn counting(file: &Path) -> impl Sized {
    dhat::Profiler::builder().file_name(file).build()
}

/// Nobody gets here: `--allocations` is refused without the feature.
#[cfg(not(feature = "allocations"))]
fn counting(_: &Path) -> impl Sized {}

/// Blocks and bytes of all the places of a profile.
fn totals(file: &Path) -> Result<(f64, f64)> {
    let profile: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let places = profile["pps"].as_array().ok_or("a profile without places")?;
    let sum = |name: &str| places.iter().filter_map(|place| place[name].as_f64()).sum::<f64>();
    Ok((sum("tbk"), sum("tb")))
}
