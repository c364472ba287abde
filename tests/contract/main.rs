//! The contract as tests: each name states a behaviour, each test has a database of its own and asserts whole responses.

mod attempts;
mod body;
mod concurrency;
mod deployment;
mod envelope;
mod events;
mod faults;
mod floods;
mod harness;
mod health;
mod login;
mod logout;
mod me;
mod migrations;
mod oauth2;
mod panics;
mod passwords;
mod plans;
mod pooler;
mod properties;
mod proxy;
mod register;
mod smoke;
mod tls;
mod tokens;
