//! From a [`Config`] to a namespace that has what it asks for.

use super::Config;
use crate::host::Host;
use crate::model::{EntityInfo, Fault, Input, Model, QueueSettings, SubscriptionSettings};

impl Config {
    /// What makes a namespace have all this: entities and rules that are missing are created, others are changed; what
    /// the file doesn't name stays as it is.
    #[must_use]
    pub fn inputs(&self, model: &Model) -> Vec<Input> {
        let mut inputs = Vec::new();
        // A target of forwarding must be there before it is named, so forwarding comes at the end.
        let mut updates = Vec::new();
        for (path, settings) in &self.queues {
            let there = match model.entity(path) {
                Some(EntityInfo::Queue(info)) => info.settings,
                _ => {
                    let settings = QueueSettings {
                        forward_to: None,
                        forward_dead_lettered_messages_to: None,
                        ..settings.clone()
                    };
                    inputs.push(Input::CreateQueue { path: path.clone(), settings: settings.clone() });
                    settings
                }
            };
            if there != *settings {
                updates.push(Input::UpdateQueue { path: path.clone(), settings: settings.clone() });
            }
        }
        for (path, settings) in &self.topics {
            let (path, settings) = (path.clone(), settings.clone());
            match model.entity(&path) {
                Some(EntityInfo::Topic(info)) if info.settings == settings => {}
                Some(EntityInfo::Topic(_)) => inputs.push(Input::UpdateTopic { path, settings }),
                _ => inputs.push(Input::CreateTopic { path, settings }),
            }
        }
        for subscription in &self.subscriptions {
            let (path, settings) = (&subscription.path, &subscription.settings);
            let mut rules = subscription.rules.clone();
            let there = match model.entity(path) {
                Some(EntityInfo::Subscription(info)) => info.settings,
                _ => {
                    let rule = if rules.is_empty() { None } else { Some(rules.remove(0)) };
                    let settings = SubscriptionSettings {
                        forward_to: None,
                        forward_dead_lettered_messages_to: None,
                        ..settings.clone()
                    };
                    inputs.push(Input::CreateSubscription {
                        path: path.clone(),
                        settings: settings.clone(),
                        rule,
                    });
                    settings
                }
            };
            if there != *settings {
                updates.push(Input::UpdateSubscription { path: path.clone(), settings: settings.clone() });
            }
            let known = model.rules(path).unwrap_or_default();
            for (name, rule) in rules {
                let subscription = path.clone();
                match known.iter().find(|known| known.name.eq_ignore_ascii_case(&name)) {
                    Some(known) if known.rule == rule => {}
                    Some(_) => inputs.push(Input::UpdateRule { subscription, name, rule }),
                    None => inputs.push(Input::CreateRule { subscription, name, rule }),
                }
            }
        }
        inputs.append(&mut updates);
        inputs
    }

    /// Makes a namespace have all this; what it refuses comes back.
    pub async fn apply(&self, host: &Host) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        for input in host.read(|model, _| self.inputs(model)) {
            faults.extend(host.apply(input).await.err());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}
