//! The contract as tests: each name states a behaviour, each test has a database of its own and asserts whole responses.

mod adoption;
mod attempts;
mod body;
mod concurrency;
mod deployment;
mod docs;
mod envelope;
mod events;
mod faults;
mod floods;
mod harness;
mod health;
mod instance;
mod login;
mod logout;
mod me;
mod migrations;
mod oauth2;
mod odd_events;
mod panics;
mod passwords;
mod pgbouncer;
mod plans;
mod pooler;
mod properties;
#[expect(dead_code, reason = "what only the benchmarks use")]
mod proxy;
mod register;
mod retention;
mod schema;
mod smoke;
mod snapshot;
mod tls;
mod tls_server;
mod tokens;
