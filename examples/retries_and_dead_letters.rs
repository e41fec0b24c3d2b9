//! A handler that fails is run again with backoff. One that goes on failing, or says that no attempt will ever help,
//! leaves a dead row with its reason, which can be listed, mended and requeued.
//!
//!     cargo run --example retries_and_dead_letters

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use distributed_events::admin::{self, DeadRowFilter, Table};
use distributed_events::{
    DistributedEvent, EventBus, EventContext, HandlerError, LocalBroker, State, event_handler,
};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use tokio::sync::mpsc;

#[derive(DistributedEvent, Serialize, Deserialize)]
#[event(name = "shop.mail-wanted")]
struct MailWanted {
    to: String,
}

#[derive(Clone)]
struct Mailer {
    works: Arc<AtomicBool>,
    log: mpsc::UnboundedSender<String>,
}

#[event_handler(subscription = "mail", retry(attempts = 3, initial = "50ms", max = "1s"))]
async fn send_mail(
    mail: &MailWanted,
    context: &EventContext,
    State(mailer): State<Mailer>,
) -> Result<(), HandlerError> {
    mailer.log.send(format!("attempt {} to write to {}", context.attempt(), mail.to))?;
    if !mail.to.contains('@') {
        return Err(HandlerError::dead_letter("this is no address")); // never tried again by itself
    }
    if !mailer.works.load(Ordering::Relaxed) {
        return Err("the mail server does not answer".into()); // again, with backoff
    }
    Ok(mailer.log.send(format!("{} has mail", mail.to))?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let pool = SqlitePool::connect("sqlite::memory:").await?;
    EventBus::migrate(&pool).await?;
    let (log, mut lines) = mpsc::unbounded_channel();
    let mailer = Mailer { works: Arc::default(), log };
    let bus = EventBus::builder(pool.clone())
        .broker(LocalBroker::new())
        .handler::<send_mail>()
        .state(mailer.clone())
        .on_incident(|incident| println!("incident: {}", incident.message))
        .build()?;

    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mails = ["ada@example.org", "nowhere"].map(|to| MailWanted { to: to.to_owned() });
    MailWanted::publish_all(&mut tx, &mails).await?;
    bus.commit(tx).await?;

    let work = async {
        // Dead rows wait for a person, or for a program like this one.
        let dead = loop {
            let dead = admin::dead_rows(&pool, Table::Inbox, &DeadRowFilter::default()).await?;
            if dead.len() == 2 {
                break dead;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        mailer.works.store(true, Ordering::Relaxed);
        for row in dead {
            println!("dead after {} attempts: {}", row.attempts, row.reason);
            if row.reason.contains("does not answer") {
                admin::requeue(&pool, Table::Inbox, &[row.seq], Duration::ZERO).await?;
            } else {
                admin::discard(&pool, Table::Inbox, &[row.seq]).await?;
            }
        }
        while let Some(line) = lines.recv().await {
            println!("{line}");
            if line.contains("has mail") {
                break;
            }
        }
        Ok::<_, distributed_events::StorageError>(())
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (ran, worked) = tokio::join!(
        bus.run_until(async {
            let _gone = stopped.await;
        }),
        async {
            let worked = work.await;
            drop(stop);
            worked
        }
    );
    ran?;
    Ok(worked?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use distributed_events::testing::TestBus;

    fn mail(to: &str) -> MailWanted {
        MailWanted { to: to.to_owned() }
    }

    fn mailer() -> (Mailer, mpsc::UnboundedReceiver<String>) {
        let (log, lines) = mpsc::unbounded_channel();
        (Mailer { works: Arc::default(), log }, lines)
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_three_times() {
        let (mailer, _lines) = mailer();
        TestBus::run(
            move |bus| bus.state(mailer.clone()),
            async |bus| {
                let ada = mail("ada@example.org");
                bus.handle::<send_mail>(&ada).await?.assert_retried("does not answer");
                bus.handle::<send_mail>(&ada).attempt(3).await?.assert_dead("does not answer");
                Ok(())
            },
        );
    }

    #[test]
    fn what_is_no_address_is_never_tried_again() {
        let (mailer, _lines) = mailer();
        TestBus::run(
            move |bus| bus.state(mailer.clone()),
            async |bus| {
                bus.handle::<send_mail>(&mail("nowhere")).await?.assert_dead("this is no address");
                Ok(())
            },
        );
    }

    #[test]
    fn a_dead_mail_is_sent_when_it_is_requeued() {
        let (mailer, mut lines) = mailer();
        let given = mailer.clone();
        TestBus::run(
            move |bus| bus.handler::<send_mail>().state(given.clone()),
            async |bus| {
                bus.receive(&mail("ada@example.org"))?;
                bus.settled().await?;
                bus.assert_dead::<MailWanted>("does not answer").await?;

                mailer.works.store(true, Ordering::Relaxed);
                let dead = bus.dead().await?;
                admin::requeue(bus.pool(), Table::Inbox, &[dead[0].seq], Duration::ZERO).await?;
                bus.settled().await?;
                bus.assert_none_dead().await?;
                let last = std::iter::from_fn(|| lines.try_recv().ok()).last();
                assert_eq!(last.as_deref(), Some("ada@example.org has mail"));
                Ok(())
            },
        );
    }
}
