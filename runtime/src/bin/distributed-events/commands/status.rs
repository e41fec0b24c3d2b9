//! What waits, what is dead, how fast it goes, and who works on it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use distributed_events::admin::{
    self, InboxCounts, InstanceStatus, LeaseStatus, OutboxCounts, StateCounts, Table, Throughput,
};
use distributed_events::storage::OperatorStorage;
use serde_json::{Value, json};
use sqlx::Pool;

use crate::arguments::Status;
use crate::database::DatabaseUrl;
use crate::failure::Failure;
use crate::output::{self, Format, number};
use crate::when::{Shown, exact, time};

/// What rates are told of.
const MINUTE: Duration = Duration::from_secs(60);

pub(super) async fn run<DB: OperatorStorage>(
    pool: &Pool<DB>,
    url: &DatabaseUrl,
    arguments: &Status,
    format: Format,
) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    // One for all looks: what comes during one must not be missed.
    let mut stop = std::pin::pin!(distributed_events::shutdown_signal());
    loop {
        let found = Found::look(pool).await?;
        match format {
            Format::People => {
                if arguments.watch && std::io::stdout().is_terminal() {
                    let _unread = write!(std::io::stdout(), "\x1b[2J\x1b[H");
                }
                output::say(&found.people(url))?;
            }
            Format::Json => output::json(&found.json(url))?,
        }
        if !arguments.watch {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(arguments.interval) => {}
        }
        if format == Format::People {
            output::say("")?;
        }
    }
}

/// All that is shown, as of one look.
struct Found {
    at: SystemTime,
    outbox: OutboxCounts,
    inbox: InboxCounts,
    sent: Throughput,
    processed: Throughput,
    leases: Vec<LeaseStatus>,
    instances: Vec<InstanceStatus>,
}

impl Found {
    async fn look<DB: OperatorStorage>(pool: &Pool<DB>) -> Result<Self, Failure> {
        Ok(Self {
            at: admin::clock(pool).await?,
            outbox: admin::count_outbox(pool).await?,
            inbox: admin::count_inbox(pool).await?,
            sent: admin::throughput(pool, Table::Outbox, MINUTE).await?,
            processed: admin::throughput(pool, Table::Inbox, MINUTE).await?,
            leases: admin::leases(pool).await?,
            instances: admin::instances(pool).await?,
        })
    }

    fn people(&self, url: &DatabaseUrl) -> String {
        let mut parts = vec![format!("{url} at {}", time(self.at))];
        parts.push(depths("OUTBOX LANE", &self.outbox.lanes));
        parts.push(rate("sent", &self.sent));
        if !self.outbox.owed.is_empty() {
            let owed = self.outbox.owed.iter().map(|(name, count)| [name.clone(), number(*count)]);
            parts.push(output::table(["OWED TO", "EVENTS"], owed));
        }
        parts.push(depths("INBOX SUBSCRIPTION", &self.inbox.subscriptions));
        parts.push(rate("processed", &self.processed));
        let held = holders(&self.leases);
        parts.push(if held.is_empty() {
            "no lease was ever taken: no relay and no bus has run on this database".to_owned()
        } else {
            output::table(["LEASE", "HELD", "BY", "FOR", "BROKER"], held)
        });
        let instances = self.instances.iter().map(|InstanceStatus { instance, remaining, .. }| {
            let handles: Vec<_> = instance
                .handles
                .iter()
                .map(|handled| format!("{}: {} v{}", handled.subscription, handled.event, handled.version))
                .collect();
            [instance.id.to_string(), Shown(*remaining).to_string(), handles.join(", ")]
        });
        if !self.instances.is_empty() {
            parts.push(output::table(["INSTANCE", "FOR", "HANDLES"], instances));
        }
        parts.join("\n\n")
    }

    fn json(&self, url: &DatabaseUrl) -> Value {
        let leases = self.leases.iter().map(|lease| {
            json!({
                "name": lease.name,
                "owner": lease.owner.map(|owner| owner.to_string()),
                "epoch": lease.epoch,
                "remaining_ms": lease.remaining.map(millis),
                "unclean": lease.unclean,
                "broker": lease.broker,
            })
        });
        let instances = self.instances.iter().map(|InstanceStatus { instance, remaining, .. }| {
            json!({
                "id": instance.id.to_string(),
                "remaining_ms": millis(*remaining),
                "handles": instance.handles,
            })
        });
        json!({
            "database": url.to_string(),
            "at": exact(self.at),
            "outbox": {
                "lanes": counts(&self.outbox.lanes),
                "owed": self.outbox.owed,
                "last_minute": throughput(&self.sent),
            },
            "inbox": {
                "subscriptions": counts(&self.inbox.subscriptions),
                "last_minute": throughput(&self.processed),
            },
            "leases": leases.collect::<Vec<_>>(),
            "instances": instances.collect::<Vec<_>>(),
        })
    }
}

fn depths(name: &'static str, counts: &BTreeMap<String, StateCounts>) -> String {
    let rows = counts.iter().map(|(owner, states)| {
        let oldest = states.oldest_pending.map(|age| Shown(age).to_string()).unwrap_or_default();
        [owner.clone(), number(states.pending), number(states.dead), oldest]
    });
    output::table([name, "PENDING", "DEAD", "OLDEST PENDING"], rows)
}

fn rate(what: &str, throughput: &Throughput) -> String {
    let settled = number(throughput.settled);
    match (throughput.mean_lag, throughput.longest_lag) {
        (Some(mean), Some(longest)) => format!(
            "{what} in the last minute: {settled}; the last of them had waited {} on average, {} at most",
            Shown(mean),
            Shown(longest)
        ),
        _ => format!("{what} in the last minute: {settled}"),
    }
}

/// Lanes one by one, shards together.
fn holders(leases: &[LeaseStatus]) -> Vec<[String; 5]> {
    let mut groups: BTreeMap<&str, Vec<&LeaseStatus>> = BTreeMap::new();
    for lease in leases {
        let group = match lease.name.rsplit_once(':') {
            Some((group, shard)) if group.starts_with("inbox:") && shard.parse::<u8>().is_ok() => group,
            _ => lease.name.as_str(),
        };
        groups.entry(group).or_default().push(lease);
    }
    let group = |(name, leases): (&str, Vec<&LeaseStatus>)| {
        let held: Vec<_> = leases.iter().filter(|lease| lease.remaining.is_some()).collect();
        let mut owners: Vec<_> = held.iter().filter_map(|lease| lease.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        let by = match owners.as_slice() {
            [] => String::new(),
            [owner] => owner.to_string(),
            many => format!("{} holders", many.len()),
        };
        let remaining = held.iter().filter_map(|lease| lease.remaining).min();
        let broker = leases.iter().find_map(|lease| lease.broker.clone());
        [
            name.to_owned(),
            format!("{} of {}", held.len(), leases.len()),
            by,
            remaining.map(|remaining| Shown(remaining).to_string()).unwrap_or_default(),
            broker.unwrap_or_default(),
        ]
    };
    groups.into_iter().map(group).collect()
}

fn counts(counts: &BTreeMap<String, StateCounts>) -> Value {
    let value = |states: &StateCounts| {
        json!({
            "pending": states.pending,
            "dead": states.dead,
            "oldest_pending_ms": states.oldest_pending.map(millis),
        })
    };
    counts
        .iter()
        .map(|(owner, states)| (owner.clone(), value(states)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn throughput(throughput: &Throughput) -> Value {
    json!({
        "settled": throughput.settled,
        "per_second": throughput.settled as f64 / MINUTE.as_secs_f64(),
        "mean_lag_ms": throughput.mean_lag.map(millis),
        "longest_lag_ms": throughput.longest_lag.map(millis),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
