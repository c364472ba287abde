//! The HTTP boundary: from a gateway's event to a response, whatever happens in between.

pub mod body;
pub mod event;
pub mod pages;
mod reply;
mod request;
mod route;
mod runtime;

pub use reply::{HEADERS, Pause, RefusedFields, Reply};
pub use request::source_address;
pub use route::{Handler, Route, Served, served};
pub use runtime::{answer, run, serve};
