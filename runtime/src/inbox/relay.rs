//! The inbox relay: from a broker's subscription to the inbox table. Store, commit, then settle.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::incoming::incoming;
use super::settings::InboxSettings;
use crate::broker::{Broker, Delivery, ReceiveError, Receiver, Source};
use crate::pulse::Beat;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
use crate::storage::{CommitOrder, Connections, IncomingEvent, IngestReport, Storage, StorageError};
use crate::telemetry::spans::{self, Place};
use crate::telemetry::{IncidentKind, Telemetry, names};
use crate::{crash, wake};

/// How long one receive waits for messages.
const RECEIVE_WAIT: Duration = Duration::from_secs(5);

/// How many batches are stored at once where a database can: while the disk confirms one, the next is inserted.
const SIDE_BY_SIDE: usize = 2;

/// What came by one receive.
struct Batch {
    tokens: Vec<u64>,
    events: Arc<[IncomingEvent]>,
    span: Span,
    arrived: Instant,
}

/// Fills the inbox of one subscription from a broker, for as long as it runs. Knows no event type.
///
/// [`EventBus`](crate::EventBus) runs two for each subscription: for its messages, and for its dead-letter queue.
#[derive(Debug)]
pub struct InboxRelay<DB: Storage> {
    connections: Connections<DB>,
    broker: Arc<dyn Broker>,
    source: Source,
    /// As traces show it: that of the dead-letter queue is another.
    subscription: String,
    name: String,
    settings: InboxSettings,
    telemetry: Telemetry,
    beat: Arc<Beat>,
}

impl<DB: Storage> InboxRelay<DB> {
    /// A relay from a source, on a pool that [`Storage::open`] has opened.
    #[must_use]
    pub fn new(pool: impl Into<Connections<DB>>, broker: Arc<dyn Broker>, source: Source) -> Self {
        let queue = if source.dead_letter_queue { "/$DeadLetterQueue" } else { "" };
        let name = format!("inbox relay of {}{queue}", source.entity());
        let subscription = format!("{}{queue}", source.subscription);
        Self {
            connections: pool.into(),
            broker,
            source,
            subscription,
            name,
            settings: InboxSettings::default(),
            telemetry: Telemetry::new(),
            beat: Beat::unwatched(),
        }
    }

    /// Its settings.
    #[must_use]
    pub fn settings(mut self, settings: InboxSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Where it tells what it does.
    #[must_use]
    pub fn telemetry(mut self, telemetry: Telemetry) -> Self {
        self.telemetry = telemetry;
        self
    }

    /// Where it shows that it runs.
    pub(crate) fn beat(mut self, beat: Arc<Beat>) -> Self {
        self.beat = beat;
        self
    }

    /// Relays until the signal is given. Ends by itself only where the broker delivers into inboxes without it. Dropping
    /// the future at any point loses nothing: what was received and not settled is delivered again.
    pub async fn run(self, mut shutdown: Shutdown) {
        let mut backoff = Backoff::new(self.settings.backoff_initial, self.settings.backoff_max);
        while !shutdown.is_stopped() {
            self.beat.beat();
            // No message is asked for while the inbox can't be written (rule 19).
            if let Err(error) = self.probe().await {
                self.trouble(IncidentKind::DatabaseTrouble, &error, &mut backoff, &mut shutdown).await;
                continue;
            }
            match self.broker.receiver(&self.source).await {
                Ok(None) => return,
                Ok(Some(receiver)) => self.receive(receiver, &mut backoff, &mut shutdown).await,
                Err(error) => {
                    self.trouble(IncidentKind::BrokerUnavailable, &error, &mut backoff, &mut shutdown).await;
                }
            }
        }
    }

    /// Receives over one link until it breaks or the signal is given.
    async fn receive(&self, mut receiver: Box<dyn Receiver>, backoff: &mut Backoff, shutdown: &mut Shutdown) {
        let side_by_side = if DB::SINGLE_WRITER { 1 } else { SIDE_BY_SIDE };
        let mut batches = VecDeque::new();
        let mut storing = FuturesOrdered::new();
        let mut last = None;
        loop {
            // Beside what is being stored goes only what is there already.
            let wait = if batches.is_empty() { RECEIVE_WAIT } else { Duration::ZERO };
            let most = self.settings.receive_batch;
            let received = shutdown.or_stop(receiver.receive(most, wait)).await;
            self.beat.beat();
            let mut is_full = false;
            let end = match received {
                None => Some(None),
                Some(Err(error)) => Some(Some(error)),
                Some(Ok(deliveries)) => {
                    self.beat.broker_answered();
                    is_full = deliveries.len() >= most;
                    if !deliveries.is_empty() {
                        let batch = self.batch(deliveries);
                        let order = CommitOrder::behind(last.take());
                        last = Some(order.follower());
                        storing.push_back(
                            self.store(Arc::clone(&batch.events), order).instrument(batch.span.clone()),
                        );
                        batches.push_back(batch);
                    }
                    None
                }
            };
            // A broker that had as many as were asked for is likely to have more.
            if end.is_none() && is_full && batches.len() < side_by_side {
                continue;
            }
            while let Some(stored) = storing.next().await {
                if let Err(error) = stored {
                    drop(storing);
                    return self.give_back(receiver, batches, error, backoff, shutdown).await;
                }
                let Some(batch) = batches.pop_front() else { break };
                // Only what is committed is settled, and over the link it came by (rule 18).
                crash::point("inbox.before-settle");
                if let Err(error) = self.complete(receiver.as_mut(), &batch).await
                    && end.is_none()
                {
                    return self.trouble(IncidentKind::BrokerUnavailable, &error, backoff, shutdown).await;
                }
                crash::point("inbox.after-settle");
                if end.is_none() {
                    break;
                }
            }
            match end {
                None => backoff.reset(),
                Some(None) => return,
                Some(Some(error)) => {
                    return self.trouble(IncidentKind::BrokerUnavailable, &error, backoff, shutdown).await;
                }
            }
        }
    }

    fn batch(&self, deliveries: Vec<Delivery>) -> Batch {
        let span = spans::receive(self.place(), deliveries.iter().map(Delivery::arrived));
        let arrived = Instant::now();
        let (tokens, events): (Vec<_>, Vec<_>) = deliveries
            .into_iter()
            .map(|Delivery { token, message }| (token, incoming(message, &self.source)))
            .unzip();
        Batch { tokens, events: events.into(), span, arrived }
    }

    /// While the inbox can't be written nothing more may be locked, and what is locked must not come to the end of its lock,
    /// which would count as a failed delivery: the link is given up (rule 19).
    async fn give_back(
        &self,
        mut receiver: Box<dyn Receiver>,
        batches: VecDeque<Batch>,
        error: StorageError,
        backoff: &mut Backoff,
        shutdown: &mut Shutdown,
    ) {
        for batch in &batches {
            self.telemetry.transferred(
                names::RECEIVE,
                self.place(),
                batch.arrived.elapsed(),
                Some("storage"),
            );
            spans::failed(&batch.span, "storage", &error);
            let settling = spans::settle(&batch.span, self.place(), batch.tokens.len(), "abandon");
            let _given_back = receiver.abandon(&batch.tokens).instrument(settling).await;
        }
        drop(receiver);
        let batches: Vec<_> = batches.into_iter().map(|batch| batch.events).collect();
        self.store_at_last(&batches, error, backoff, shutdown).await;
    }

    /// Settles what is stored, and tells how that went.
    async fn complete(&self, receiver: &mut dyn Receiver, batch: &Batch) -> Result<(), ReceiveError> {
        let place = self.place();
        self.telemetry.transferred(names::RECEIVE, place, batch.arrived.elapsed(), None);
        let span = spans::settle(&batch.span, place, batch.tokens.len(), "complete");
        let begun = Instant::now();
        let settled = receiver.complete(&batch.tokens).instrument(span.clone()).await;
        let failed = settled.as_ref().err().map(|_| "broker_unavailable");
        self.telemetry.transferred(names::SETTLE, place, begun.elapsed(), failed);
        if let Err(error) = &settled {
            spans::failed(&span, "broker_unavailable", error);
        }
        settled
    }

    fn place(&self) -> Place<'_> {
        Place {
            system: self.broker.system(),
            server: self.broker.server(),
            topic: &self.source.topic,
            subscription: Some(&self.subscription),
        }
    }

    /// Stores events that were given back, until that succeeds: then others can be stored too, and when these come again
    /// they are known.
    async fn store_at_last(
        &self,
        batches: &[Arc<[IncomingEvent]>],
        mut error: StorageError,
        backoff: &mut Backoff,
        shutdown: &mut Shutdown,
    ) {
        loop {
            self.trouble(IncidentKind::DatabaseTrouble, &error, backoff, shutdown).await;
            if shutdown.is_stopped() {
                return;
            }
            match self.store_all(batches).await {
                Ok(()) => return backoff.reset(),
                Err(again) => error = again,
            }
        }
    }

    /// Asks the database for what storing needs, the right to write to the inbox, with a mark that marks nothing.
    async fn probe(&self) -> Result<(), StorageError> {
        DB::mark_processed(&mut *self.connections.write().await?, &[-1]).await?;
        Ok(())
    }

    async fn store_all(&self, batches: &[Arc<[IncomingEvent]>]) -> Result<(), StorageError> {
        for events in batches {
            self.store(Arc::clone(events), CommitOrder::default()).await?;
        }
        Ok(())
    }

    async fn store(&self, events: Arc<[IncomingEvent]>, mut order: CommitOrder) -> Result<(), StorageError> {
        order.insert().await;
        let mut conn = self.connections.write().await?;
        crash::point("inbox.before-ingest");
        let report = DB::ingest_in_order(&mut conn, &self.source.subscription, &events, &mut order).await?;
        order.committed();
        drop(conn);
        crash::point("inbox.after-ingest");
        self.tell(report, &events);
        Ok(())
    }

    fn tell(&self, report: IngestReport, events: &[IncomingEvent]) {
        if report.inserted > 0 {
            wake::received(&self.source.subscription);
        }
        self.telemetry.received(self.place(), events.len() as u64, report.duplicates);
        for (event, reason) in events.iter().filter_map(|event| Some((event, event.dead.as_ref()?))) {
            // Where nothing was new, this one was told of when it came first.
            if report.inserted > 0 {
                self.telemetry.dead_in_inbox(&self.source.subscription, 1);
                let incidents = &self.telemetry.incidents;
                incidents.report_event(IncidentKind::EventDead, &self.name, event.id, &event.name, reason);
            }
        }
        if report.conflicts + report.refused > 0 {
            self.telemetry.dead_in_inbox(&self.source.subscription, report.conflicts + report.refused);
            self.telemetry.incidents.report(
                IncidentKind::EventDead,
                &self.name,
                format_args!(
                    "{} events came under an id that another event has, {} could not be stored as they are: all are kept dead",
                    report.conflicts, report.refused
                ),
            );
        }
    }

    async fn trouble(
        &self,
        kind: IncidentKind,
        error: &(dyn std::fmt::Display + Sync),
        backoff: &mut Backoff,
        shutdown: &mut Shutdown,
    ) {
        self.telemetry.incidents.report(kind, &self.name, error);
        self.beat.beat();
        if kind == IncidentKind::BrokerUnavailable {
            self.beat.broker_failed(error);
        }
        if kind == IncidentKind::DatabaseTrouble {
            self.connections.suspect();
        }
        let _stopped = shutdown.or_stop(tokio::time::sleep(backoff.next())).await;
    }
}
