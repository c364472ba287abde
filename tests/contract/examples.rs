//! Requests from the examples in the OpenAPI description, so that a new route is tested without being named.

use axum::body::Body;
use axum::http::{Method, Request};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use shared::http::Served;

use crate::harness::{PASSWORD, Reply, Service, request};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// The OpenAPI description.
pub fn description() -> Value {
    serde_json::from_str(functions::docs::OPENAPI).expect("JSON")
}

/// The members of a request body with their examples; none if the route takes no body.
pub fn body_of(method: &str, path: &str) -> Map<String, Value> {
    let description = description();
    let operation = &description["paths"][path][method.to_lowercase()];
    let content = operation["requestBody"]["content"].as_object();
    let Some((_, content)) = content.and_then(|content| content.iter().next()) else {
        return Map::new();
    };
    let schema = match content["schema"]["$ref"].as_str() {
        Some(reference) => description.pointer(&reference[1..]).expect(reference),
        None => &content["schema"],
    };
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .filter_map(|(name, member)| Some((name.clone(), member.get("example")?.clone())))
        .collect()
}

/// A body for the route and its content type; empty if it takes none.
pub fn encoded_body_of(route: &dyn Served) -> (&'static str, String) {
    let members = body_of(route.method(), route.path());
    if route.path() == "/auth/token" {
        let pairs = members
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().expect("text").replace(' ', "+")));
        (FORM, pairs.collect::<Vec<_>>().join("&"))
    } else if members.is_empty() {
        (JSON, String::new())
    } else {
        (JSON, Value::from(members).to_string())
    }
}

/// The id of the session of a token.
pub fn session_id(token: &str) -> String {
    let claims = token.split('.').nth(1).expect("a JWT");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    claims["jti"].as_str().expect("a string").to_owned()
}

/// The path, with the id of the token's session if it has that parameter.
pub fn path_of(route: &dyn Served, token: &str) -> String {
    if route.path().contains('{') {
        route.path().replace("{session_id}", &session_id(token))
    } else {
        route.path().to_owned()
    }
}

/// An authenticated request; the user in the examples is "alice".
pub fn request_of(route: &dyn Served, token: &str) -> Request<Body> {
    let (content_type, body) = encoded_body_of(route);
    let authorization = format!("Bearer {token}");
    let headers = [("content-type", content_type), ("authorization", &*authorization)];
    let method = Method::from_bytes(route.method().as_bytes()).expect("a method");
    request(method, &path_of(route, token), &headers, body)
}

impl Service {
    /// The documented request of a route, with a link that is valid for "alice" if it takes one.
    pub async fn valid_example(&self, route: &dyn Served, token: &str) -> Request<Body> {
        match route.path() {
            "/auth/reset" => {
                let address = "UPDATE people.\"user\" SET email = 'alice@example.com'";
                self.database.execute(address).await;
                self.forgot("alice").await
            }
            "/auth/email/confirm" => self.change_email(token, "alice@example.org", PASSWORD).await,
            _ => return request_of(route, token),
        };
        let mut members = body_of(route.method(), route.path());
        members.insert("token".to_owned(), self.mailed_token().await.into());
        let json = [("content-type", JSON)];
        request(
            Method::POST,
            route.path(),
            &json,
            Value::from(members).to_string(),
        )
    }

    /// Sends the documented request of a route.
    pub async fn send_example(&self, route: &dyn Served, token: &str) -> Reply {
        self.send(request_of(route, token)).await
    }
}
