//! The transport alone: what it sends when batches come without end, encoding included.

use std::sync::Arc;
use std::time::Instant;

use distributed_events::broker::Batch;
use distributed_events::storage::InboxStore;
use distributed_events::{Broker, Envelope, EventId};
use tokio::task::JoinSet;

/// Events in a second: events like this one, in batches of so many, so many of which are under way, each in a task as the
/// relay has them.
pub async fn send(
    broker: Arc<dyn Broker>,
    store: Arc<dyn InboxStore>,
    event: &Envelope,
    (events, batch, depth): (usize, usize, usize),
) -> f64 {
    let another = || {
        let mut another = event.clone();
        another.id = EventId::new();
        another
    };
    let mut batches: Vec<Vec<_>> =
        (0..events / batch).map(|_| (0..batch).map(|_| another()).collect()).collect();
    let topic = event.topic.clone().unwrap();
    // The first opens the link.
    broker.send(Batch::new(store.as_ref(), &topic, &batches.pop().unwrap())).await.unwrap();
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    for events in batches {
        if under_way.len() == depth {
            under_way.join_next().await.unwrap().unwrap();
        }
        let (broker, store, topic) = (Arc::clone(&broker), Arc::clone(&store), topic.clone());
        under_way.spawn(async move {
            broker.send(Batch::new(store.as_ref(), &topic, &events)).await.unwrap();
        });
    }
    while let Some(sent) = under_way.join_next().await {
        sent.unwrap();
    }
    (events - batch) as f64 / begun.elapsed().as_secs_f64()
}
