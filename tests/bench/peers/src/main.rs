//! Other outboxes and job queues that are written in Rust, each driven as its documentation says: ../../README.md.

#[path = "../../src/measure/peers/contestant.rs"]
mod contestant;
mod graphile_worker;
mod hexeract;
mod outbox_core;

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use self::contestant::{Task, compete};

/// What can go wrong is told to a person and to nobody else.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The event of every contestant: about 200 bytes of JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    n: usize,
    note: String,
}

impl Order {
    fn new(n: usize) -> Self {
        Self { n, note: "x".repeat(178) }
    }
}

/// The same as JSON, made in the database for the numbers from 0 to before $1.
pub(crate) const ORDERS: &str = "SELECT n, jsonb_build_object('n', n, 'note', repeat('x', 178)) AS payload \
    FROM generate_series(0, $1::bigint - 1) AS n";

/// What a handler does that does anything: in a transaction of its own, since none of these peers has one for it.
pub(crate) const INSERT: &str = "INSERT INTO business (customer, note) VALUES ($1, $2)";

#[tokio::main]
async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let peer = words.next().unwrap_or_default();
    let competed = match Task::read(words) {
        Err(error) => Err(error),
        Ok(task) => match peer.as_str() {
            "graphile_worker" => compete::<graphile_worker::Peer>(&task).await,
            "hexeract" => compete::<hexeract::Peer>(&task).await,
            "outbox-core" => compete::<outbox_core::Peer>(&task).await,
            other => Err(format!("unknown peer: {other}").into()),
        },
    };
    match competed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{peer}: {error}");
            ExitCode::FAILURE
        }
    }
}
