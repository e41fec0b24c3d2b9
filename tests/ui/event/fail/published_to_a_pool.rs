#![allow(unused)]

use distributed_events::DistributedEvent;
use serde::{Deserialize, Serialize};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced;

async fn place(pool: sqlx::SqlitePool) {
    OrderPlaced.publish(&pool).await.unwrap();
}

fn main() {}
