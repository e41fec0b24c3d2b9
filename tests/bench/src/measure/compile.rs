//! What the macros cost the compiler: so many events and handlers, beside the same trait implementations written by hand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{Bench, interleaved};
use crate::Result;
use crate::report::Row;
use crate::statistics::Target;

/// Of each.
const COUNT: usize = 100;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

const MANIFEST: &str = r#"[package]
name = "NAME"
version = "0.0.0"
edition = "2024"

[dependencies]
distributed-events = { path = "ROOT/runtime", features = ["sqlite"] }
serde = { version = "1", features = ["derive"] }
sqlx = { version = "0.9", default-features = false, features = ["runtime-tokio", "sqlite"] }
"#;

const USES: &str =
    "use distributed_events::*;\nuse serde::{Deserialize, Serialize};\nuse sqlx::{Sqlite, Transaction};\n";

const BODY: &str = "sqlx::query(\"INSERT INTO charges (order_id) VALUES (?)\").bind(event.order_id)\
    .execute(&mut **tx).await?; Ok(())";

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let folder = std::env::current_exe()?.parent().ok_or("a program without a folder")?.join("compile");
    std::fs::create_dir_all(&folder)?;
    let members = "[workspace]\nresolver = \"3\"\nmembers = [\"with_macros\", \"by_hand\"]\n";
    std::fs::write(folder.join("Cargo.toml"), members)?;
    std::fs::copy(Path::new(ROOT).join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let macros = package(&folder, "with_macros", &with_macros())?;
    let hand = package(&folder, "by_hand", &by_hand())?;
    for source in [&macros, &hand] {
        seconds(&folder, source).await?;
    }
    let pairs = interleaved(
        bench.rounds_of(true),
        async || seconds(&folder, &macros).await,
        async || seconds(&folder, &hand).await,
    )
    .await?;
    let each: Vec<_> =
        pairs.iter().map(|pair| (pair.subject - pair.floor) * 1000.0 / (2 * COUNT) as f64).collect();
    let case = format!("{COUNT} events and {COUNT} handlers, debug build");
    bench.report.row(Row::compared("compile", &case, "s", &pairs, "the same by hand"));
    let row = Row::alone("compile", "more for each than by hand", "ms", &each);
    bench.report.row(row.target(Target::AtMost(15.0)));
    Ok(())
}

/// Writes a package of one file; tells where that is.
fn package(folder: &Path, name: &str, source: &str) -> Result<PathBuf> {
    let package = folder.join(name);
    std::fs::create_dir_all(package.join("src"))?;
    std::fs::write(package.join("Cargo.toml"), MANIFEST.replace("NAME", name).replace("ROOT", ROOT))?;
    let file = package.join("src/lib.rs");
    std::fs::write(&file, source)?;
    Ok(file)
}

/// How long the package of a source takes to be compiled once more.
async fn seconds(folder: &Path, source: &Path) -> Result<f64> {
    // Later than the last build by any clock's grain.
    let later = SystemTime::now() + Duration::from_secs(2);
    std::fs::File::options().append(true).open(source)?.set_modified(later)?;
    let name = source.ancestors().nth(2).and_then(Path::file_name).ok_or("a source without a package")?;
    let begun = Instant::now();
    let output = tokio::process::Command::new("cargo")
        .args(["build", "--offline", "--package"])
        .arg(name)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("CARGO_INCREMENTAL", "0")
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return Err(format!("cargo build: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn with_macros() -> String {
    let mut source = USES.to_owned();
    for n in 0..COUNT {
        // Writing to a string can't fail.
        let _written = write!(
            source,
            "#[derive(Serialize, Deserialize, DistributedEvent)]\n\
             #[event(name = \"ordering.order-placed-{n}\", topic = \"orders\", session = order_id)]\n\
             pub struct OrderPlaced{n} {{ pub order_id: i64, pub customer: String }}\n\
             #[event_handler(subscription = \"billing\")]\n\
             pub async fn charge_{n}(event: OrderPlaced{n}, tx: &mut Transaction<'_, Sqlite>) \
             -> Result<(), HandlerError> {{ {BODY} }}\n"
        );
    }
    source
}

fn by_hand() -> String {
    let mut source = USES.to_owned();
    let mut registered = String::new();
    for n in 0..COUNT {
        let _written = write!(
            source,
            "#[derive(Serialize, Deserialize)]\n\
             pub struct OrderPlaced{n} {{ pub order_id: i64, pub customer: String }}\n\
             impl DistributedEvent for OrderPlaced{n} {{\n\
             const NAME: &'static str = \"ordering.order-placed-{n}\";\n\
             const TOPIC: Option<&'static str> = Some(\"orders\");\n\
             const HAS_SESSION: bool = true;\n\
             fn session_id(&self) -> Option<String> {{ Some(self.order_id.to_string()) }} }}\n\
             pub struct Charge{n};\n\
             impl Handler<Sqlite> for Charge{n} {{\n\
             type Event = OrderPlaced{n};\n\
             fn settings(&self) -> HandlerSettings {{ HandlerSettings::new(\"billing\") }}\n\
             async fn handle(&self, event: OrderPlaced{n}, tx: &mut Transaction<'_, Sqlite>, _: &EventContext) \
             -> Result<(), HandlerError> {{ {BODY} }} }}\n"
        );
        let _written = write!(registered, ".handler_value(Charge{n})");
    }
    let _written = writeln!(
        source,
        "pub fn register(bus: BusBuilder<Sqlite>) -> BusBuilder<Sqlite> {{ bus{registered} }}"
    );
    source
}
