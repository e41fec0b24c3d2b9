//! Order within a session: the events of one order are handled one after the other, in the order of their transactions.
//! A failing one holds up its own session and no other.
//!
//!     cargo run --example ordered_sessions

use distributed_events::{
    DistributedEvent, EventBus, EventContext, HandlerError, LocalBroker, State, event_handler,
};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use tokio::sync::mpsc;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "shipping.parcel-moved", session = parcel)]
struct ParcelMoved {
    parcel: String,
    place: String,
}

#[event_handler(subscription = "tracking", retry(initial = "100ms"))]
async fn track(
    moved: &ParcelMoved,
    context: &EventContext,
    State(log): State<mpsc::UnboundedSender<String>>,
) -> Result<(), HandlerError> {
    if moved.parcel == "slow" && moved.place == "depot" && context.attempt() < 3 {
        return Err("the depot does not answer".into());
    }
    Ok(log.send(format!("{:<6} {}", moved.parcel, moved.place))?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let pool = SqlitePool::connect("sqlite::memory:").await?;
    EventBus::migrate(&pool).await?;
    let (log, mut tracked) = mpsc::unbounded_channel::<String>();
    let bus =
        EventBus::builder(pool.clone()).broker(LocalBroker::new()).handler::<track>().state(log).build()?;

    for place in ["shop", "depot", "door"] {
        for parcel in ["slow", "quick", "other"] {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
            ParcelMoved { parcel: parcel.into(), place: place.into() }.publish(&mut tx).await?;
            bus.commit(tx).await?;
        }
    }

    bus.run_until(async {
        for _ in 0..9 {
            println!("{}", tracked.recv().await.unwrap_or_default());
        }
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    #[test]
    fn a_depot_that_does_not_answer_holds_up_its_own_parcel_and_no_other() {
        let (log, mut tracked) = mpsc::unbounded_channel::<String>();
        TestBus::run(
            move |bus| bus.handler::<track>().state(log.clone()),
            async |bus| {
                for place in ["depot", "door"] {
                    for parcel in ["slow", "quick"] {
                        bus.receive(&ParcelMoved { parcel: parcel.into(), place: place.into() })?;
                    }
                }
                bus.settled().await?;
                bus.assert_none_dead().await?;
                let lines: Vec<_> = std::iter::from_fn(|| tracked.try_recv().ok()).collect();
                assert_eq!(lines, ["quick  depot", "quick  door", "slow   depot", "slow   door"]);
                Ok(())
            },
        );
    }
}
