//! Who works on what: lanes and shards with the holders of their leases, and the instances that live.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use uuid::Uuid;

use super::App;
use super::page::{Place, Refusal};
use super::visit::Visit;
use super::words::{count, span, visible};
use crate::admin::{self, InstanceStatus, LeaseStatus};
use crate::storage::{OperatorStorage, SHARDS};

/// Colours of holders; more of them share these.
const COLOURS: usize = 4;

/// A lease and how long it lasts.
type Held = (Uuid, Duration);

pub(super) async fn show<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    visit: Visit,
) -> Result<Response, Refusal> {
    let leases = admin::leases(&app.0.pool).await?;
    let instances = admin::instances(&app.0.pool).await?;
    let (lanes, rest): (Vec<_>, Vec<_>) = leases.iter().partition(|lease| lease.name.starts_with("outbox:"));
    let mut subscriptions: BTreeMap<&str, BTreeMap<u8, &LeaseStatus>> = BTreeMap::new();
    for lease in rest {
        let shard = lease.name.strip_prefix("inbox:").and_then(|name| name.rsplit_once(':'));
        if let Some((subscription, shard)) = shard
            && let Ok(shard) = shard.parse()
        {
            subscriptions.entry(subscription).or_default().insert(shard, lease);
        }
    }
    let main = html! {
        div.head {
            div { h1 { "Leases" } p.sub { "Who leads the lanes of the outbox, and who works on which shards of the inbox." } }
            button type="button" data-pause hidden aria-pressed="false" { "Pause live updates" }
        }
        section.panel #lanes data-live { h2 { "Lanes" } (lane_table(&lanes)) }
        div #shards data-live {
            @for (subscription, shards) in &subscriptions { (subscription_panel(subscription, shards)) }
            @if subscriptions.is_empty() { section.panel { h2 { "Shards" } p.muted { "No shard was ever taken." } } }
        }
        section.panel #instances data-live { h2 { "Instances that live" } (instance_table(&instances)) }
    };
    Ok(visit.page("Leases", Place::Work, &main))
}

fn held(lease: &LeaseStatus) -> Option<Held> {
    lease.owner.zip(lease.remaining)
}

/// A taking's token, as far as it tells it from others.
fn short(id: Uuid) -> String {
    id.simple().to_string()[..8].to_owned()
}

fn lane_table(lanes: &[&LeaseStatus]) -> Markup {
    if lanes.is_empty() {
        return html! { p.muted { "No lane was ever led." } };
    }
    html! {
        div.scroll tabindex="0" role="group" aria-label="Lanes" {
            table {
                thead { tr {
                    th scope="col" { "Lane" } th scope="col" { "Led by" } th.n scope="col" { "For another" }
                    th.n scope="col" { "Takings" } th scope="col" { "Broker" } th scope="col" { "The one before" }
                } }
                tbody {
                    @for lease in lanes {
                        tr {
                            th.break scope="row" { (visible(lease.name.trim_start_matches("outbox:"))) }
                            @match held(lease) {
                                Some((owner, remaining)) => { td.mono { (short(owner)) } td.n { (span(remaining)) } }
                                None => { td { span.badge.warn { "nobody" } } td.n { "–" } }
                            }
                            td.n { (lease.epoch) }
                            td.break { @if let Some(broker) = &lease.broker { (visible(broker)) } @else { "–" } }
                            td { @if lease.unclean { "never gave it back" } @else { "gave it back" } }
                        }
                    }
                }
            }
        }
    }
}

fn subscription_panel(subscription: &str, shards: &BTreeMap<u8, &LeaseStatus>) -> Markup {
    // The holders in a fixed order, so that their colours stay.
    let mut holders: BTreeMap<Uuid, (usize, Duration)> = BTreeMap::new();
    for lease in shards.values() {
        if let Some((owner, remaining)) = held(lease) {
            let holder = holders.entry(owner).or_insert((0, remaining));
            holder.0 += 1;
            holder.1 = holder.1.min(remaining);
        }
    }
    let place = |owner: Uuid| holders.keys().position(|known| *known == owner).unwrap_or_default();
    let of = |shard: u8| shards.get(&shard).and_then(|lease| held(lease)).map(|(owner, _)| owner);
    let free = (0..SHARDS).filter(|shard| of(*shard).is_none()).count() as u64;
    html! {
        section.panel {
            h2 { "Shards of " (visible(subscription)) }
            div.shards aria-hidden="true" {
                @for shard in 0..SHARDS {
                    @match of(shard) {
                        Some(owner) => { span class={ "o" (place(owner) % COLOURS) } title=(short(owner)) { (letter(place(owner))) } }
                        None => { span title="nobody" { "·" } }
                    }
                }
            }
            div.scroll tabindex="0" role="group" aria-label={ "Holders of the shards of " (visible(subscription)) } {
                table {
                    thead { tr { th scope="col" { "Holder" } th scope="col" { "Taking" } th.n scope="col" { "Shards" } th.n scope="col" { "For another" } } }
                    tbody {
                        @for (owner, (shards, remaining)) in &holders {
                            tr { th scope="row" { (letter(place(*owner))) } td.mono { (short(*owner)) } td.n { (shards) } td.n { (span(*remaining)) } }
                        }
                        @if free > 0 { tr { th scope="row" { "·" } td { span.badge.warn { "nobody" } } td.n { (free) } td.n { "–" } } }
                    }
                }
            }
        }
    }
}

/// Holders are told apart by letters, too, and not by colours alone.
fn letter(place: usize) -> char {
    char::from_u32('A' as u32 + u32::try_from(place % 26).unwrap_or_default()).unwrap_or('?')
}

fn instance_table(instances: &[InstanceStatus]) -> Markup {
    if instances.is_empty() {
        return html! { p.muted { "None has announced itself: no handlers run, or their instances have stopped." } };
    }
    html! {
        div.scroll tabindex="0" role="group" aria-label="Instances" {
            table {
                thead { tr { th scope="col" { "Instance" } th.n scope="col" { "Counts as alive for" } th scope="col" { "Handles" } } }
                tbody {
                    @for InstanceStatus { instance, remaining } in instances {
                        tr {
                            th.mono scope="row" { (short(instance.id)) }
                            td.n { (span(*remaining)) }
                            td.break {
                                (count(instance.handles.len() as u64, "event", "events")) ": "
                                @for (n, handled) in instance.handles.iter().enumerate() {
                                    @if n > 0 { ", " }
                                    (visible(&handled.subscription)) " ← " (visible(&handled.event)) @if handled.version > 1 { " up to v" (handled.version) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
