//! What the gateway says of a request.

use std::net::IpAddr;

use lambda_http::Request;
use lambda_http::http::header::USER_AGENT;
use uuid::Uuid;

use super::event::Gateway;

/// The source address of a request, as the gateway says, or a proxy that is trusted; never another header, which anyone
/// can write.
#[must_use]
pub fn source_address(request: &Request) -> Option<IpAddr> {
    Gateway::of(request).source_address
}

/// The longest user agent that is kept, in code points.
const MAX_USER_AGENT: usize = 256;

/// What the device says of itself, cut, without control characters; `None` when that is nothing.
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

/// The value of a parameter in the route's path.
#[must_use]
pub fn path_parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let parameters = &Gateway::of(request).path_parameters;
    let found = parameters.iter().find(|(parameter, _)| parameter == name);
    found.map(|(_, value)| value.as_str())
}

/// The gateway's id of a request, or one of our own.
#[must_use]
pub fn request_id(request: &Request) -> String {
    let id = &Gateway::of(request).request_id;
    id.clone().unwrap_or_else(|| Uuid::new_v4().to_string())
}
