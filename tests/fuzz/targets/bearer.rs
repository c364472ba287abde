//! The `Authorization` header: an accepted token is a b64token (RFC 6750 §2.1), and is the one in the only header.
#![no_main]

use lambda_http::http::header::AUTHORIZATION;
use lambda_http::http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use shared::auth::bearer;
use shared::error::Error;

// Header values, separated by line feeds, which a value cannot contain.
fuzz_target!(|bytes: &[u8]| {
    let values: Vec<HeaderValue> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|value| HeaderValue::from_bytes(value).ok())
        .collect();
    let mut headers = HeaderMap::new();
    for value in &values {
        headers.append(AUTHORIZATION, value.clone());
    }
    match (bearer(&headers), &*values) {
        (Ok(token), [value]) => {
            assert!(is_b64token(token), "not a b64token");
            let value = value.to_str().expect("visible ASCII");
            let (scheme, credentials) = value.split_at(6);
            assert!(scheme.eq_ignore_ascii_case("bearer"), "another scheme");
            assert_eq!(credentials.trim_matches(' '), token, "not the credentials");
        }
        (Err(Error::TokenNotLive { .. }), [_, ..]) | (Err(Error::NoCredentials), [] | [_]) => {}
        (outcome, values) => panic!("{outcome:?} of {} headers", values.len()),
    }
});

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(token: &str) -> bool {
    let token = token.trim_end_matches('=');
    !token.is_empty()
        && token
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/'))
}
