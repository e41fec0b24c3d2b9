//! The storage port on PostgreSQL.

mod hints;
