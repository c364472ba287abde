//! The source address of requests that come through a trusted proxy, where the gateway sees only the proxy.

use std::net::IpAddr;

use lambda_http::Request;
use lambda_http::http::HeaderMap;
use ring::hmac;
use secrecy::ExposeSecret as _;

use super::event::Gateway;
use crate::config::TrustedProxy;

/// The header in which the distribution sends `TRUSTED_PROXY_SECRET`: a custom origin header, which replaces a header
/// of that name sent by a client.
const SECRET_HEADER: &str = "x-origin-verify";
/// Address and port of the client, set by `CloudFront`.
const VIEWER_ADDRESS: &str = "cloudfront-viewer-address";

/// Sets the source address of `request` to the one that the trusted proxy states, if it came through the proxy.
/// Otherwise, or if the proxy states no valid address, that of the gateway is kept.
pub fn resolve_source_address(proxy: &TrustedProxy, request: &mut Request) {
    let TrustedProxy::CloudFront(secret) = proxy else {
        return;
    };
    // Comparing MACs takes the same time whatever was sent, and reveals neither the secret nor its length.
    let secret = secret.expose_secret().as_bytes();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let verified = only_value(request.headers(), SECRET_HEADER)
        .is_some_and(|sent| hmac::verify(&key, sent, hmac::sign(&key, secret).as_ref()).is_ok());
    let viewer = only_value(request.headers(), VIEWER_ADDRESS).and_then(viewer_address);
    if verified
        && let Some(address) = viewer
        && let Some(gateway) = request.extensions_mut().get_mut::<Gateway>()
    {
        gateway.source_address = Some(address);
    }
}

/// The value of a header that was sent exactly once.
fn only_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// The address in `198.51.100.10:46532`, `2001:db8::7:46532` or `[2001:db8::7]:46532`. There is always a port.
fn viewer_address(value: &[u8]) -> Option<IpAddr> {
    let (address, port) = std::str::from_utf8(value).ok()?.rsplit_once(':')?;
    // `parse` would accept a sign.
    let valid_port =
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let address = match address.strip_prefix('[') {
        Some(bracketed) => IpAddr::V6(bracketed.strip_suffix(']')?.parse().ok()?),
        None => address.parse().ok()?,
    };
    valid_port.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn source(headers: &[(&str, &str)]) -> String {
        let proxy = TrustedProxy::CloudFront(SECRET.into());
        let mut request = Request::default();
        for (name, value) in headers {
            let name: lambda_http::http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request.extensions_mut().insert(Gateway {
            source_address: Some("192.0.2.1".parse().unwrap()),
            ..Gateway::default()
        });
        resolve_source_address(&proxy, &mut request);
        Gateway::of(&request).source_address.unwrap().to_string()
    }

    #[test]
    fn a_viewer_address_is_trusted_from_the_distribution_only() {
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
    fn a_viewer_address_is_of_either_kind_with_a_port() {
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
}
