//! What must be true of the business tables.

use std::collections::HashMap;

use crate::billing::SUSPICIOUS_CENTS;
use crate::books;
use crate::sqlite::ordering::CONFIRMED;

/// The business tables of both services.
pub(crate) struct Books {
    pub(crate) orders: Vec<books::OrderRow>,
    /// What else ordering knows of each: its first total, its step, and when its reminder is due.
    pub(crate) promises: Vec<(i64, i64, i64, i64)>,
    pub(crate) reminders: Vec<Reminder>,
    /// The orders that alerts are about.
    pub(crate) alerts: Vec<i64>,
    pub(crate) charges: Vec<(i64, i64)>,
}

pub(crate) struct Reminder {
    pub(crate) order_id: i64,
    /// In milliseconds since 1970, as is the time when it was due.
    pub(crate) came_at: i64,
}

impl Books {
    /// One line for each thing that is shown.
    pub(crate) fn summary(&self) -> String {
        let totals: HashMap<i64, i64> = self.orders.iter().map(|order| (order.0, order.1)).collect();
        let right = self.charges.iter().filter(|(id, cents)| totals.get(id) == Some(cents)).count();
        let late = self.lateness().into_iter().max().unwrap_or(0);
        format!(
            "sessions: {} orders, placed, changed twice and confirmed; {right} charged what the last change said\n\
             reminders: {} came, {} before their time, none later than {:.2} s after it\n\
             critical lane: {} alerts through the second namespace",
            self.orders.len(),
            self.reminders.len(),
            self.lateness().iter().filter(|late| **late < 0).count(),
            late as f64 / 1000.0,
            self.alerts.len(),
        )
    }

    fn lateness(&self) -> Vec<i64> {
        let due: HashMap<i64, i64> = self.promises.iter().map(|&(id, _, _, due)| (id, due)).collect();
        self.reminders
            .iter()
            .filter_map(|reminder| Some(reminder.came_at - due.get(&reminder.order_id)?))
            .collect()
    }

    /// What does not agree, a sentence each.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut differences = books::differences(&self.orders, self.charges.clone());
        let mut reminders = counted(self.reminders.iter().map(|reminder| reminder.order_id));
        let mut alerts = counted(self.alerts.iter().copied());
        let mut due = HashMap::new();
        for &(id, placed_cents, step, due_at) in &self.promises {
            due.insert(id, due_at);
            if step != CONFIRMED {
                differences.push(format!("order {id}: never confirmed"));
            }
            let suspicious = u32::from(placed_cents >= SUSPICIOUS_CENTS);
            for (what, found, expected) in
                [("reminders", reminders.remove(&id), 1), ("alerts", alerts.remove(&id), suspicious)]
            {
                let found = found.unwrap_or(0);
                if found != expected {
                    differences.push(format!("order {id}: {found} {what}, expected {expected}"));
                }
            }
        }
        for reminder in &self.reminders {
            if let Some(early) =
                due.get(&reminder.order_id).map(|due| due - reminder.came_at).filter(|early| *early > 0)
            {
                differences
                    .push(format!("order {}: its reminder came {early} ms too early", reminder.order_id));
            }
        }
        differences
            .extend(reminders.into_keys().map(|id| format!("order {id}: a reminder, but never placed")));
        differences.extend(alerts.into_keys().map(|id| format!("order {id}: an alert, but never placed")));
        differences
    }
}

fn counted(ids: impl Iterator<Item = i64>) -> HashMap<i64, u32> {
    let mut counts = HashMap::new();
    for id in ids {
        *counts.entry(id).or_default() += 1;
    }
    counts
}
