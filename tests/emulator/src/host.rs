//! The model behind a lock, with a clock, a journal and somebody to wake. The doors call this and nothing else.
//!
//! A door that wants order and speed calls [`Host::submit`] for one input after the other and waits for what each
//! gives; one that has time awaits [`Host::apply`] or a method named after an operation.

mod calls;
mod clock;
mod discard;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::journal::{self, Progress, Recovery, Writer};
use crate::model::{
    Applied, Condition, EntityPath, Fault, Input, Message, Model, Output, ReceiverId, SessionGrant,
    SessionWish, Time,
};

use self::discard::Discard;

pub use clock::{Clock, ManualClock};

/// A running namespace. Clones are the same namespace.
#[derive(Clone, Debug)]
pub struct Host(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    clock: Clock,
    /// The deadline may have come nearer.
    timer: Arc<Notify>,
    receivers: AtomicU64,
    stopping: watch::Sender<bool>,
    /// In place of what the model does with messages, where only the doors are to be measured.
    discard: Option<Discard>,
}

#[derive(Debug)]
struct State {
    model: Model,
    journal: Option<Writer>,
    /// Time never goes back, whatever the system's clock does.
    now: Time,
    /// Counts the times that somebody was woken, for each entity with a watcher.
    watches: HashMap<EntityPath, watch::Sender<u64>>,
}

/// An input that was applied, and perhaps isn't yet as durable as was asked for.
#[derive(Debug)]
#[must_use = "until it is durable nobody may be told"]
pub struct Submitted {
    output: Result<Output, Fault>,
    /// The journal, and how far it must be.
    durable: Option<(watch::Receiver<Progress>, u64)>,
}

impl Submitted {
    /// What the input gave, once it would survive a crash.
    pub async fn durable(self) -> Result<Output, Fault> {
        if let Some((progress, number)) = self.durable {
            reach(progress, number).await?;
        }
        self.output
    }

    /// What the input gave where that needs no waiting; itself where it does.
    pub fn try_durable(self) -> Result<Result<Output, Fault>, Self> {
        let Some((progress, number)) = &self.durable else { return Ok(self.output) };
        let failed = match &*progress.borrow() {
            Progress::Durable(durable) if durable < number => None,
            Progress::Durable(_) => return Ok(self.output),
            Progress::Failed(error) => Some(journal_failed(error)),
        };
        failed.map_or(Err(self), |fault| Ok(Err(fault)))
    }
}

/// Waits until the journal is that far.
async fn reach(mut progress: watch::Receiver<Progress>, number: u64) -> Result<(), Fault> {
    let reached = progress.wait_for(|progress| match progress {
        Progress::Durable(durable) => *durable >= number,
        Progress::Failed(_) => true,
    });
    let failed = match reached.await.as_deref() {
        Ok(Progress::Durable(_)) => return Ok(()),
        Ok(Progress::Failed(error)) => Arc::clone(error),
        Err(_) => "its thread ended".into(),
    };
    Err(journal_failed(&failed))
}

fn journal_failed(error: &str) -> Fault {
    Fault::new(Condition::InternalError, format!("The emulator's journal cannot be written: {error}"))
}

impl Host {
    /// A namespace that lives in memory. Must be called within a tokio runtime, where its timers run.
    #[must_use]
    pub fn in_memory(clock: Clock) -> Self {
        Self::start(Model::new(seed()), None, Time(0), clock, None)
    }

    /// A namespace in memory that forgets the messages that it is sent and never runs out of these to be received: how fast
    /// a door is without a model behind it. Everything but sending, receiving and settling is as it always is.
    #[must_use]
    pub fn discarding(messages: Vec<Message>) -> Self {
        Self::start(Model::new(seed()), None, Time(0), Clock::System, Some(Discard::new(messages)))
    }

    /// A namespace that lives in a directory, as it was when its last process ended. Must be called within a tokio
    /// runtime.
    pub fn open(directory: &Path, clock: Clock) -> Result<(Self, Recovery), journal::Error> {
        let restart = |model: &mut Model, last: Time| {
            // What was due while nobody ran happens now, at one time, before anybody looks.
            let now = last.max(clock.now());
            model.apply(now, Input::Restart);
            now
        };
        let opened = journal::open(directory, || Model::new(seed()), restart)?;
        Ok((Self::start(opened.model, Some(opened.writer), opened.time, clock, None), opened.recovery))
    }

    fn start(
        model: Model,
        journal: Option<Writer>,
        now: Time,
        clock: Clock,
        discard: Option<Discard>,
    ) -> Self {
        let receivers = AtomicU64::new(model.last_receiver().0 + 1);
        let state = Mutex::new(State { model, journal, now, watches: HashMap::new() });
        let stopping = watch::Sender::new(false);
        let shared =
            Arc::new(Shared { state, clock, timer: Arc::new(Notify::new()), receivers, stopping, discard });
        tokio::spawn(timers(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// The time that the next input would get.
    #[must_use]
    pub fn now(&self) -> Time {
        let mut state = self.state();
        self.tell_time(&mut state)
    }

    /// A receiver that nobody else is.
    #[must_use]
    pub fn new_receiver(&self) -> ReceiverId {
        ReceiverId(self.0.receivers.fetch_add(1, Ordering::Relaxed))
    }

    /// Applies an input at once. Inputs submitted in an order are applied and become durable in that order.
    pub fn submit(&self, input: Input) -> Submitted {
        if let Some(output) = self.0.discard.as_ref().and_then(|discard| discard.answer(&input)) {
            return Submitted { output: Ok(output), durable: None };
        }
        let mut state = self.state();
        let now = self.tell_time(&mut state);
        self.submit_locked(&mut state, now, input)
    }

    /// Applies an input and waits until it is durable.
    pub async fn apply(&self, input: Input) -> Result<Output, Fault> {
        self.submit(input).durable().await
    }

    /// Looks at the model as it is now.
    pub fn read<R>(&self, look: impl FnOnce(&Model, Time) -> R) -> R {
        let mut state = self.state();
        let now = self.tell_time(&mut state);
        if state.model.next_deadline().is_some_and(|deadline| deadline <= now) {
            // Nobody is told of a tick, so nobody waits until it is durable.
            drop(self.submit_locked(&mut state, now, Input::Tick));
        }
        look(&state.model, now)
    }

    /// Changes whenever receivers of that entity (with its sub-queue) should look again: see [`Applied::woken`]. Watch
    /// first and look then, so that nothing is missed.
    #[must_use]
    pub fn watch(&self, entity: &EntityPath) -> watch::Receiver<u64> {
        let mut state = self.state();
        // Watches that nobody holds any more are swept where their number is about to double.
        if state.watches.len() == state.watches.capacity() {
            state.watches.retain(|_, sender| sender.receiver_count() > 0);
        }
        state.watches.entry(entity.clone()).or_default().subscribe()
    }

    /// Locks a session, waiting up to `patience` where it wishes for the next one and none is there: then the fault is
    /// a timeout. A door that gives up waiting (and drops the future) says `CloseReceiver` all the same: the session may
    /// have been locked just then.
    pub async fn wait_session(
        &self,
        entity: &EntityPath,
        receiver: ReceiverId,
        wish: SessionWish,
        patience: Duration,
    ) -> Result<SessionGrant, Fault> {
        let mut changes = self.watch(entity);
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            changes.mark_unchanged();
            match self.accept_session(entity.clone(), receiver, wish.clone()).await {
                Err(fault) if fault.condition == Condition::Timeout => {
                    let change = tokio::time::timeout_at(deadline, changes.changed()).await;
                    if !matches!(change, Ok(Ok(()))) || *self.0.stopping.borrow() {
                        return Err(fault);
                    }
                }
                other => return other,
            }
        }
    }

    /// Resolves when [`Host::shutdown`] was called.
    pub async fn stopped(&self) {
        let mut stopping = self.0.stopping.subscribe();
        // The sender lives as long as `self`.
        let _closed = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Tells everybody who waits for [`Host::stopped`], and waits until all that was submitted is durable.
    pub async fn shutdown(&self) -> Result<(), Fault> {
        self.0.stopping.send_replace(true);
        let last = {
            let state = self.state();
            for sender in state.watches.values() {
                sender.send_modify(|count| *count += 1);
            }
            state.journal.as_ref().map(|journal| (journal.progress(), journal.appended()))
        };
        match last {
            Some((progress, number)) => reach(progress, number).await,
            None => Ok(()),
        }
    }

    fn submit_locked(&self, state: &mut State, now: Time, input: Input) -> Submitted {
        let encoded = match state.journal.as_ref().map(|journal| encode(journal, now, &input)).transpose() {
            Ok(encoded) => encoded,
            Err(fault) => return Submitted { output: Err(fault), durable: None },
        };
        let before = state.model.next_deadline();
        let Applied { output, changed, woken } = state.model.apply(now, input);
        let durable = match (&state.journal, encoded) {
            (Some(journal), Some(encoded)) if changed => Some((journal.progress(), journal.append(&encoded))),
            _ => None,
        };
        for entity in woken {
            if let Some(sender) = state.watches.get(&entity) {
                sender.send_modify(|count| *count += 1);
            }
        }
        if state.model.next_deadline() != before {
            self.0.timer.notify_one();
        }
        Submitted { output, durable }
    }

    fn tell_time(&self, state: &mut State) -> Time {
        state.now = state.now.max(self.0.clock.now());
        state.now
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside the model is a defect; the other connections go on with what is there.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seed() -> u64 {
    Uuid::new_v4().as_u64_pair().0
}

/// The input as the journal takes it. A journal that has failed takes none, and the model must not run ahead of it.
fn encode(journal: &Writer, now: Time, input: &Input) -> Result<Vec<u8>, Fault> {
    if let Progress::Failed(error) = &*journal.progress().borrow() {
        return Err(journal_failed(error));
    }
    journal::encode_input(now, input).map_err(|error| journal_failed(&error.to_string()))
}

/// Ticks when something is due, for as long as anybody has the host.
async fn timers(shared: Weak<Shared>) {
    let Some((clock, mut stopping)) =
        shared.upgrade().map(|shared| (shared.clock.clone(), shared.stopping.subscribe()))
    else {
        return;
    };
    loop {
        // Nothing of the host is held while this waits, so that the last clone that goes takes everything with it.
        let Some(host) = shared.upgrade().map(Host) else { return };
        let (deadline, now) = host.read(|model, now| (model.next_deadline().unwrap_or(Time::NEVER), now));
        if deadline <= now {
            // What is due can't happen: the journal has failed, and the model stands still from here on.
            return;
        }
        let timer = Arc::clone(&host.0.timer);
        drop(host);
        tokio::select! {
            () = timer.notified() => {}
            () = clock.reach(deadline) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

#[cfg(test)]
mod tests;
