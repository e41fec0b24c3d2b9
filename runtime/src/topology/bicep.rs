//! Topologies as Bicep, for those who deploy theirs with Azure's own tools.

use std::collections::HashSet;
use std::fmt::Write;

use super::{DEFAULT_RULE, Filter, Rule, Subscription, Topic, Topology, span};

/// The newest stable version of the resources.
const API: &str = "@2024-01-01";
const TOPIC: &str = "Microsoft.ServiceBus/namespaces/topics";
/// Bicep's own limit for names in the file is 255.
const LONGEST_SYMBOL: usize = 120;

impl Topology {
    /// This topology as a Bicep file that adds it to an existing namespace, the parameter `namespaceName`.
    ///
    /// Service Bus puts a rule `$Default` that lets everything through on every new subscription, and a deployment can't
    /// name another first rule, as `ServiceBus::ensure_topology` does. So the file makes the subscription's own rules
    /// first and then turns `$Default` into one that lets nothing through: deployed again, or where Azure has removed
    /// `$Default` by itself, it changes nothing. Events that are published in the seconds between reach a new subscription
    /// unfiltered, and those that nobody handles end as dead rows there.
    #[must_use]
    pub fn to_bicep(&self) -> String {
        let mut file = File { text: String::new(), symbols: HashSet::new() };
        file.line(0, &format!("// {}", comment(&self.broker)));
        for line in HEAD {
            file.line(0, line);
        }
        for topic in &self.topics {
            file.topic(topic);
        }
        file.text
    }
}

const HEAD: [&str; 14] = [
    "//",
    "// az deployment group create --resource-group GROUP --template-file FILE --parameters namespaceName=NAME",
    "//",
    "// Names of topics have `~` here where Service Bus itself has `/`. Sessions and duplicate detection can't be changed",
    "// later: deploying over an entity that has them otherwise fails. The rule `$Default`, which lets everything through",
    "// on every new subscription, comes last and is turned into one that lets nothing through; see `Topology::to_bicep`.",
    "",
    "@description('An existing namespace of the Standard or Premium tier.')",
    "param namespaceName string",
    "",
    "resource serviceBus 'Microsoft.ServiceBus/namespaces@2024-01-01' existing = {",
    "  name: namespaceName",
    "}",
    "",
];

struct File {
    text: String,
    symbols: HashSet<String>,
}

impl File {
    fn line(&mut self, depth: usize, line: &str) {
        let indent = if line.is_empty() { 0 } else { depth * 2 };
        // Writing into a text can't fail.
        let _written = writeln!(self.text, "{:indent$}{line}", "");
    }

    fn topic(&mut self, topic: &Topic) {
        let symbol = self.symbol(&format!("topic_{}", topic.name));
        // A slash would make a resource of each part; the resource manager takes this for one.
        let name = topic.name.replace('/', "~");
        let window = topic.settings.duplicate_detection;
        let mut properties = vec![
            format!("defaultMessageTimeToLive: {}", quoted(&span::write(topic.settings.default_ttl))),
            format!("requiresDuplicateDetection: {}", window.is_some()),
        ];
        if let Some(window) = window {
            let window = quoted(&span::write(Some(window)));
            properties.push(format!("duplicateDetectionHistoryTimeWindow: {window}"));
        }
        self.resource(&symbol, TOPIC, "serviceBus", &name, &properties, None);
        for subscription in &topic.subscriptions {
            self.subscription(&symbol, topic, subscription);
        }
    }

    fn subscription(&mut self, parent: &str, topic: &Topic, subscription: &Subscription) {
        let symbol = self.symbol(&format!("subscription_{}_{}", topic.name, subscription.name));
        let settings = &subscription.settings;
        let properties = [
            format!("requiresSession: {}", settings.sessions),
            format!("lockDuration: {}", quoted(&span::write(Some(settings.lock_duration)))),
            format!("maxDeliveryCount: {}", settings.max_delivery_count),
            format!("defaultMessageTimeToLive: {}", quoted(&span::write(settings.default_ttl))),
            format!("deadLetteringOnMessageExpiration: {}", settings.dead_letter_on_expiry),
            format!("deadLetteringOnFilterEvaluationExceptions: {}", settings.dead_letter_on_filter_error),
        ];
        let kind = format!("{TOPIC}/subscriptions");
        self.resource(&symbol, &kind, parent, &subscription.name, &properties, None);

        // One after the other, because Azure refuses changes of one subscription at the same time.
        let mut before: Option<String> = None;
        for rule in &subscription.rules {
            before = Some(self.rule(&symbol, topic, subscription, rule, before.as_deref()));
        }
        if !subscription.rules.iter().any(|rule| rule.name == DEFAULT_RULE) {
            let nothing = sql("1=0");
            let default = self.symbol(&format!("rule_{}_{}_default", topic.name, subscription.name));
            let kind = format!("{TOPIC}/subscriptions/rules");
            self.resource(&default, &kind, &symbol, DEFAULT_RULE, &nothing, before.as_deref());
        }
    }

    fn rule(
        &mut self,
        parent: &str,
        topic: &Topic,
        subscription: &Subscription,
        rule: &Rule,
        before: Option<&str>,
    ) -> String {
        let symbol = self.symbol(&format!("rule_{}_{}_{}", topic.name, subscription.name, rule.name));
        let properties = match &rule.filter {
            // The resource manager knows no filter that is true but this.
            Filter::Everything => sql("1=1"),
            Filter::Subject(event) => vec![
                "filterType: 'CorrelationFilter'".to_owned(),
                "correlationFilter: {".to_owned(),
                format!("  label: {}", quoted(event)),
                "}".to_owned(),
            ],
        };
        let kind = format!("{TOPIC}/subscriptions/rules");
        self.resource(&symbol, &kind, parent, &rule.name, &properties, before);
        symbol
    }

    fn resource(
        &mut self,
        symbol: &str,
        kind: &str,
        parent: &str,
        name: &str,
        properties: &[String],
        before: Option<&str>,
    ) {
        self.line(0, &format!("resource {symbol} '{kind}{API}' = {{"));
        self.line(1, &format!("parent: {parent}"));
        self.line(1, &format!("name: {}", quoted(name)));
        self.line(1, "properties: {");
        for property in properties {
            self.line(2, property);
        }
        self.line(1, "}");
        if let Some(before) = before {
            self.line(1, "dependsOn: [");
            self.line(2, before);
            self.line(1, "]");
        }
        self.line(0, "}");
        self.line(0, "");
    }

    /// A name of Bicep's own for something, which nothing else in the file has.
    fn symbol(&mut self, of: &str) -> String {
        let plain: String = of
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(LONGEST_SYMBOL)
            .collect();
        let mut symbol = plain.clone();
        let mut number = 1;
        while !self.symbols.insert(symbol.clone()) {
            number += 1;
            symbol = format!("{plain}_{number}");
        }
        symbol
    }
}

fn sql(expression: &str) -> Vec<String> {
    vec![
        "filterType: 'SqlFilter'".to_owned(),
        "sqlFilter: {".to_owned(),
        format!("  sqlExpression: {}", quoted(expression)),
        "}".to_owned(),
    ]
}

/// A text of Bicep's, in which nothing is left to be taken for syntax.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("'");
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\'' => quoted.push_str("\\'"),
            '$' if characters.peek() == Some(&'{') => quoted.push_str("\\$"),
            c if c.is_control() => {
                let _written = write!(quoted, "\\u{{{:x}}}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// A text that ends no comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Takes;

    fn takes(events: &[&str]) -> Takes {
        Takes::Events(events.iter().map(|&event| event.to_owned()).collect())
    }

    #[test]
    fn a_file_that_adds_a_topology_to_a_namespace() {
        let mut topology = Topology::new("service-bus:shop", ["default"]);
        topology.subscribe("shop/orders", "billing", takes(&["ordering.order-placed", "it's ${new}"]), true);
        let bicep = topology.to_bicep();
        assert!(bicep.starts_with("// service-bus:shop\n//\n// az deployment group create "), "{bicep}");
        let (_, resources) = bicep.split_once("  name: namespaceName\n}\n\n").unwrap();
        assert_eq!(
            resources,
            "\
resource topic_shop_orders 'Microsoft.ServiceBus/namespaces/topics@2024-01-01' = {
  parent: serviceBus
  name: 'shop~orders'
  properties: {
    defaultMessageTimeToLive: 'P10675199DT2H48M5.4775807S'
    requiresDuplicateDetection: true
    duplicateDetectionHistoryTimeWindow: 'PT10M'
  }
}

resource subscription_shop_orders_billing 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' = {
  parent: topic_shop_orders
  name: 'billing'
  properties: {
    requiresSession: true
    lockDuration: 'PT1M'
    maxDeliveryCount: 100
    defaultMessageTimeToLive: 'P10675199DT2H48M5.4775807S'
    deadLetteringOnMessageExpiration: true
    deadLetteringOnFilterEvaluationExceptions: true
  }
}

resource rule_shop_orders_billing_it_s___new__5e62652acb67 'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules@2024-01-01' = {
  parent: subscription_shop_orders_billing
  name: 'it_s___new_-5e62652acb67'
  properties: {
    filterType: 'CorrelationFilter'
    correlationFilter: {
      label: 'it\\'s \\${new}'
    }
  }
}

resource rule_shop_orders_billing_ordering_order_placed 'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules@2024-01-01' = {
  parent: subscription_shop_orders_billing
  name: 'ordering.order-placed'
  properties: {
    filterType: 'CorrelationFilter'
    correlationFilter: {
      label: 'ordering.order-placed'
    }
  }
  dependsOn: [
    rule_shop_orders_billing_it_s___new__5e62652acb67
  ]
}

resource rule_shop_orders_billing_default 'Microsoft.ServiceBus/namespaces/topics/subscriptions/rules@2024-01-01' = {
  parent: subscription_shop_orders_billing
  name: '$Default'
  properties: {
    filterType: 'SqlFilter'
    sqlFilter: {
      sqlExpression: '1=0'
    }
  }
  dependsOn: [
    rule_shop_orders_billing_ordering_order_placed
  ]
}

"
        );
    }

    #[test]
    fn one_that_takes_everything_keeps_the_default_rule() {
        let mut topology = Topology::new("b", ["default"]);
        topology.subscribe("orders", "audit", Takes::Everything, false);
        let bicep = topology.to_bicep();
        assert_eq!(bicep.matches("name: '$Default'").count(), 1, "{bicep}");
        assert!(bicep.contains("sqlExpression: '1=1'") && !bicep.contains("1=0"), "{bicep}");
    }

    #[test]
    fn names_that_look_alike_in_bicep_are_told_apart() {
        let mut topology = Topology::new("a\nresource evil", ["default"]);
        topology.topic("a.b");
        topology.topic("a-b");
        topology.topic(&"x".repeat(260)).settings.duplicate_detection = None;
        let bicep = topology.to_bicep();
        assert!(
            bicep.contains("resource topic_a_b '") && bicep.contains("resource topic_a_b_2 '"),
            "{bicep}"
        );
        assert!(bicep.starts_with("// a resource evil\n"), "{bicep}");
        assert!(bicep.contains("requiresDuplicateDetection: false\n  }"), "{bicep}");
        assert_eq!(bicep.matches('{').count(), bicep.matches('}').count());
    }

    #[test]
    fn texts_hold_no_syntax() {
        assert_eq!(quoted("a'b\\c${d}$e$\n\u{7}"), r"'a\'b\\c\${d}$e$\u{a}\u{7}'");
    }
}
