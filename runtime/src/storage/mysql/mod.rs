//! The storage port on MariaDB and MySQL.
