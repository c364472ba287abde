//! Which web pages may call the service, and a line of the log for those that may not.

use std::collections::HashSet;
use std::sync::Mutex;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use shared::origins::Origins;
use tower_http::cors::AllowOrigin;

/// Refused origins that are told of, at most: a client chooses them.
const MAX_TOLD: usize = 100;

/// Allows `origins`. The first request of each other origin is logged with what to do, if it is well-formed: nothing else
/// that a client sends gets into the log.
#[must_use]
pub fn allow(origins: Origins) -> AllowOrigin {
    let told = Mutex::new(HashSet::new());
    AllowOrigin::predicate(move |origin: &HeaderValue, request: &Parts| {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let allowed = origins.allow(origin);
        if !allowed
            && !is_own(origin, &request.headers)
            && Origins::parse(origin).is_ok()
            && let Ok(mut told) = told.lock()
            && told.len() < MAX_TOLD
            && told.insert(origin.to_owned())
        {
            tracing::warn!(
                origin,
                "origin refused: if it is yours, name it in CORS_ALLOWED_ORIGINS"
            );
        }
        allowed
    })
}

/// Whether the page is the service's own: its browser asks no leave.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, own)| own == host))
}
