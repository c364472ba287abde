//! A gateway's event: any bytes become a request, without a panic or an error.
#![no_main]

use lambda_http::http::HeaderValue;
use lambda_http::{Body, Request};
use libfuzzer_sys::fuzz_target;
use shared::http::event::{Event, Gateway};

fuzz_target!(|bytes: &[u8]| {
    let mut events = serde_json::Deserializer::from_slice(bytes).into_iter::<Event>();
    let Some(event) = events.next() else { return };
    let request: Request = event.expect("never an error").into();
    let gateway = Gateway::of(&request);
    if let Some(id) = &gateway.request_id {
        assert!(
            HeaderValue::from_str(id).is_ok_and(|id| id.to_str().is_ok()),
            "no request id"
        );
    }
    let path = request.uri().path();
    assert!(path.starts_with('/') || path == "*", "no path");
    if gateway.unreadable {
        assert!(request.headers().is_empty(), "headers without an event");
        assert!(matches!(request.body(), Body::Empty), "a body without an event");
    }
});
