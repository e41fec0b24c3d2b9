//! What a configuration file says, and what is wrong with it.
