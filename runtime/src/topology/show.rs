//! Topologies for people.

use std::fmt;

use super::{Filter, Rule, SubscriptionSettings, TopicSettings, Topology, span};

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, lane {}", self.broker, self.lanes.join(", "))?;
        for topic in &self.topics {
            write!(f, "\n  topic {}: {}", topic.name, topic.settings)?;
            for subscription in &topic.subscriptions {
                write!(f, "\n    subscription {}: {}", subscription.name, subscription.settings)?;
                for rule in &subscription.rules {
                    write!(f, "\n      {rule}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for TopicSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.duplicate_detection {
            Some(window) => write!(f, "duplicate detection {}", span::show(window))?,
            None => f.write_str("no duplicate detection")?,
        }
        match self.default_ttl {
            Some(ttl) => write!(f, ", events expire after {}", span::show(ttl)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SubscriptionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = if self.sessions { "sessions" } else { "no sessions" };
        let (lock, count) = (span::show(self.lock_duration), self.max_delivery_count);
        write!(f, "{sessions}, lock {lock}, {count} deliveries")?;
        if let Some(ttl) = self.default_ttl {
            write!(f, ", events expire after {}", span::show(ttl))?;
        }
        if !self.dead_letter_on_expiry {
            f.write_str(", expired events vanish")?;
        }
        if !self.dead_letter_on_filter_error {
            f.write_str(", events on which a filter fails vanish")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.filter {
            Filter::Everything => f.write_str("every event"),
            Filter::Subject(event) if *event == self.name => f.write_str(event),
            Filter::Subject(event) => write!(f, "{event} (rule {})", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::topology::{Takes, Topology};

    #[test]
    fn people_read_an_indented_list() {
        let mut topology = Topology::new("service-bus:shop", ["default", "critical"]);
        let events = ["ordering.order-placed", "Bestellung storniert"].map(str::to_owned).to_vec();
        topology.subscribe("orders", "billing", Takes::Events(events), true);
        topology.subscribe("orders", "audit", Takes::Everything, false);
        topology.topic("payments").settings.duplicate_detection = None;
        assert_eq!(
            topology.to_string(),
            "service-bus:shop, lane default, critical\n  \
               topic orders: duplicate detection 10 min\n    \
                 subscription audit: no sessions, lock 1 min, 100 deliveries\n      \
                   every event\n    \
                 subscription billing: sessions, lock 1 min, 100 deliveries\n      \
                   Bestellung storniert (rule Bestellung_storniert-6fc511125807)\n      \
                   ordering.order-placed\n  \
               topic payments: no duplicate detection"
        );
    }
}
