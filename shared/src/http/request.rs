//! What the gateway says of a request.

use std::net::IpAddr;

use lambda_http::Request;
use uuid::Uuid;

use super::event::Gateway;

/// The source address of a request, as the gateway says; never a header, which anyone can write.
#[must_use]
pub fn source_address(request: &Request) -> Option<IpAddr> {
    Gateway::of(request).source_address
}

/// The gateway's id of a request, or one of our own.
pub(super) fn request_id(request: &Request) -> String {
    let id = &Gateway::of(request).request_id;
    id.clone().unwrap_or_else(|| Uuid::new_v4().to_string())
}
