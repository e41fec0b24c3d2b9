//! One method for each operation, so that the doors needn't take outputs apart.

use bytes::Bytes;

use super::Host;
use crate::model::{
    Delivery, EntityPath, Fault, Input, LockToken, Message, Outcome, Output, ReceiveMode, ReceiverId,
    SessionGrant, SessionWish, Time,
};

/// The model gave something else than the input promises: a defect here, told to the client as such.
fn defect(output: &Output) -> Fault {
    Fault::new(
        crate::model::Condition::InternalError,
        format!("the emulator's model answered with {output:?}"),
    )
}

impl Output {
    /// The numbers of [`Input::Send`] and [`Input::Schedule`].
    pub fn into_sequence_numbers(self) -> Result<Vec<i64>, Fault> {
        match self {
            Self::Sent { sequence_numbers } => Ok(sequence_numbers),
            other => Err(defect(&other)),
        }
    }

    /// The messages of [`Input::Receive`] and [`Input::ReceiveDeferred`].
    pub fn into_deliveries(self) -> Result<Vec<Delivery>, Fault> {
        match self {
            Self::Received(deliveries) => Ok(deliveries),
            other => Err(defect(&other)),
        }
    }

    /// The results of [`Input::Settle`].
    pub fn into_settled(self) -> Result<Vec<Result<(), Fault>>, Fault> {
        match self {
            Self::Settled(results) => Ok(results),
            other => Err(defect(&other)),
        }
    }

    /// The times of [`Input::RenewLocks`] and [`Input::RenewSession`].
    pub fn into_times(self) -> Result<Vec<Time>, Fault> {
        match self {
            Self::Renewed(times) => Ok(times),
            other => Err(defect(&other)),
        }
    }
}

impl Host {
    /// See [`Input::Send`].
    pub async fn send(&self, entity: EntityPath, messages: Vec<Message>) -> Result<Vec<i64>, Fault> {
        self.apply(Input::Send { entity, messages }).await?.into_sequence_numbers()
    }

    /// See [`Input::Schedule`].
    pub async fn schedule(&self, entity: EntityPath, messages: Vec<Message>) -> Result<Vec<i64>, Fault> {
        self.apply(Input::Schedule { entity, messages }).await?.into_sequence_numbers()
    }

    /// See [`Input::Receive`].
    pub async fn receive(
        &self,
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: Option<String>,
        mode: ReceiveMode,
        max: u32,
    ) -> Result<Vec<Delivery>, Fault> {
        self.apply(Input::Receive { entity, receiver, session, mode, max }).await?.into_deliveries()
    }

    /// See [`Input::ReceiveDeferred`].
    pub async fn receive_deferred(
        &self,
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: Option<String>,
        mode: ReceiveMode,
        sequence_numbers: Vec<i64>,
    ) -> Result<Vec<Delivery>, Fault> {
        let input = Input::ReceiveDeferred { entity, receiver, session, mode, sequence_numbers };
        self.apply(input).await?.into_deliveries()
    }

    /// See [`Input::Settle`].
    pub async fn settle(
        &self,
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: Option<String>,
        tokens: Vec<LockToken>,
        outcome: Outcome,
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        self.apply(Input::Settle { entity, receiver, session, tokens, outcome }).await?.into_settled()
    }

    /// See [`Input::RenewLocks`].
    pub async fn renew_locks(
        &self,
        entity: EntityPath,
        session: Option<String>,
        tokens: Vec<LockToken>,
    ) -> Result<Vec<Time>, Fault> {
        self.apply(Input::RenewLocks { entity, session, tokens }).await?.into_times()
    }

    /// See [`Input::DeleteMessages`].
    pub async fn delete_messages(
        &self,
        entity: EntityPath,
        session: Option<String>,
        max: u32,
        before: Time,
    ) -> Result<u32, Fault> {
        match self.apply(Input::DeleteMessages { entity, session, max, before }).await? {
            Output::Deleted(count) => Ok(count),
            other => Err(defect(&other)),
        }
    }

    /// See [`Input::AcceptSession`]; [`Host::wait_session`] waits.
    pub async fn accept_session(
        &self,
        entity: EntityPath,
        receiver: ReceiverId,
        wish: SessionWish,
    ) -> Result<SessionGrant, Fault> {
        match self.apply(Input::AcceptSession { entity, receiver, wish }).await? {
            Output::Session(grant) => Ok(grant),
            other => Err(defect(&other)),
        }
    }

    /// See [`Input::RenewSession`].
    pub async fn renew_session(
        &self,
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: String,
    ) -> Result<Time, Fault> {
        let times = self.apply(Input::RenewSession { entity, receiver, session }).await?.into_times()?;
        times.first().copied().ok_or_else(|| defect(&Output::Renewed(Vec::new())))
    }

    /// See [`Input::SetSessionState`].
    pub async fn set_session_state(
        &self,
        entity: EntityPath,
        receiver: Option<ReceiverId>,
        session: String,
        state: Option<Bytes>,
    ) -> Result<(), Fault> {
        self.apply(Input::SetSessionState { entity, receiver, session, state }).await.map(drop)
    }
}
