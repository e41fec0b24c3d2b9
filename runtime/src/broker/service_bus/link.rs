//! One receiving link, served by a task of its own: credit and settles go in, deliveries and the end come out.

use std::time::{Duration, SystemTime};

use fe2o3_amqp::Receiver;
use fe2o3_amqp::link::delivery::{Delivery, DeliveryInfo};
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::link::{ReceiverAttachError, RecvError};
use fe2o3_amqp::types::definitions::{
    Error as AmqpError, ErrorCondition, Fields, ReceiverSettleMode, SenderSettleMode,
};
use fe2o3_amqp::types::messaging::{FilterSet, Source};
use fe2o3_amqp::types::primitives::{Symbol, Value};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::condition::{Trouble, said_by_link};
use super::connection::{Namespace, Opened};
use super::message::{Received, decode, locked_until};
use crate::broker::Message;
use crate::broker::namespace::wire;

/// The filter by which a session is asked for.
const SESSION_FILTER: &str = "com.microsoft:session-filter";
/// How the address of a dead-letter queue ends.
pub(super) const DEAD_LETTER_QUEUE: &str = "/$DeadLetterQueue";
/// How long the last messages on their way are waited for when a link is given up.
const LAST_CALL: Duration = Duration::from_secs(2);

/// What a link's owner tells it.
#[derive(Debug)]
pub(super) enum Command {
    /// So many messages may be on their way from now on.
    Credit(u32),
    /// These are in the inbox.
    Complete(Vec<DeliveryInfo>),
    /// These are for somebody else.
    GiveBack(Vec<DeliveryInfo>),
}

/// What a link tells its owner.
#[derive(Debug)]
pub(super) enum Report {
    /// A message, and until when it is locked.
    Delivery { info: DeliveryInfo, message: Box<Message>, locked_until: Option<SystemTime> },
    /// A message that can't be read, and was put into the dead-letter queue, or stays there.
    Unreadable { reason: String },
    /// The link is gone.
    Ended(Trouble),
    /// The link was closed as its owner wished, and its AMQP session can have another.
    Free(Opened),
}

/// What to attach to.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// An entity without sessions.
    Plain,
    /// The next session that is free, waited for so long.
    NextSession(Duration),
}

/// An attached link.
#[derive(Debug)]
pub(super) struct Attached {
    receiver: Receiver,
    opened: Opened,
    /// Of a dead-letter queue, from which nothing can be dead-lettered.
    dead_letters: bool,
    /// Until when its session is locked, if it has one.
    pub(super) session_locked_until: Option<SystemTime>,
}

/// Attaches to an entity, over an AMQP session that an earlier link to it has left, or over a new one.
pub(super) async fn attach(
    namespace: &Namespace,
    address: &str,
    wish: Wish,
    spare: Option<Opened>,
) -> Result<Attached, Trouble> {
    let mut opened = match spare.filter(|spare| !spare.health.is_over()) {
        Some(spare) => spare,
        None => namespace.session(address).await?,
    };
    let mut source = Source::builder().address(address);
    let mut properties = Fields::new();
    let mut asked_to_wait = Duration::ZERO;
    if let Wish::NextSession(wait) = wish {
        let mut filter = FilterSet::new();
        filter.insert(Symbol::from(SESSION_FILTER), Value::Null);
        source = source.filter(filter);
        asked_to_wait = wait;
        let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        properties.insert(Symbol::from("com.microsoft:timeout"), Value::Uint(wait));
    }
    let attach = Receiver::builder()
        .name(format!("{address}-{}", Uuid::new_v4()))
        .source(source.build())
        // Peek-lock (Service Bus, AMQP protocol guide).
        .sender_settle_mode(SenderSettleMode::Unsettled)
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .credit_mode(CreditMode::Manual)
        .properties(properties)
        // The service answers with the session that it chose.
        .verify_incoming_source(false)
        .attach(&mut opened.session);
    let attach = async {
        attach.await.map_err(|error| match error {
            ReceiverAttachError::RemoteClosedWithError(error) => Trouble::said(&error),
            error => Trouble::Broken(format!("{address}: {error}")),
        })
    };
    let receiver = opened.health.answer_after(asked_to_wait, "attach", attach).await?;
    let session_locked_until = receiver.properties(|properties| {
        match properties.as_ref()?.get(&Symbol::from("com.microsoft:locked-until-utc"))? {
            Value::Long(ticks) => from_ticks(*ticks),
            _ => None,
        }
    });
    let dead_letters = address.ends_with(DEAD_LETTER_QUEUE);
    Ok(Attached { receiver, opened, dead_letters, session_locked_until })
}

/// .NET's ticks: tenths of a microsecond since the year 1.
fn from_ticks(ticks: i64) -> Option<SystemTime> {
    const UNIX_EPOCH_TICKS: i64 = 621_355_968_000_000_000;
    let since = u64::try_from(ticks.checked_sub(UNIX_EPOCH_TICKS)?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(since / 10))
}

impl Attached {
    /// Serves the link until its owner is gone or it ends.
    pub(super) async fn serve(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        reports: impl Fn(Report) -> Result<(), Report>,
    ) {
        let health = self.opened.health.clone();
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let done = match command {
                        Some(Command::Credit(credit)) => {
                            self.receiver.set_credit(credit).await.map_err(Trouble::broken)
                        }
                        Some(Command::Complete(infos)) => {
                            self.receiver.accept_all(infos).await.map_err(Trouble::broken)
                        }
                        Some(Command::GiveBack(infos)) => self.give_back(infos).await,
                        None => break,
                    };
                    if let Err(trouble) = done {
                        let _unheard = reports(Report::Ended(trouble));
                        break;
                    }
                }
                received = self.receiver.recv::<Received>() => {
                    let report = self.report_of(received).await;
                    let ends = matches!(report, Report::Ended(_));
                    if reports(report).is_err() || ends {
                        break;
                    }
                }
                () = health.ended() => {
                    let ended = Trouble::Broken("the connection has ended".to_owned());
                    let _unheard = reports(Report::Ended(ended));
                    break;
                }
            }
        }
        if health.is_over() {
            return;
        }
        self.give_back_the_rest().await;
        // What nobody has settled is free again at once, and not only when its lock runs out.
        let closed = tokio::time::timeout(LAST_CALL, self.receiver.close()).await;
        let opened = match closed {
            Ok(Ok(())) => match reports(Report::Free(self.opened)) {
                Err(Report::Free(unwanted)) => unwanted,
                _ => return,
            },
            _ => self.opened,
        };
        let _ended = tokio::time::timeout(LAST_CALL, opened.end()).await;
    }

    async fn report_of(&self, received: Result<Delivery<Received>, RecvError>) -> Report {
        match received {
            Ok(delivery) => {
                let (info, message) = delivery.into_parts();
                let locked_until = locked_until(&message);
                Report::Delivery { info, message: Box::new(decode(message)), locked_until }
            }
            Err(RecvError::MessageDecode(error)) => {
                let reason = error.source.to_string();
                if !self.dead_letters {
                    // It would come again and again until it is dead-lettered, with no reason that says why.
                    let rejected = self.receiver.reject(error.info, unreadable(&reason)).await;
                    if let Err(ended) = rejected {
                        return Report::Ended(Trouble::broken(ended));
                    }
                }
                Report::Unreadable { reason }
            }
            Err(RecvError::LinkStateError(error)) => Report::Ended(said_by_link(error)),
            Err(error) => Report::Ended(Trouble::broken(error)),
        }
    }

    /// Back to where they were, as if they had not been delivered: an abandoned message counts a failed delivery.
    async fn give_back(&mut self, infos: Vec<DeliveryInfo>) -> Result<(), Trouble> {
        self.receiver.release_all(infos).await.map_err(Trouble::broken)
    }

    /// Gives back what has arrived and nobody has taken.
    async fn give_back_the_rest(&mut self) {
        let mut rest = Vec::new();
        while let Some(Ok(delivery)) = self.receiver.recv::<Received>().now_or_never() {
            rest.push(DeliveryInfo::from(&delivery));
        }
        if !rest.is_empty() {
            let _ended = self.give_back(rest).await;
        }
    }
}

/// How Service Bus is asked to dead-letter a message, with a reason (AMQP protocol guide, "com.microsoft:dead-letter").
fn unreadable(reason: &str) -> AmqpError {
    let mut info = Fields::new();
    let text = |text: &str| Value::String(text.to_owned());
    info.insert(Symbol::from(wire::DEAD_LETTER_REASON), text("Unreadable"));
    info.insert(Symbol::from(wire::DEAD_LETTER_DESCRIPTION), text(reason));
    AmqpError::new(ErrorCondition::Custom(Symbol::from("com.microsoft:dead-letter")), reason.to_owned(), info)
}
