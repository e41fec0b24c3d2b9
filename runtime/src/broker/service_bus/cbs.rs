//! Claims-based security: tokens are put to the node `$cbs` before a link is opened, and again before they expire.

use fe2o3_amqp::link::delivery::Sendable;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Body, Message, MessageId, Properties, Source, Target,
};
use fe2o3_amqp::types::primitives::{OrderedMap, SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sender};

use super::condition::Trouble;
use super::health::Health;
use crate::broker::namespace::Token;

const NODE: &str = "$cbs";
const REPLIES: &str = "cbs";

/// The pair of links to `$cbs`.
#[derive(Debug)]
pub(super) struct Cbs {
    sender: Sender,
    receiver: Receiver,
    /// Lives as long as its links.
    _session: SessionHandle<()>,
    health: Health,
    asked: u64,
}

impl Cbs {
    pub(super) async fn open(mut session: SessionHandle<()>, health: Health) -> Result<Self, Trouble> {
        let opening = async {
            let sender = Sender::builder()
                .name("cbs-sender")
                .source(Source::builder().address(REPLIES).build())
                .target(NODE)
                .attach(&mut session)
                .await
                .map_err(|error| Trouble::Broken(format!("$cbs: {error}")))?;
            let receiver = Receiver::builder()
                .name("cbs-receiver")
                .source(NODE)
                .target(Target::builder().address(REPLIES).build())
                .credit_mode(CreditMode::Auto(10))
                .auto_accept(true)
                .attach(&mut session)
                .await
                .map_err(|error| Trouble::Broken(format!("$cbs: {error}")))?;
            Ok((sender, receiver))
        };
        let (sender, receiver) = health.answer("attaching to $cbs", opening).await?;
        Ok(Self { sender, receiver, _session: session, health, asked: 0 })
    }

    /// Puts a token for an audience. After an error the links are of no use any more.
    pub(super) async fn put(&mut self, audience: &str, token: &Token) -> Result<(), Trouble> {
        let health = self.health.clone();
        health.answer("a token", self.ask(audience, token)).await
    }

    async fn ask(&mut self, audience: &str, token: &Token) -> Result<(), Trouble> {
        self.asked += 1;
        let mut message = Message::from(Body::Value(fe2o3_amqp::types::messaging::AmqpValue(Value::String(
            token.text.reveal().to_owned(),
        ))));
        message.properties = Some(Properties {
            message_id: Some(MessageId::Ulong(self.asked)),
            reply_to: Some(REPLIES.to_owned()),
            ..Properties::default()
        });
        let mut properties = OrderedMap::new();
        for (name, value) in [("operation", "put-token"), ("type", token.kind), ("name", audience)] {
            properties.insert(name.to_owned(), SimpleValue::String(value.to_owned()));
        }
        message.application_properties = Some(ApplicationProperties(properties));
        let sent = self.sender.send_batchable(Sendable::<Body<Value>>::from(message)).await;
        // Not every service settles requests; the answer is what counts.
        drop(sent.map_err(|error| Trouble::Broken(format!("$cbs: {error}")))?);
        loop {
            let reply = self.receiver.recv::<Body<Value>>().await;
            let reply = reply.map_err(|error| Trouble::Broken(format!("$cbs: {error}")))?.into_message();
            let to = reply.properties.as_ref().and_then(|found| found.correlation_id.as_ref());
            // The answer to a request that was given up on.
            if matches!(to, Some(MessageId::Ulong(number)) if *number != self.asked) {
                continue;
            }
            return judge(&reply.application_properties.unwrap_or_default());
        }
    }
}

fn judge(properties: &ApplicationProperties) -> Result<(), Trouble> {
    let status = match properties.0.get("status-code") {
        Some(SimpleValue::Int(status)) => i64::from(*status),
        Some(SimpleValue::Long(status)) => *status,
        Some(SimpleValue::Uint(status)) => i64::from(*status),
        _ => 0,
    };
    if (200..300).contains(&status) {
        return Ok(());
    }
    let description = match properties.0.get("status-description") {
        Some(SimpleValue::String(text)) => text.clone(),
        _ => "no description".to_owned(),
    };
    let condition = match status {
        401 | 403 => "amqp:unauthorized-access",
        404 => "amqp:not-found",
        503 => "com.microsoft:server-busy",
        _ => "amqp:internal-error",
    };
    Err(Trouble::Said {
        condition: condition.to_owned(),
        description: format!("the token was refused ({status}): {description}"),
    })
}
