//! What the functions have in common. Dependencies point one way:
//! functions → `http`, `auth`, `error` → `users`, `sessions`, `attempts`, `password`, `token`, `links`, `outbox` →
//! `database`.

pub mod app;
pub mod attempts;
pub mod auth;
pub mod aws;
pub mod config;
pub mod database;
pub mod error;
mod guesses;
pub mod http;
pub mod links;
pub mod origins;
pub mod outbox;
pub mod password;
pub mod password_policy;
pub mod roles;
pub mod sessions;
pub mod telemetry;
pub mod token;
mod unicode;
pub mod users;
pub mod validation;
mod word_list;
