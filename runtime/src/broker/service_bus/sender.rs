//! One sending link for each topic; batches are pipelined on it.

use std::sync::atomic::{AtomicU64, Ordering};

use fe2o3_amqp::Sender;
use fe2o3_amqp::link::{SendError as LinkSendError, SenderAttachError};
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::SenderSettleMode;
use fe2o3_amqp::types::messaging::Outcome;
use futures_util::FutureExt;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::condition::{Trouble, said_by_link};
use super::connection::Namespace;
use super::health::Health;
use super::message::Encoded;

/// A topic's sending link, while there is one.
#[derive(Debug, Default)]
pub(super) struct TopicSender {
    link: Mutex<Option<Link>>,
    /// The largest message that the topic takes, once it is known.
    max_size: AtomicU64,
}

#[derive(Debug)]
struct Link {
    sender: Sender,
    /// Lives as long as its link.
    _session: SessionHandle<()>,
    health: Health,
    /// Tells this link from the one after it.
    id: Uuid,
}

impl TopicSender {
    /// Bytes of the largest message or batch, once a link has told.
    pub(super) fn max_size(&self) -> Option<u64> {
        Some(self.max_size.load(Ordering::Relaxed)).filter(|size| *size > 0)
    }

    /// Sends a message or batch and waits until it is accepted. Others may be sent meanwhile.
    pub(super) async fn send(
        &self,
        namespace: &Namespace,
        topic: &str,
        encoded: Encoded,
    ) -> Result<(), Trouble> {
        let mut held = self.link.lock().await;
        // Service Bus detaches a link that has had nothing to do for some time.
        if held.as_mut().is_some_and(|link| link.sender.on_detach().now_or_never().is_some()) {
            *held = None;
        }
        if held.is_none() {
            *held = Some(self.attach(namespace, topic).await?);
        }
        let Some(link) = held.as_mut() else {
            return Err(Trouble::Broken("no link".to_owned()));
        };
        if let Some(max) = self.max_size().filter(|max| (encoded.size as u64) > *max) {
            return Err(too_big(encoded.size, max));
        }
        let (id, health) = (link.id, link.health.clone());
        // It may have to wait for credit.
        let sending = async { link.sender.send_batchable(encoded.sendable).await.map_err(trouble_of) };
        let under_way = match health.answer("sending", sending).await {
            Ok(under_way) => under_way,
            Err(trouble) => {
                *held = None;
                return Err(trouble);
            }
        };
        // The next batch needn't wait for this one's outcome.
        drop(held);
        let outcome = async { under_way.await.map_err(trouble_of) };
        let trouble = match health.answer("a batch", outcome).await {
            Ok(Outcome::Accepted(_)) => return Ok(()),
            // The link is well; what was sent on it is not.
            Ok(Outcome::Rejected(rejected)) => {
                let unknown = || Trouble::Broken("rejected without a reason".to_owned());
                return Err(rejected.error.as_ref().map_or_else(unknown, Trouble::said));
            }
            Ok(other) => return Err(Trouble::Broken(format!("not accepted: {other:?}"))),
            Err(trouble) => trouble,
        };
        let mut held = self.link.lock().await;
        if held.as_ref().is_some_and(|link| link.id == id) {
            *held = None;
        }
        Err(trouble)
    }

    async fn attach(&self, namespace: &Namespace, topic: &str) -> Result<Link, Trouble> {
        let mut opened = namespace.session(topic).await?;
        let id = Uuid::new_v4();
        let attach = Sender::builder()
            .name(format!("{topic}-{id}"))
            .sender_settle_mode(SenderSettleMode::Unsettled)
            .target(topic)
            .attach(&mut opened.session);
        let attach = async {
            attach.await.map_err(|error| match error {
                SenderAttachError::RemoteClosedWithError(error) => Trouble::said(&error),
                error => Trouble::Broken(format!("{topic}: {error}")),
            })
        };
        let sender = opened.health.answer("attach", attach).await?;
        self.max_size.store(sender.max_message_size().unwrap_or(0), Ordering::Relaxed);
        Ok(Link { sender, _session: opened.session, health: opened.health, id })
    }
}

fn too_big(size: usize, max: u64) -> Trouble {
    Trouble::Said {
        condition: "amqp:link:message-size-exceeded".to_owned(),
        description: format!("{size} bytes, and the topic takes {max}"),
    }
}

fn trouble_of(error: LinkSendError) -> Trouble {
    match error {
        LinkSendError::LinkStateError(error) => said_by_link(error),
        LinkSendError::Detached(error) => said_by_link(error.into()),
        LinkSendError::MessageSizeExceeded(error) => Trouble::Said {
            condition: "amqp:link:message-size-exceeded".to_owned(),
            description: error.to_string(),
        },
        other => Trouble::broken(other),
    }
}
