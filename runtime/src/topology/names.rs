//! Which names Service Bus takes, and the names that rules get.

use uuid::Uuid;

/// The longest subscription and rule name, in characters (Azure Service Bus quotas).
const SHORT: usize = 50;
/// The longest topic name, its slashes included (Azure Service Bus quotas).
const LONG: usize = 260;
/// Hexadecimal digits that tell shortened names from each other: with a thousand of them on one subscription, two are the
/// same with a chance of two in a thousand million.
const DIGITS: usize = 12;
/// What the hashes of rule names are derived in; part of every topology that was ever created.
const RULES: Uuid = Uuid::from_u128(0x5d6f_7a0e_52a4_4a3b_9d0f_8c1b_2e6a_91c7);

/// The rule that Service Bus puts on every subscription by itself, where it isn't told of another one.
pub(crate) const DEFAULT_RULE: &str = "$Default";

/// What is wrong with a topic's name, if anything; the words follow on "the topic's name `…`".
pub(crate) fn topic_problem(name: &str) -> Option<String> {
    let problem = problem(name, LONG, "/");
    if problem.is_some() {
        return problem;
    }
    let mut parts = name.split('/');
    if parts.clone().any(str::is_empty) {
        return Some("has two slashes in a row".to_owned());
    }
    // What follows such a part would be a subscription of what stands before it.
    if parts.any(|part| part.eq_ignore_ascii_case("subscriptions")) {
        return Some(
            "has a part `subscriptions`, by which Service Bus tells subscriptions from topics".to_owned(),
        );
    }
    None
}

/// What is wrong with a subscription's name, if anything; the words follow on "the subscription's name `…`".
pub(crate) fn subscription_problem(name: &str) -> Option<String> {
    problem(name, SHORT, "")
}

/// What is wrong with a rule's name.
pub(crate) fn rule_problem(name: &str) -> Option<String> {
    if name.eq_ignore_ascii_case(DEFAULT_RULE) { None } else { problem(name, SHORT, "") }
}

fn problem(name: &str, longest: usize, further: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!("is empty, and must have 1 to {longest} characters"));
    }
    let length = name.chars().count();
    if length > longest {
        return Some(format!("has {length} characters, and Service Bus takes {longest}"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c) || further.contains(c);
    if let Some(c) = name.chars().find(|&c| !allowed(c)) {
        let slash = if further.is_empty() { "" } else { ", and `/` between parts" };
        return Some(format!(
            "has a {c:?} in it, and Service Bus takes letters and digits of ASCII, `.`, `-` and `_`{slash}"
        ));
    }
    let ends = [name.chars().next(), name.chars().last()];
    if !ends.into_iter().flatten().all(|c| c.is_ascii_alphanumeric()) {
        return Some("must begin and end with a letter or a digit".to_owned());
    }
    None
}

/// The name of the rule for an event's name: the same wherever Service Bus takes it, else what it takes of it and a hash.
/// Every instance comes to the same name by itself, so that they don't create a rule twice.
pub(crate) fn rule_name(event: &str) -> String {
    if problem(event, SHORT, "").is_none() { event.to_owned() } else { hashed_rule_name(event) }
}

/// The same for an event whose name differs from another's in upper and lower case alone, which for rules is no
/// difference.
pub(crate) fn hashed_rule_name(event: &str) -> String {
    let hash = Uuid::new_v5(&RULES, event.as_bytes()).simple().to_string();
    let kept: String = event
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(SHORT - DIGITS - 1)
        .collect();
    let separator = if kept.is_empty() { "" } else { "-" };
    format!("{kept}{separator}{}", &hash[..DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_service_bus_takes() {
        let longest = format!("{}/b", "a".repeat(258));
        for name in ["orders", "Orders.v2", "shop/orders", "a", "0", "a-b_c.d", &longest] {
            assert_eq!(topic_problem(name), None, "{name}");
        }
        for name in ["billing", "Billing-2", &"b".repeat(50)] {
            assert_eq!(subscription_problem(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_it_does_not_take() {
        for (name, word) in [
            ("", "empty"),
            (&*"a".repeat(261), "261 characters"),
            ("order events", "' '"),
            ("bestellungen-ü", "'ü'"),
            ("orders?", "'?'"),
            ("$orders", "'$'"),
            ("-orders", "begin and end"),
            ("orders/", "begin and end"),
            ("shop//orders", "two slashes"),
            ("shop/Subscriptions/billing", "`subscriptions`"),
        ] {
            let problem = topic_problem(name).unwrap();
            assert!(problem.contains(word), "{name}: {problem}");
        }
        for (name, word) in [("a/b", "'/'"), (&*"b".repeat(51), "51 characters"), ("b.", "begin and end")] {
            let problem = subscription_problem(name).unwrap();
            assert!(problem.contains(word), "{name}: {problem}");
        }
    }

    #[test]
    fn a_rule_is_called_like_its_event_where_that_is_a_name() {
        assert_eq!(rule_name("ordering.order-placed"), "ordering.order-placed");
        assert_eq!(rule_name("OrderPlaced"), "OrderPlaced");
    }

    /// Part of the topologies that exist: never to change.
    #[test]
    fn else_it_gets_what_can_be_kept_and_a_hash() {
        let long = "Acme.Ordering.Contracts.Events.Distributed.OrderPlacedEto";
        assert_eq!(rule_name(long), "Acme.Ordering.Contracts.Events.Distri-f223e5c14c35");
        assert_eq!(rule_name("Bestellung übermittelt"), "Bestellung__bermittelt-501e4d1e267d");
        assert_eq!(rule_name("$Default"), "Default-6d401a2fc0b2");
        assert_eq!(rule_name("订单"), "59087313231d");
        for event in [long, "Bestellung übermittelt", "$Default", "订单", &"é".repeat(128), "a b.", ".", "-"]
        {
            let name = rule_name(event);
            assert_eq!(rule_problem(&name), None, "{event}: {name}");
        }
    }

    #[test]
    fn what_is_cut_alike_is_told_apart() {
        let names = ["a", "b"].map(|end| rule_name(&format!("{}{end}", "x".repeat(60))));
        assert_ne!(names[0], names[1]);
        assert_ne!(hashed_rule_name("order"), hashed_rule_name("Order"));
    }
}
