#![allow(unused)]

use distributed_events::{DistributedEvent, EventContext, HandlerError, State, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

#[derive(DistributedEvent, Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
}

mod billing {
    use super::*;

    #[event_handler(subscription = "billing")]
    pub(crate) async fn charge(_: OrderPlaced) -> Result<(), HandlerError> {
        Ok(())
    }

    pub(crate) fn handlers(
        builder: distributed_events::BusBuilder<Sqlite>,
    ) -> distributed_events::BusBuilder<Sqlite> {
        builder.handler::<charge>()
    }
}

use billing::charge;

fn register(builder: distributed_events::BusBuilder<Sqlite>) -> distributed_events::BusBuilder<Sqlite> {
    #[event_handler(subscription = "audit")]
    async fn local(_: OrderPlaced) -> Result<(), HandlerError> {
        Ok(())
    }
    builder.handlers(billing::handlers).handler::<local>().without::<charge>().discovered_handlers_of("audit")
}

fn main() {
    let _both = (charge, register);
}
