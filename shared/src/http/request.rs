//! What the gateway says of a request.

use std::net::IpAddr;

use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt as _};
use uuid::Uuid;

/// The source address of a request, as the gateway says; never a header, which anyone can write.
#[must_use]
pub fn source_address(request: &Request) -> Option<IpAddr> {
    let address = match request.request_context_ref()? {
        RequestContext::ApiGatewayV2(context) => context.http.source_ip.as_deref(),
        RequestContext::ApiGatewayV1(context) => context.identity.source_ip.as_deref(),
        _ => None,
    };
    address?.parse().ok()
}

/// The gateway's id of a request, or one of our own.
pub(super) fn request_id(request: &Request) -> String {
    let id = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        Some(RequestContext::ApiGatewayV1(context)) => context.request_id.clone(),
        _ => None,
    };
    id.unwrap_or_else(|| Uuid::new_v4().to_string())
}


/// The gateway's key of the route that it picked for a request: method and path, separated by one space.
pub(super) fn route_key(request: &Request) -> Option<String> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV2(context) => context.route_key.clone(),
        RequestContext::ApiGatewayV1(context) => {
            let path = context.resource_path.as_deref()?;
            Some(format!("{} {path}", context.http_method))
        }
        _ => None,
    }
}
