//! Why things are as they are, and what they hold: to be read.

/// What is guaranteed, what is not, and the tests that show it.
#[doc = include_str!("manual/guarantees.md")]
pub mod guarantees {}

/// What each part of a service has to be allowed in its database.
#[doc = include_str!("manual/rights.md")]
pub mod rights {}

/// What a service tells of itself: every span, attribute and metric.
#[doc = include_str!("manual/telemetry.md")]
pub mod telemetry {}

/// How a service is watched and mended: health for probes, a dashboard for people.
#[doc = include_str!("manual/operating.md")]
pub mod operating {}

/// What costs time, the knobs and when to touch them, and what profiles have shown.
#[doc = include_str!("manual/performance.md")]
pub mod performance {}

/// How a service is tested: one handler, the whole of it, and in troubles.
#[doc = include_str!("manual/testing.md")]
pub mod testing {}
