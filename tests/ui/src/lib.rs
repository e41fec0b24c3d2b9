//! What the macros accept and refuse: see `tests/macros_ui.rs`, and the programs in `event` and `handler`.
