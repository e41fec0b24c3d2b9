//! What answers in place of the model where only the doors are to be measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use crate::model::{Delivery, Input, LockToken, Message, MessageState, Output, ReceiveMode, Time};

/// The same messages over and over, under another token each time.
#[derive(Debug)]
pub(super) struct Discard {
    messages: Vec<Arc<Message>>,
    deliveries: AtomicU64,
}

impl Discard {
    pub(super) fn new(messages: Vec<Message>) -> Self {
        Self { messages: messages.into_iter().map(Arc::new).collect(), deliveries: AtomicU64::new(0) }
    }

    /// None is the model's to answer.
    pub(super) fn answer(&self, input: &Input) -> Option<Output> {
        Some(match input {
            Input::Send { messages, .. } => Output::Sent { sequence_numbers: vec![0; messages.len()] },
            Input::Receive { max, mode, .. } => {
                let first = self.deliveries.fetch_add((*max).into(), Ordering::Relaxed);
                let numbers = first..first + u64::from(*max);
                Output::Received(numbers.filter_map(|number| self.deliver(number, *mode)).collect())
            }
            Input::Settle { tokens, .. } => Output::Settled(vec![Ok(()); tokens.len()]),
            _ => return None,
        })
    }

    fn deliver(&self, number: u64, mode: ReceiveMode) -> Option<Delivery> {
        let index = usize::try_from(number).unwrap_or_default().checked_rem(self.messages.len())?;
        let token = LockToken(Uuid::from_u64_pair(1, number));
        Some(Delivery {
            message: Arc::clone(&self.messages[index]),
            sequence_number: 0,
            enqueued_sequence_number: None,
            enqueued_time: Time(0),
            expires: None,
            delivery_count: 0,
            state: MessageState::Active,
            dead_letter_source: None,
            lock: (mode == ReceiveMode::PeekLock).then_some((token, Time::NEVER)),
        })
    }
}
