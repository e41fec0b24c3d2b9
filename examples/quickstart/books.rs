//! The table at the end and the comparison of the books, from numbers alone: `two_services` ends with the same.

use std::collections::HashMap;
use std::time::Duration;

use distributed_events::Stats;

/// The rows of the table, from what each service's bus has counted.
pub(crate) fn table(ordering: &Stats, billing: &Stats) -> String {
    let rows = [
        ("published, delivered", ordering.sent, billing.sent),
        ("processed", ordering.processed, billing.processed),
        ("retried", ordering.retried, billing.retried),
        ("dead", ordering.dead, billing.dead),
    ];
    let rows = rows.map(|(name, left, right)| format!("\n{name:<22}{left:>10}{right:>10}"));
    format!("{:<22}{:>10}{:>10}{}", "this run", "ordering", "billing", rows.concat())
}

/// How long events took from the publisher's commit to the end of their handler.
pub(crate) fn latencies(mut taken: Vec<Duration>) -> String {
    taken.sort_unstable();
    let percentile = |share: f64| {
        let index = (taken.len() as f64 * share) as usize;
        taken
            .get(index.min(taken.len().saturating_sub(1)))
            .map_or_else(|| "-".to_owned(), |taken| format!("{taken:.1?}"))
    };
    format!("commit to handled: p50 {}, p99 {}", percentile(0.5), percentile(0.99))
}

/// What ordering's books say of an order: its id, its total in cents, its card, the cents paid and how often.
pub(crate) type OrderRow = (i64, i64, String, i64, i64);

/// Every order that can be paid is paid once, by one charge of the same amount; a charge is an order's id and its cents.
pub(crate) fn differences(orders: &[OrderRow], made: Vec<(i64, i64)>) -> Vec<String> {
    let mut charges: HashMap<i64, (i64, i64)> = HashMap::new();
    for (id, cents) in made {
        let (count, sum) = charges.entry(id).or_default();
        (*count, *sum) = (*count + 1, *sum + cents);
    }
    let mut differences = Vec::new();
    for &(id, total, ref card, paid, payments) in orders {
        let expected = if card == "expired" { (0, 0) } else { (1, total) };
        let charged = charges.remove(&id).unwrap_or((0, 0));
        if charged != expected {
            differences.push(format!(
                "order {id}: {} charges of {} cents, expected {} of {}",
                charged.0, charged.1, expected.0, expected.1
            ));
        }
        if (payments, paid) != expected {
            differences.push(format!(
                "order {id}: {payments} payments of {paid} cents, expected {} of {}",
                expected.0, expected.1
            ));
        }
    }
    differences.extend(charges.into_keys().map(|id| format!("order {id}: charged, but never placed")));
    differences
}

/// The last line, and what it stands for; `false` when the books don't agree.
pub(crate) fn verdict(differences: &[String]) -> bool {
    if differences.is_empty() {
        println!("reconciled: yes");
    } else {
        println!("reconciled: no\n  {}", differences.join("\n  "));
    }
    differences.is_empty()
}
