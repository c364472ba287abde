//! Which web pages may call the service.

use std::collections::HashSet;
use std::sync::Mutex;

use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use tower_http::cors::AllowOrigin;

/// Refused origins that are told of, at most: a client chooses them.
const MAX_TOLD: usize = 100;

/// Origins that a browser may call from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Any port of this machine's own names: localhost, 127.0.0.1, [::1].
    Loopback,
    /// Exactly these.
    Listed(Vec<HeaderValue>),
}

impl Origins {
    /// `setting` is origins (RFC 6454 §7: scheme, host and perhaps port) separated by commas.
    ///
    /// # Errors
    /// What is wrong, in words that follow the setting's name.
    pub fn parse(setting: &str) -> Result<Self, &'static str> {
        let origins = setting.split(',').map(|origin| parse_origin(origin.trim()));
        Ok(Self::Listed(origins.collect::<Result<_, _>>()?))
    }

    /// Whether pages of `origin` may call.
    #[must_use]
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Listed(origins) => origins.contains(origin),
            Self::Loopback => origin.to_str().is_ok_and(is_loopback),
        }
    }

    /// As the CORS layer wants it. The first request of each refused origin is logged with what to do, if it
    /// is well-formed: nothing else that a client sends gets into the log.
    pub fn into_layer(self) -> AllowOrigin {
        let told = Mutex::new(HashSet::new());
        AllowOrigin::predicate(move |origin: &HeaderValue, request: &Parts| {
            let allowed = self.allow(origin);
            if !allowed
                && !is_own(origin, request)
                && let Ok(origin) = origin.to_str()
                && parse_origin(origin).is_ok()
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
}

/// Whether the page is the service's own: its browser asks no leave.
fn is_own(origin: &HeaderValue, request: &Parts) -> bool {
    let host = request
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let origin = origin.to_str().unwrap_or_default();
    host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, own)| own == host))
}

fn is_loopback(origin: &str) -> bool {
    let Some(authority) = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
    else {
        return false;
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
        authority.strip_prefix(host).is_some_and(|rest| {
            rest.is_empty()
                || rest.strip_prefix(':').is_some_and(|port| {
                    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
                })
        })
    })
}

/// `*` and `null` would let anybody in.
fn parse_origin(origin: &str) -> Result<HeaderValue, &'static str> {
    const UNUSABLE: &str = "must be origins like https://app.example, separated by commas";
    const WITH_PATH: &str = "must be origins like https://app.example, without a slash or a path at the end";
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"))
        .filter(|host| !host.is_empty())
        .ok_or(UNUSABLE)?;
    if host.contains('/') {
        return Err(WITH_PATH);
    }
    let host_only = host
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b));
    match origin.parse() {
        Ok(origin) if host_only => Ok(origin),
        _ => Err(UNUSABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(origins: &Origins, origin: &'static str) -> bool {
        origins.allow(&HeaderValue::from_static(origin))
    }

    #[test]
    fn listed_origins_are_exact() {
        let origins = Origins::parse("https://a.example, http://localhost:5173").unwrap();
        for (origin, expected) in [
            ("https://a.example", true),
            ("http://localhost:5173", true),
            ("http://localhost:3000", false),
            ("http://a.example", false),
            ("https://a.example:8443", false),
            ("https://b.a.example", false),
            ("null", false),
        ] {
            assert_eq!(allow(&origins, origin), expected, "{origin}");
        }
    }

    #[test]
    fn by_default_any_port_of_this_machine_is_allowed_and_nothing_else() {
        for allowed in [
            "http://localhost",
            "http://localhost:5173",
            "https://localhost:8443",
            "http://127.0.0.1:1",
            "http://[::1]:65535",
        ] {
            assert!(allow(&Origins::Loopback, allowed), "{allowed}");
        }
        for refused in [
            "null",
            "http://localhost.evil.example",
            "http://localhost:5173.evil.example",
            "http://localhost:",
            "http://localhost:+80",
            "http://localhost:65536",
            "http://evil.example",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.2",
            "http://user@localhost",
            "file://localhost",
            "http://[::2]",
        ] {
            assert!(!allow(&Origins::Loopback, refused), "{refused}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_remedy() {
        for refused in [
            "*",
            "null",
            "https://*.example",
            "a.example",
            "https://",
            "https://a.example,",
        ] {
            assert_eq!(
                Origins::parse(refused),
                Err("must be origins like https://app.example, separated by commas"),
                "{refused}"
            );
        }
        for with_path in ["https://a.example/", "http://localhost:5173/app"] {
            assert_eq!(
                Origins::parse(with_path),
                Err("must be origins like https://app.example, without a slash or a path at the end"),
                "{with_path}"
            );
        }
    }
}
