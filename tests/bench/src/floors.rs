//! What this machine, its disk, its database and this client can do at all.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgPool};
use tokio::task::JoinSet;

use crate::Result;
use crate::report::{Floor, Report};
use crate::server::Server;
use crate::statistics::quantile;

/// How long each is measured.
const WINDOW: Duration = Duration::from_millis(1500);

/// What one business row costs, alone and eight at a time.
pub(crate) const INSERT: &str = "INSERT INTO business (customer, note) VALUES ($1, $2)";

/// Of about the size that a row of an order has.
pub(crate) const NOTE: &str =
    "two of the green ones, one of the blue ones, to be delivered after five o'clock";

/// Measures all of them, and tells when that was.
pub(crate) async fn of_machine(
    server: &Server,
    folder: &Path,
    when: &str,
    report: &mut Report,
) -> Result<()> {
    let load = crate::machine::load();
    let mut tell = |name: &str, value: f64, unit| {
        report.floor(Floor { name: format!("{name} ({when}, load {load})"), value, unit });
    };
    tell("8 KiB written and fdatasync", fdatasync(folder)?, "1/s");
    let cell = server.fresh().await?;
    let pool = cell.pool(8).await?;
    tell("one-row INSERT and commit, 1 client", commits(&pool, 1).await?, "1/s");
    tell("one-row INSERT and commit, 8 clients", commits(&pool, 8).await?, "1/s");
    tell("round trip of sqlx, SELECT 1, p50", round_trip(&pool).await?, "us");
    tell("BEGIN and COMMIT of sqlx, p50", begin_commit(&pool).await?, "us");
    pool.close().await;
    cell.drop().await
}

/// How often in a second the disk confirms a page: what bounds each client that commits by itself.
fn fdatasync(folder: &Path) -> Result<f64> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let page = [1; 8192];
    // The file has its size beforehand, as the log of a database.
    file.write_all(&vec![0; 64 * page.len()])?;
    file.sync_all()?;
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < WINDOW {
        if count.is_multiple_of(64) {
            file.rewind()?;
        }
        file.write_all(&page)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// Commits in a second, one row each.
pub(crate) async fn commits(pool: &PgPool, clients: usize) -> Result<f64> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let pool = pool.clone();
        tasks.spawn(async move {
            let mut conn = pool.acquire().await?;
            let mut count = 0_u32;
            while begun.elapsed() < WINDOW {
                let customer = i64::try_from(client).unwrap_or(0);
                sqlx::query(INSERT).bind(customer).bind(NOTE).execute(&mut *conn).await?;
                count += 1;
            }
            Ok::<_, sqlx::Error>(count)
        });
    }
    let mut count = 0;
    while let Some(ended) = tasks.join_next().await {
        count += ended??;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

async fn round_trip(pool: &PgPool) -> Result<f64> {
    let mut conn = pool.acquire().await?;
    let mut taken = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < WINDOW / 3 {
        let asked = Instant::now();
        sqlx::query("SELECT 1").execute(&mut *conn).await?;
        taken.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    Ok(quantile(&taken, 0.5))
}

async fn begin_commit(pool: &PgPool) -> Result<f64> {
    let mut conn = pool.acquire().await?;
    let mut taken = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < WINDOW / 3 {
        let asked = Instant::now();
        conn.begin().await?.commit().await?;
        taken.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    Ok(quantile(&taken, 0.5))
}
