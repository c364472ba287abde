//! The source address behind a proxy of ours: then the gateway sees the proxy's.

use std::net::IpAddr;

use lambda_http::Request;
use lambda_http::http::HeaderMap;
use ring::hmac;

use crate::config::{ConfigError, Environment};
use crate::http_event::Gateway;

/// The header that the distribution is told to add, with `TRUSTED_PROXY_SECRET`: a custom origin header, which replaces
/// whatever a client sends under that name.
pub const SECRET_HEADER: &str = "x-origin-verify";
/// Address and port of the client, by `CloudFront`.
const VIEWER_ADDRESS: &str = "cloudfront-viewer-address";
/// Fewest characters of the secret: 96 bits in base64.
const MIN_SECRET_LENGTH: usize = 16;

/// What may say where a request comes from, besides the gateway.
pub enum TrustedProxy {
    /// Nothing: no header is believed.
    None,
    /// A `CloudFront` distribution, where a request carries its secret. Kept as a MAC under itself, which is compared in a
    /// time that tells nothing.
    CloudFront(hmac::Key, hmac::Tag),
}

impl TrustedProxy {
    /// `TRUSTED_PROXY` and `TRUSTED_PROXY_SECRET`.
    ///
    /// # Errors
    /// Names the one that is missing or unusable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        const SECRET: &str = "TRUSTED_PROXY_SECRET";
        match environment.text("TRUSTED_PROXY") {
            None | Some("none") => return Ok(Self::None),
            Some("cloudfront") => {}
            Some(_) => return Err(ConfigError::new("TRUSTED_PROXY", "must be none or cloudfront")),
        }
        let secret = environment
            .text(SECRET)
            .ok_or_else(|| ConfigError::new(SECRET, "is missing"))?;
        if secret.len() < MIN_SECRET_LENGTH || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem =
                format!("must have at least {MIN_SECRET_LENGTH} characters, all of them visible ASCII");
            return Err(ConfigError::new(SECRET, problem));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, secret.as_bytes());
        Ok(Self::CloudFront(key, tag))
    }

    /// Has `request` come from where the proxy says, if it did come through the proxy. Otherwise, and where the proxy says
    /// nothing of use, what the gateway says stands.
    pub fn apply(&self, request: &mut Request) {
        let Self::CloudFront(key, tag) = self else {
            return;
        };
        let verified = only_value(request.headers(), SECRET_HEADER)
            .is_some_and(|secret| hmac::verify(key, secret, tag.as_ref()).is_ok());
        let viewer = only_value(request.headers(), VIEWER_ADDRESS).and_then(viewer_address);
        if verified
            && let Some(address) = viewer
            && let Some(gateway) = request.extensions_mut().get_mut::<Gateway>()
        {
            gateway.source_address = Some(address);
        }
    }
}

/// The value of a header that is there once.
fn only_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// The address in `198.51.100.10:46532`, `2001:db8::7:46532` or `[2001:db8::7]:46532`: there always is a port.
fn viewer_address(value: &[u8]) -> Option<IpAddr> {
    let (address, port) = std::str::from_utf8(value).ok()?.rsplit_once(':')?;
    // `parse` would take a sign.
    let port_is_one =
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let address = match address.strip_prefix('[') {
        Some(bracketed) => IpAddr::V6(bracketed.strip_suffix(']')?.parse().ok()?),
        None => address.parse().ok()?,
    };
    port_is_one.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn settings(settings: &[(&str, &str)]) -> Result<TrustedProxy, String> {
        TrustedProxy::from_environment(&settings.iter().copied().collect()).map_err(|error| error.to_string())
    }

    fn source(headers: &[(&str, &str)]) -> String {
        let proxy = settings(&[("TRUSTED_PROXY", "cloudfront"), ("TRUSTED_PROXY_SECRET", SECRET)]).unwrap();
        let mut request = Request::default();
        for (name, value) in headers {
            let name: lambda_http::http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request.extensions_mut().insert(Gateway {
            source_address: Some("192.0.2.1".parse().unwrap()),
            ..Gateway::default()
        });
        proxy.apply(&mut request);
        Gateway::of(&request).source_address.unwrap().to_string()
    }

    #[test]
    fn a_viewer_is_believed_from_the_distribution_only() {
        let viewer = (VIEWER_ADDRESS, "198.51.100.10:46532");
        let secret = (SECRET_HEADER, SECRET);
        assert_eq!(source(&[viewer, secret]), "198.51.100.10");
        for headers in [
            &[viewer][..],
            &[secret],
            &[viewer, (SECRET_HEADER, "0123456789abcdeF")],
            &[viewer, (SECRET_HEADER, "")],
            &[viewer, secret, secret],
            &[viewer, viewer, secret],
            &[("x-forwarded-for", "198.51.100.10"), secret],
        ] {
            assert_eq!(source(headers), "192.0.2.1", "{headers:?}");
        }
    }

    #[test]
    fn a_viewer_has_an_address_of_either_kind_and_a_port() {
        for (value, address) in [
            ("198.51.100.10:1", Some("198.51.100.10")),
            ("2001:db8::7:46532", Some("2001:db8::7")),
            ("2001:db8:0:0:0:0:0:7:65535", Some("2001:db8::7")),
            ("[2001:db8::7]:443", Some("2001:db8::7")),
            ("::ffff:198.51.100.10:1", Some("::ffff:198.51.100.10")),
            ("198.51.100.10", None),
            ("198.51.100.10:", None),
            ("198.51.100.10:65536", None),
            ("198.51.100.10:+1", None),
            ("[198.51.100.10]:1", None),
            ("[2001:db8::7:1", None),
            ("198.51.100.10:1, 192.0.2.3:1", None),
            ("", None),
            (":1", None),
        ] {
            let parsed = viewer_address(value.as_bytes()).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), address, "{value}");
        }
    }

    #[test]
    fn an_unusable_setting_is_named_and_not_shown() {
        assert!(matches!(settings(&[]), Ok(TrustedProxy::None)));
        assert!(matches!(
            settings(&[("TRUSTED_PROXY", "none")]),
            Ok(TrustedProxy::None)
        ));
        let error = |pairs: &[(&str, &str)]| settings(pairs).err().unwrap();
        assert_eq!(
            error(&[("TRUSTED_PROXY", "nginx")]),
            "TRUSTED_PROXY must be none or cloudfront"
        );
        let cloudfront = ("TRUSTED_PROXY", "cloudfront");
        assert_eq!(error(&[cloudfront]), "TRUSTED_PROXY_SECRET is missing");
        for unusable in ["0123456789abcde", "0123456789 abcdef", "0123456789abcdeé"] {
            assert_eq!(
                error(&[cloudfront, ("TRUSTED_PROXY_SECRET", unusable)]),
                "TRUSTED_PROXY_SECRET must have at least 16 characters, all of them visible ASCII"
            );
        }
    }
}
