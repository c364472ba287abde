//! The program `local` as a user runs it: over TCP, with signals, with the embedded database and with another.

mod admin;
mod adoption;
mod logs;
mod project;
mod refusals;
mod secrets;
mod sessions;
mod settings;
