//! The HTTP boundary: converts a gateway's event to a request, and every outcome to a response.

pub mod body;
pub mod event;
pub mod pages;
mod reply;
mod request;
mod route;
mod runtime;
mod trusted_proxy;

pub use reply::{HEADERS, RefusedFields, Reply, RetryAfter};
pub use request::{path_parameter, request_id, source_address, user_agent};
pub use route::{Handler, Route, Served, served};
pub use runtime::{Instance, answer, cannot_start, now, observe, run, serve};
pub use trusted_proxy::resolve_source_address;
