//! The examples of distributed-events: run one with `cargo run --example NAME`.
