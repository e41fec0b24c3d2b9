//! Load and abuse, as functions over a database that processes share. What of it is held elsewhere:
//!
//! | load or abuse | by |
//! |---|---|
//! | a backlog of a million | [`backlog`] |
//! | 200 publishers at once | [`publishers`] |
//! | 10,000 sessions, one of them hot | [`sessions`], `handling::sessions::{a_blocked_session_of_many_events_…, a_page_of_…}` |
//! | payloads at and over every limit | `publishing::refusals`, `conformance::payloads`, `broker_conformance::contents`, `outbox_relay::failures::an_event_too_big_…` |
//! | a subscriber that is down for the whole run | `local_broker::{debts, processes}` |
//! | handlers that fail, hang, panic, keep locks | [`sick`], `handling::attempts`, `rule_10_…` |
//! | a full disk | `storage_sqlite::trouble`, `handling::trouble`, `inbox_relay::storing` |
//! | connections used up | [`pools`], `rule_28_…` |
//! | clock jumps | [`clocks`], `conformance::leases::{a_lease_from_the_future_…, an_instance_from_the_future_…}` |
//! | 1,000 deliveries of one message | the test `load`, module `duplicates` |

use crate::instances::Shared;

pub mod backlog;
pub mod clocks;
pub mod pools;
pub mod program;
pub mod publishers;
pub mod sessions;
pub mod sick;

/// Stamps out one test for each case on a fixture.
#[macro_export]
macro_rules! load {
    ($fixture:ty) => {
        $crate::load! { @cases ($fixture)
            backlog: an_outbox_is_drained_with_flat_memory, an_inbox_is_drained_with_flat_memory;
            publishers: two_hundred_publishers_at_once_lose_and_double_nothing;
            sessions: thousands_of_sessions_stay_in_order_beside_a_hot_one;
            sick: handlers_that_fail_hang_panic_or_keep_locks_harm_nobody_else;
            pools: a_used_up_pool_delays_who_needs_it_and_nobody_else;
            clocks: leases_that_leap_with_the_clock_double_nothing, what_waits_is_due_when_the_clock_leaps_forward;
        }
    };
    (@cases ($fixture:ty) $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[::tokio::test]
            async fn $case() {
                $crate::load::$module::$case::<$fixture>().await;
            })+
        })+
    };
}
