//! The HTTP boundary: from a gateway's event to a response, whatever happens in between.

pub mod body;
pub mod event;
pub mod pages;
mod reply;
mod request;
mod route;
mod runtime;
mod trusted_proxy;

pub use reply::{HEADERS, Pause, RefusedFields, Reply};
pub use request::{path_parameter, request_id, source_address, user_agent};
pub use route::{Handler, Route, Served, served};
pub use runtime::{Instance, answer, now, observe, run, serve};
pub use trusted_proxy::believe;
