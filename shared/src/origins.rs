//! Origins whose web pages may call the service.

use lambda_http::Request;
use lambda_http::http::HeaderValue;
use lambda_http::http::header::{HOST, ORIGIN};

use crate::http::event::Gateway;

/// Origins whose pages may call the service, besides its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Any port of localhost, 127.0.0.1 and `[::1]`.
    Loopback,
    /// Exactly these (RFC 6454 §7): scheme, host and optionally port.
    Listed(Vec<String>),
}

impl Origins {
    /// Parses comma-separated origins.
    ///
    /// # Errors
    /// What is wrong, to be appended to the name of the setting.
    pub fn parse(setting: &str) -> Result<Self, &'static str> {
        let origins = setting.split(',').map(|origin| parse_origin(origin.trim()));
        Ok(Self::Listed(origins.collect::<Result<_, _>>()?))
    }

    /// Whether pages of `origin` may call the service.
    #[must_use]
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Listed(origins) => origins.iter().any(|allowed| allowed == origin),
            Self::Loopback => is_loopback(origin),
        }
    }

    /// Whether `request` is sent by a page of another site, or of an origin that is neither the service's own nor
    /// allowed, according to the browser. Programs other than browsers send no such header.
    #[must_use]
    pub fn refuse(&self, request: &Request) -> bool {
        let values = |name| request.headers().get_all(name).iter();
        // A page cannot set this header.
        let mut sites = values("sec-fetch-site").map(HeaderValue::as_bytes);
        match (sites.next(), sites.next()) {
            (None, _) | (Some(b"same-site" | b"none"), None) => {}
            // Holds even if the gateway is behind another host name, or the page withholds its origin.
            (Some(b"same-origin"), None) => return false,
            _ => return true,
        }
        values(ORIGIN.as_str()).any(|origin| match origin.to_str() {
            Ok(origin) => !self.allow(origin) && !is_own(origin, request),
            Err(_) => true,
        })
    }
}

/// Whether `origin` is the service's own.
fn is_own(origin: &str, request: &Request) -> bool {
    let authority = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let domain_name = Gateway::of(request).domain_name.as_deref();
    authority.is_some_and(|authority| {
        [host, domain_name]
            .into_iter()
            .flatten()
            .any(|own| own.eq_ignore_ascii_case(authority))
    })
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
                    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
                })
        })
    })
}

/// Rejects `*` and `null`, which would allow everybody.
fn parse_origin(origin: &str) -> Result<String, &'static str> {
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
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte));
    if host_only {
        Ok(origin.to_owned())
    } else {
        Err(UNUSABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::event;

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
            assert_eq!(origins.allow(origin), expected, "{origin}");
        }
    }

    #[test]
    fn only_the_ports_of_this_machine_are_loopback() {
        for allowed in [
            "http://localhost",
            "http://localhost:5173",
            "https://localhost:8443",
            "http://127.0.0.1:1",
            "http://[::1]:65535",
        ] {
            assert!(Origins::Loopback.allow(allowed), "{allowed}");
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
            assert!(!Origins::Loopback.allow(refused), "{refused}");
        }
    }

    #[test]
    fn an_invalid_origin_is_rejected_with_the_expected_form() {
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

    #[test]
    fn a_request_of_another_sites_page_is_refused() {
        let origins = Origins::parse("https://app.example").unwrap();
        let refuse = |headers: &str| {
            let json = format!(r#"{{"headers":{headers},"requestContext":{{"domainName":"api.example"}}}}"#);
            origins.refuse(&event::request(&json))
        };
        for ours in [
            "{}",
            r#"{"origin":"https://app.example"}"#,
            r#"{"origin":"https://api.example"}"#,
            r#"{"origin":"http://127.0.0.1:3000","host":"127.0.0.1:3000"}"#,
            r#"{"origin":"https://app.example","sec-fetch-site":"same-site"}"#,
            r#"{"origin":"https://cdn.example","sec-fetch-site":"same-origin"}"#,
            r#"{"origin":"null","sec-fetch-site":"same-origin"}"#,
            r#"{"sec-fetch-site":"none"}"#,
        ] {
            assert!(!refuse(ours), "{ours}");
        }
        for foreign in [
            r#"{"sec-fetch-site":"cross-site"}"#,
            r#"{"origin":"https://app.example","sec-fetch-site":"cross-site"}"#,
            r#"{"origin":"https://evil.example"}"#,
            r#"{"origin":"https://evil.example","sec-fetch-site":"same-site"}"#,
            r#"{"origin":"null"}"#,
            r#"{"origin":""}"#,
            r#"{"origin":"https://app.example, https://evil.example"}"#,
            r#"{"origin":["https://app.example","https://evil.example"]}"#,
            r#"{"origin":"https://api.example.evil.example"}"#,
            r#"{"origin":"https://api.example:8443"}"#,
            r#"{"origin":"api.example"}"#,
            r#"{"origin":"file://api.example"}"#,
            r#"{"origin":"\u0000"}"#,
            r#"{"origin":7}"#,
            r#"{"sec-fetch-site":"same-origin, cross-site"}"#,
            r#"{"sec-fetch-site":["same-origin","cross-site"]}"#,
            r#"{"sec-fetch-site":""}"#,
        ] {
            assert!(refuse(foreign), "{foreign}");
        }
    }
}
