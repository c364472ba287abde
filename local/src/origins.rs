//! CORS: which web pages may call the service, and a warning in the log for those that may not.

use std::collections::HashSet;
use std::sync::Mutex;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use shared::origins::Origins;
use tower_http::cors::AllowOrigin;

/// Maximum number of rejected origins that are logged, since clients choose them.
const MAX_LOGGED: usize = 100;

/// Allows `origins`. The first request of any other well-formed origin is logged with the remedy. Nothing else that a
/// client sends is logged.
pub fn allow(origins: Origins) -> AllowOrigin {
    let logged = Mutex::new(HashSet::new());
    AllowOrigin::predicate(move |origin: &HeaderValue, request: &Parts| {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let allowed = origins.allow(origin);
        if !allowed
            && !is_own(origin, &request.headers)
            && Origins::parse(origin).is_ok()
            && let Ok(mut logged) = logged.lock()
            && logged.len() < MAX_LOGGED
            && logged.insert(origin.to_owned())
        {
            tracing::warn!(
                origin,
                "origin refused: if it is yours, add it to CORS_ALLOWED_ORIGINS"
            );
        }
        allowed
    })
}

/// Whether the page is the service's own, which needs no CORS.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, own)| own == host))
}
