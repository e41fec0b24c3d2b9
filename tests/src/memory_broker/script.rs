//! The troubles that a test can ask a [`MemoryBroker`] for, and what it has counted.

use std::collections::{HashMap, VecDeque};

use distributed_events::Envelope;
use distributed_events::broker::{Message, ReceiveError, SendError, Source};

use super::MemoryBroker;

#[derive(Default)]
pub(crate) struct Script {
    pub(super) sends: Gate,
    pub(super) settles: Gate,
    next_sends: VecDeque<Answer>,
    next_receives: VecDeque<ReceiveError>,
    next_settles: VecDeque<Answer>,
    down: bool,
    refused_events: HashMap<String, String>,
    refused_topics: HashMap<String, String>,
    most_events: Option<usize>,
    most_bytes: Option<usize>,
    pub(super) received: HashMap<Source, usize>,
    pub(super) abandoned: usize,
}

/// An answer to one send or settle.
enum Answer {
    Refused(SendError),
    /// Done, and the answer never came.
    Lost,
}

/// A gate that is open, or lets so many pass.
#[derive(Default)]
pub(crate) struct Gate {
    shut: bool,
    permits: usize,
}

impl Gate {
    pub(crate) fn pass(&mut self) -> bool {
        if !self.shut {
            return true;
        }
        let passes = self.permits > 0;
        self.permits = self.permits.saturating_sub(1);
        passes
    }
}

fn lost() -> SendError {
    SendError::Unavailable { reason: "the answer was lost".to_owned(), retry_after: None }
}

fn unreachable() -> SendError {
    SendError::Unavailable { reason: "down".to_owned(), retry_after: None }
}

impl Script {
    /// Whether the broker takes a batch, and what it answers.
    pub(super) fn answer(&mut self, topic: &str, events: &[Envelope]) -> (bool, Result<(), SendError>) {
        if self.down {
            return (false, Err(unreachable()));
        }
        match self.next_sends.pop_front() {
            Some(Answer::Lost) => return (true, Err(lost())),
            Some(Answer::Refused(error)) => return (false, Err(error)),
            None => {}
        }
        if let Some(reason) = self.refused_topics.get(topic) {
            return (false, Err(SendError::Topic { topic: topic.to_owned(), reason: reason.clone() }));
        }
        let bytes: usize = events.iter().map(|event| event.data.len()).sum();
        if self.most_events.is_some_and(|most| events.len() > most)
            || self.most_bytes.is_some_and(|most| bytes > most)
        {
            return (false, Err(SendError::BatchTooBig(format!("{} events, {bytes} bytes", events.len()))));
        }
        for event in events {
            if let Some(reason) = self.refused_events.get(&event.data) {
                return (false, Err(SendError::Event { id: event.id, reason: reason.clone() }));
            }
        }
        (true, Ok(()))
    }

    pub(super) fn settle(&mut self) -> (bool, Result<(), ReceiveError>) {
        let unavailable = |error: SendError| Err(ReceiveError::Unavailable(error.to_string()));
        match self.next_settles.pop_front() {
            Some(Answer::Lost) => (true, unavailable(lost())),
            Some(Answer::Refused(error)) => (false, unavailable(error)),
            None if self.down => (false, unavailable(unreachable())),
            None => (true, Ok(())),
        }
    }

    pub(super) fn receiver_error(&self) -> Option<ReceiveError> {
        self.down.then(|| ReceiveError::Unavailable("down".to_owned()))
    }

    pub(super) fn receive_error(&mut self, source: &Source) -> Option<ReceiveError> {
        let scripted = if source.dead_letter_queue { None } else { self.next_receives.pop_front() };
        scripted.or_else(|| self.receiver_error())
    }
}

impl MemoryBroker {
    fn script<R>(&self, write: impl FnOnce(&mut Script) -> R) -> R {
        let written = write(&mut self.state().script);
        self.changed();
        written
    }

    /// The next send that has no other answer yet is refused so.
    pub fn refuse_next_send(&self, error: SendError) {
        self.script(|script| script.next_sends.push_back(Answer::Refused(error)));
    }

    /// The next send is accepted, and its sender never learns of it.
    pub fn lose_next_answer(&self) {
        self.script(|script| script.next_sends.push_back(Answer::Lost));
    }

    /// Events with this body can never be sent.
    pub fn refuse_event(&self, body: &str, reason: &str) {
        self.script(|script| script.refused_events.insert(body.to_owned(), reason.to_owned()));
    }

    /// A topic takes nothing until it is mended.
    pub fn refuse_topic(&self, topic: &str, reason: &str) {
        self.script(|script| script.refused_topics.insert(topic.to_owned(), reason.to_owned()));
    }

    /// A topic takes events again.
    pub fn mend_topic(&self, topic: &str) {
        self.script(|script| script.refused_topics.remove(topic));
    }

    /// Batches of more events than this are too big, whatever the relay was told.
    pub fn refuse_batches_above(&self, events: usize) {
        self.script(|script| script.most_events = Some(events));
    }

    /// Batches whose bodies are longer than this are too big, also those of one event.
    pub fn refuse_bodies_above(&self, bytes: usize) {
        self.script(|script| script.most_bytes = Some(bytes));
    }

    /// Nobody reaches the broker until it is up again.
    pub fn set_down(&self, down: bool) {
        self.script(|script| script.down = down);
    }

    /// Sends wait until they are released.
    pub fn hold_sends(&self) {
        self.script(|script| script.sends = Gate { shut: true, permits: 0 });
    }

    /// So many of the waiting or coming sends go on.
    pub fn let_sends_pass(&self, count: usize) {
        self.script(|script| script.sends.permits += count);
    }

    /// All sends go on.
    pub fn release_sends(&self) {
        self.script(|script| script.sends = Gate::default());
    }

    /// Settles wait until they are released.
    pub fn hold_settles(&self) {
        self.script(|script| script.settles = Gate { shut: true, permits: 0 });
    }

    /// All settles go on.
    pub fn release_settles(&self) {
        self.script(|script| script.settles = Gate::default());
    }

    /// The next receive fails.
    pub fn refuse_next_receive(&self, error: ReceiveError) {
        self.script(|script| script.next_receives.push_back(error));
    }

    /// The next settle fails, and the messages stay.
    pub fn refuse_next_settle(&self) {
        self.script(|script| script.next_settles.push_back(Answer::Refused(unreachable())));
    }

    /// The next settle is done, and the receiver never learns of it.
    pub fn lose_next_settle(&self) {
        self.script(|script| script.next_settles.push_back(Answer::Lost));
    }

    /// All locks run out.
    pub fn expire_locks(&self) {
        for queue in self.state().subscriptions.values_mut() {
            queue.unlock(|_, _| true);
        }
        self.changed();
    }

    /// Puts a message into a subscription as it is, with the next sequence number if it has none.
    pub fn enqueue(&self, source: &Source, mut message: Message) {
        let mut state = self.state();
        state.sequence += 1;
        if message.sequence_number == 0 {
            message.sequence_number = state.sequence;
        }
        state.queue(source).unwrap().push(message);
        drop(state);
        self.changed();
    }

    /// Messages of a subscription that nobody has completed, and how many of them are locked.
    #[must_use]
    pub fn waiting(&self, source: &Source) -> (usize, usize) {
        self.state().queue(source).map_or((0, 0), |queue| queue.length())
    }

    /// How many messages of a subscription were completed.
    #[must_use]
    pub fn completed(&self, source: &Source) -> u64 {
        self.state().queue(source).map_or(0, |queue| queue.completed())
    }

    /// How many messages of a subscription were handed out, redeliveries included.
    #[must_use]
    pub fn received(&self, source: &Source) -> usize {
        self.state().script.received.get(source).copied().unwrap_or(0)
    }

    /// How many messages were given back.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.state().script.abandoned
    }
}
