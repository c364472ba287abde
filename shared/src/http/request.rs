//! Metadata of a request.

use std::net::IpAddr;

use lambda_http::Request;
use lambda_http::http::header::USER_AGENT;
use uuid::Uuid;

use super::event::Gateway;

/// The source address of a request, from the gateway or a trusted proxy; never from another header, which anyone can
/// set.
#[must_use]
pub fn source_address(request: &Request) -> Option<IpAddr> {
    Gateway::of(request).source_address
}

/// Code points after which a user agent is cut.
const MAX_USER_AGENT: usize = 256;

/// The user agent, cut, without control characters; `None` if that is empty.
#[must_use]
pub fn user_agent(request: &Request) -> Option<String> {
    let value = request.headers().get(USER_AGENT)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let kept: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_USER_AGENT)
        .collect();
    (!kept.is_empty()).then_some(kept)
}

/// The value of a path parameter.
#[must_use]
pub fn path_parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let parameters = &Gateway::of(request).path_parameters;
    let found = parameters.iter().find(|(parameter, _)| parameter == name);
    found.map(|(_, value)| value.as_str())
}

/// The gateway's request id, or a new one.
#[must_use]
pub fn request_id(request: &Request) -> String {
    let id = &Gateway::of(request).request_id;
    id.clone().unwrap_or_else(|| Uuid::new_v4().to_string())
}
