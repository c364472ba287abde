//! The whole bundle on one machine: every function at one address, called in-process, with its own PostgreSQL.

pub mod admin;
pub mod arguments;
pub mod containers;
pub mod env_file;
pub mod example;
pub mod mail;
pub mod migration;
pub mod origins;
pub mod postgres;
pub mod request_log;
pub mod server;
pub mod settings;

/// Why the program ends.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
