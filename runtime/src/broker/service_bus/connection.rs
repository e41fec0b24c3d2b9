//! The one connection to a namespace: opened when it is needed, authorized entity by entity, opened anew when it breaks.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use fe2o3_amqp::Session;
use fe2o3_amqp::connection::{Connection, ConnectionHandle};
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::cbs::Cbs;
use super::condition::Trouble;
use super::health::Health;
use crate::broker::namespace::{Credential, Endpoint, Met};

/// How often tokens are looked through for such as expire soon.
const RENEWAL_LOOK: Duration = Duration::from_secs(1);
/// A frame of this size is what Service Bus takes at the Standard tier.
const FRAME: u32 = 64 * 1024;
/// Transfers that may be on their way to us on one AMQP session.
const WINDOW: u32 = 5_000;

/// A namespace, and the connection to it while there is one.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) endpoint: Endpoint,
    pub(super) credential: Credential,
    pub(super) met: Met,
    live: Mutex<Option<Live>>,
}

#[derive(Debug)]
struct Live {
    connection: ConnectionHandle<()>,
    access: Arc<Mutex<Access>>,
    health: Health,
}

/// What the connection is authorized for.
#[derive(Debug)]
struct Access {
    cbs: Cbs,
    /// By audience: when its token is to be renewed.
    tokens: HashMap<String, SystemTime>,
}

/// An AMQP session of its own for each link, and how its connection is.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) session: SessionHandle<()>,
    pub(super) health: Health,
}

impl Opened {
    /// Ends the session, if its connection still hears.
    pub(super) async fn end(mut self) {
        let _gone = self.session.end().await;
    }
}

impl Namespace {
    pub(super) fn new(endpoint: Endpoint, credential: Credential) -> Self {
        Self { endpoint, credential, met: Met::default(), live: Mutex::new(None) }
    }

    /// Begins an AMQP session for a link to an address, on which the connection is authorized.
    pub(super) async fn session(&self, address: &str) -> Result<Opened, Trouble> {
        let mut live = self.live.lock().await;
        if live.as_ref().is_some_and(Live::is_over) {
            *live = None;
        }
        let mut connected = match live.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        // Put back only if all goes well: what has failed once is opened anew.
        let audience = self.audience(address);
        let authorized = authorize(&connected.access, &self.credential, &audience).await;
        match authorized {
            Ok(()) => {}
            Err(trouble) if trouble.condition().is_some() => {
                *live = Some(connected);
                return Err(trouble);
            }
            Err(trouble) => return Err(trouble),
        }
        let begin = Session::builder()
            .incoming_window(WINDOW)
            .outgoing_window(WINDOW)
            .begin(&mut connected.connection);
        let begin = async { begin.await.map_err(Trouble::broken) };
        let health = connected.health.clone();
        let session = health.answer("begin", begin).await?;
        *live = Some(connected);
        Ok(Opened { session, health })
    }

    fn audience(&self, address: &str) -> String {
        format!("sb://{}/{address}", self.endpoint.host)
    }

    async fn connect(&self) -> Result<Live, Trouble> {
        let (health, stream) = Health::of(self.endpoint.connect().await?, self.endpoint.patience);
        let open = Connection::builder()
            .container_id(format!("distributed-events-{}", Uuid::new_v4()))
            .scheme("amqp")
            .hostname(self.endpoint.host.as_str())
            .max_frame_size(FRAME)
            .channel_max(4_999)
            .idle_time_out(u32::try_from(self.endpoint.patience.as_millis()).unwrap_or(u32::MAX))
            .sasl_profile(SaslProfile::Anonymous)
            .open_with_stream(stream);
        let open =
            async { open.await.map_err(|error| Trouble::Broken(format!("{}: {error}", self.endpoint.host))) };
        let mut connection = health.answer("open", open).await?;
        let begin = async { Session::begin(&mut connection).await.map_err(Trouble::broken) };
        let session = health.answer("begin", begin).await?;
        let cbs = Cbs::open(session, health.clone()).await?;
        let access = Arc::new(Mutex::new(Access { cbs, tokens: HashMap::new() }));
        let live = Live { connection, access, health };
        tokio::spawn(renew(Arc::downgrade(&live.access), self.credential.clone(), live.health.clone()));
        self.met.connected();
        tracing::debug!(namespace = %self.endpoint.host, "connected");
        Ok(live)
    }
}

impl Live {
    fn is_over(&self) -> bool {
        self.connection.is_closed() || self.health.is_over()
    }
}

/// Puts a token for an audience unless a good one is there; a refused key gives way to the next, once.
async fn authorize(access: &Mutex<Access>, credential: &Credential, audience: &str) -> Result<(), Trouble> {
    let mut access = access.lock().await;
    if access.tokens.get(audience).is_some_and(|renew_at| SystemTime::now() < *renew_at) {
        return Ok(());
    }
    match put(&mut access, credential, audience).await {
        Err(trouble) if trouble.is_unauthorized() => {
            credential.refused().await;
            put(&mut access, credential, audience).await
        }
        other => other,
    }
}

async fn put(access: &mut Access, credential: &Credential, audience: &str) -> Result<(), Trouble> {
    let token = credential.token(audience).await.map_err(|error| Trouble::Said {
        condition: "amqp:unauthorized-access".to_owned(),
        description: error.to_string(),
    })?;
    access.cbs.put(audience, &token).await?;
    // With a quarter of its life left there is time for several attempts.
    let life = token.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
    access.tokens.insert(audience.to_owned(), token.expires_at - life / 4);
    Ok(())
}

/// Renews tokens before they expire, for as long as the connection lives.
async fn renew(access: Weak<Mutex<Access>>, credential: Credential, health: Health) {
    let mut pause = RENEWAL_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        let Some(access) = access.upgrade() else { return };
        let now = SystemTime::now();
        let due: Vec<_> = {
            let access = access.lock().await;
            access.tokens.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect()
        };
        for audience in due {
            if let Err(trouble) = authorize(&access, &credential, &audience).await {
                tracing::warn!(%audience, %trouble, "a token could not be renewed; trying again");
                if trouble.condition().is_none() {
                    health.give_up();
                    return;
                }
            }
        }
        let next = access.lock().await.tokens.values().min().copied();
        let left = next.map(|next| next.duration_since(SystemTime::now()).unwrap_or_default());
        // New tokens may come while this sleeps; a refused one is not asked for without a pause.
        pause = left.unwrap_or(RENEWAL_LOOK).clamp(RENEWAL_LOOK / 10, RENEWAL_LOOK);
    }
}
