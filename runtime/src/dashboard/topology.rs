//! Events, topics, subscriptions and handlers, as a picture and as a list.

use axum::extract::State;
use axum::response::Response;
use maud::html;

use super::page::{Place, Refusal};
use super::picture::Picture;
use super::visit::Visit;
use super::words::visible;
use super::{App, Shared};
use crate::admin::{self, InstanceStatus};
use crate::storage::OperatorStorage;
use crate::topology::{Filter, Takes, Topology};

pub(super) async fn show<DB: OperatorStorage>(
    State(app): State<App<DB>>,
    visit: Visit,
) -> Result<Response, Refusal> {
    let instances = admin::instances(&app.0.pool).await?;
    let is_given = !app.0.topology.is_empty();
    let topologies = if is_given { app.0.topology.clone() } else { known(&app.0).await? };
    let picture = drawn(&topologies, &instances);
    let main = html! {
        div.head { div {
            h1 { "Topology" }
            p.sub {
                @if is_given { "What this service publishes to and receives from, and what live instances handle." }
                @else { "What the database knows: local subscriptions, and what live instances handle." }
            }
        } }
        section.panel {
            h2 { "Picture" }
            @if picture.is_empty() { p.muted { "There is nothing to draw: no local subscription is recorded, and no instance lives." } }
            @else { div.picture tabindex="0" role="group" aria-label="Picture, may be scrolled" { (picture.drawn()) } }
        }
        @for topology in &topologies {
            section.panel {
                h2 { "As a list: " (visible(&topology.broker)) }
                pre tabindex="0" aria-label="List" { (visible(&topology.to_string())) }
            }
        }
    };
    Ok(visit.page("Topology", Place::Topology, &main))
}

/// The local broker's memory.
async fn known<DB: OperatorStorage>(shared: &Shared<DB>) -> Result<Vec<Topology>, Refusal> {
    let subscriptions = admin::subscriptions(&shared.pool).await?;
    if subscriptions.is_empty() {
        return Ok(Vec::new());
    }
    let mut topology = Topology::new("local", [crate::envelope::DEFAULT_LANE]);
    for known in subscriptions {
        topology.subscribe(&known.topic, &known.name, Takes::Events(known.events), false);
    }
    Ok(vec![topology])
}

const EVENTS: usize = 0;
const TOPICS: usize = 1;
const SUBSCRIPTIONS: usize = 2;
const HANDLERS: usize = 3;

fn drawn(topologies: &[Topology], instances: &[InstanceStatus]) -> Picture {
    let mut picture = Picture::new(["Events", "Topics", "Subscriptions", "Handlers"]);
    let handlers = |subscription: &str, event: &str| {
        instances.iter().filter(|live| live.instance.handles(subscription, event, 0)).count()
    };
    for topology in topologies {
        for topic in &topology.topics {
            let at_topic = picture.node(TOPICS, &topic.name, "topic", &topology.broker);
            for subscription in &topic.subscriptions {
                let sessions = if subscription.settings.sessions { "sessions" } else { "no sessions" };
                let at_subscription = picture.node(SUBSCRIPTIONS, &subscription.name, "", sessions);
                picture.edge(at_topic, at_subscription);
                for rule in &subscription.rules {
                    let Filter::Subject(event) = &rule.filter else {
                        let all = picture.node(EVENTS, "every event", "", &topic.name);
                        picture.edge(all, at_topic);
                        continue;
                    };
                    let at_event = picture.node(EVENTS, event, "", "");
                    picture.edge(at_event, at_topic);
                    let live = handlers(&subscription.name, event);
                    let (class, by) = match live {
                        0 => ("nobody", "no live instance".to_owned()),
                        1 => ("handler", "1 live instance".to_owned()),
                        live => ("handler", format!("{live} live instances")),
                    };
                    let name = format!("{} ← {event}", subscription.name);
                    let at_handler = picture.node(HANDLERS, &name, class, &by);
                    picture.edge(at_subscription, at_handler);
                }
            }
        }
    }
    // What is handled and stands in no topology: its events come from another service's topic.
    for InstanceStatus { instance, .. } in instances {
        for handled in &instance.handles {
            let name = format!("{} ← {}", handled.subscription, handled.event);
            if picture.has(HANDLERS, &name) {
                continue;
            }
            let live = handlers(&handled.subscription, &handled.event);
            let by = if live == 1 { "1 live instance".to_owned() } else { format!("{live} live instances") };
            let at_handler = picture.node(HANDLERS, &name, "handler", &by);
            let at_subscription = picture.node(SUBSCRIPTIONS, &handled.subscription, "", "");
            picture.edge(at_subscription, at_handler);
        }
    }
    picture
}
