//! From a gateway's event to a request, and from a response to what the gateway takes as its answer. Whatever an event
//! holds becomes a request: nothing here panics, and there is no error.
//!
//! Both payload formats (2.0 of an HTTP API, 1.0 of a REST API) are read by the same rules: a member is looked for under
//! each of its names, one of another type counts as absent, and what no function reads (the query string, cookies, the
//! forwarded protocol) is not looked at. The conversion of `lambda_http` puts these into a URL, and panics where they
//! make none.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambda_http::http::uri::PathAndQuery;
use lambda_http::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use lambda_http::{Body, Request, Response};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use serde_json::value::RawValue;

/// What the gateway says of a request, besides the request itself: an extension of the request. A client chooses nothing
/// of it but the values of path parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// The gateway's id of the request: visible ASCII.
    pub request_id: Option<String>,
    /// Where the request comes from.
    pub source_address: Option<IpAddr>,
    /// The route that the gateway chose, as it is configured: `DELETE /auth/sessions/{session_id}`.
    pub route: Option<String>,
    /// The host name at which the gateway was reached.
    pub domain_name: Option<String>,
    /// Names and values of the parameters in the route's path.
    pub path_parameters: Vec<(String, String)>,
    /// What the gateway's authorizer said of the caller, as names and values; nothing where it has none.
    pub authorizer: Vec<(String, String)>,
    /// The event was no JSON object, so there is no request in it.
    pub unreadable: bool,
}

impl Gateway {
    /// What the gateway says of `request`; nothing where no gateway was involved.
    #[must_use]
    pub fn of(request: &Request) -> &Self {
        static NOTHING: Gateway = Gateway {
            request_id: None,
            source_address: None,
            route: None,
            domain_name: None,
            path_parameters: Vec::new(),
            authorizer: Vec::new(),
            unreadable: false,
        };
        request.extensions().get().unwrap_or(&NOTHING)
    }
}

/// An event as it arrives.
#[derive(Debug)]
pub struct Event(Option<Box<RawValue>>);

impl<'de> Deserialize<'de> for Event {
    /// Never an error: the runtime would answer with one of its own.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::deserialize(deserializer).ok()))
    }
}

impl Event {
    /// As it arrived; empty where it was no JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.as_deref().map_or("", RawValue::get)
    }
}

impl From<Event> for Request {
    fn from(event: Event) -> Self {
        request(event.json())
    }
}

/// The request that the event in `json` tells of.
#[must_use]
pub fn request(json: &str) -> Request {
    let mut event = Parts::default();
    event.read(json);
    let mut request = Request::new(body(event.body, event.is_base64));
    *request.method_mut() = event
        .method
        .and_then(|method| Method::from_bytes(&method).ok())
        .unwrap_or_default();
    *request.uri_mut() = uri(event.raw_path, event.path, event.stage.as_deref());
    *request.headers_mut() = headers(event.headers, event.multi_value_headers);
    let gateway = Gateway {
        request_id: event
            .request_id
            .and_then(string)
            .filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic())),
        source_address: event
            .source_ip
            .and_then(string)
            .and_then(|address| address.parse().ok()),
        route: event.route_key.and_then(string).or_else(|| {
            // Payload 1.0 has it in two parts.
            let resource = event.resource.and_then(string)?;
            Some(format!("{} {resource}", request.method()))
        }),
        domain_name: event.domain_name.and_then(string),
        path_parameters: event
            .path_parameters
            .map(members)
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((string(name)?, string(text(value)?)?)))
            .collect(),
        authorizer: event.authorizer.map(authorizer_context).unwrap_or_default(),
        unreadable: !json.starts_with('{'),
    };
    request.extensions_mut().insert(gateway);
    request
}

/// A string of the event. What a client sends need not be UTF-8, and JSON may have half a character (`"\ud800"`).
pub type Text<'a> = Cow<'a, [u8]>;

/// The members of an event that are of use, each as it stands in the JSON text where it is no string.
#[derive(Default)]
struct Parts<'a> {
    headers: Option<&'a str>,
    multi_value_headers: Option<&'a str>,
    body: Option<&'a str>,
    is_base64: bool,
    method: Option<Text<'a>>,
    raw_path: Option<Text<'a>>,
    path: Option<Text<'a>>,
    path_parameters: Option<&'a str>,
    route_key: Option<Text<'a>>,
    resource: Option<Text<'a>>,
    stage: Option<Text<'a>>,
    domain_name: Option<Text<'a>>,
    request_id: Option<Text<'a>>,
    source_ip: Option<Text<'a>>,
    authorizer: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn read(&mut self, event: &'a str) {
        for (name, value) in members(event) {
            match &*name {
                b"headers" => self.headers = Some(value),
                b"multiValueHeaders" => self.multi_value_headers = Some(value),
                b"body" => self.body = Some(value),
                b"isBase64Encoded" => self.is_base64 = value == "true",
                b"httpMethod" => self.method = text(value),
                b"rawPath" => self.raw_path = text(value),
                b"path" => self.path = text(value),
                b"pathParameters" => self.path_parameters = Some(value),
                b"routeKey" => self.route_key = text(value),
                b"resource" => self.resource = text(value),
                b"requestContext" => self.read_context(value),
                _ => {}
            }
        }
    }

    fn read_context(&mut self, context: &'a str) {
        for (name, value) in members(context) {
            match &*name {
                b"stage" => self.stage = text(value),
                b"domainName" => self.domain_name = text(value),
                b"requestId" => self.request_id = text(value),
                b"authorizer" => self.authorizer = Some(value),
                // The one is of payload 2.0, the other of 1.0.
                b"http" | b"identity" => {
                    for (name, value) in members(value) {
                        match &*name {
                            b"method" => self.method = text(value),
                            b"sourceIp" => self.source_ip = text(value),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// The strings of a Lambda authorizer's context. An HTTP API has them one level deeper than a REST API.
fn authorizer_context(json: &str) -> Vec<(String, String)> {
    let context = members(json);
    let lambda = context.iter().find(|(name, _)| &**name == b"lambda");
    let context = lambda.map_or(context.clone(), |(_, lambda)| members(lambda));
    context
        .into_iter()
        .filter_map(|(name, value)| Some((string(name)?, string(text(value)?)?)))
        .collect()
}

/// The members of a JSON object, the values as they stand in the text. Anything else has none.
#[must_use]
pub fn members(json: &str) -> Vec<(Text<'_>, &str)> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Text<'de>, &'de str)>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::with_capacity(16);
            while let Some((Name(name), value)) = map.next_entry::<Name, &RawValue>()? {
                members.push((name, value.get()));
            }
            Ok(members)
        }
    }

    struct Name<'a>(Text<'a>);

    impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_bytes(TextVisitor).map(Self)
        }
    }

    serde_json::Deserializer::from_str(json)
        .deserialize_map(Members)
        .unwrap_or_default()
}

/// The string that is all of `json`; it need not be UTF-8.
#[must_use]
pub fn text(json: &str) -> Option<Text<'_>> {
    serde_json::Deserializer::from_str(json)
        .deserialize_bytes(TextVisitor)
        .ok()
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, text: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

fn string(text: Text) -> Option<String> {
    String::from_utf8(text.into_owned()).ok()
}

/// A path that is none of a URL's becomes one that no route has.
fn uri(raw_path: Option<Text>, path: Option<Text>, stage: Option<&[u8]>) -> Uri {
    let path = match raw_path {
        // Payload 2.0 starts it with the stage, unless that is the default one.
        Some(raw_path) => stage
            .and_then(|stage| raw_path.strip_prefix(b"/")?.strip_prefix(stage))
            .filter(|path| path.starts_with(b"/"))
            .map_or(raw_path.clone(), |path| Cow::Owned(path.to_owned())),
        None => path.unwrap_or_default(),
    };
    path.starts_with(b"/")
        .then(|| PathAndQuery::try_from(&*path).ok())
        .flatten()
        .map_or_else(|| Uri::from_static("*"), Uri::from)
}

/// Every header of the event. A REST API lists them all, and the last one of each name a second time by itself.
fn headers(single: Option<&str>, listed: Option<&str>) -> HeaderMap {
    let single = single.map(header_map).unwrap_or_default();
    let mut headers = listed.map(header_map).unwrap_or_default();
    if headers.is_empty() {
        return single;
    }
    let unlisted: Vec<_> = single
        .iter()
        .filter(|(name, _)| !headers.contains_key(*name))
        .collect();
    for (name, value) in unlisted {
        // An error is a number of headers that no gateway lets pass.
        let _ = headers.try_append(name, value.clone());
    }
    headers
}

/// Headers with one value each, or with a list of them.
fn header_map(json: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in members(json) {
        // No header that is looked for has a name that cannot be one.
        let Ok(name) = HeaderName::from_bytes(&name) else {
            continue;
        };
        match serde_json::from_str::<Vec<&RawValue>>(value) {
            Ok(values) => {
                for value in values {
                    add_header(&mut headers, name.clone(), value.get());
                }
            }
            Err(_) => add_header(&mut headers, name, value),
        }
    }
    headers
}

/// Adds a header with the string in `json`. One whose value cannot be a header's counts as sent, so that a second credential
/// does not go unnoticed, and as unreadable.
pub fn add_header(headers: &mut HeaderMap, name: HeaderName, json: &str) {
    let value = text(json).and_then(|text| HeaderValue::from_bytes(&text).ok());
    let unreadable = || HeaderValue::from_bytes(b"\xff").ok();
    if json != "null"
        && let Some(value) = value.or_else(unreadable)
    {
        let _ = headers.try_append(name, value);
    }
}

/// A body that cannot be decoded is malformed as JSON and as a form.
fn body(json: Option<&str>, is_base64: bool) -> Body {
    let malformed = || Body::Binary(vec![0xff]);
    let Some(json) = json.filter(|json| *json != "null") else {
        return Body::Empty;
    };
    match text(json) {
        Some(encoded) if is_base64 => STANDARD
            .decode(encoded)
            .map_or_else(|_| malformed(), Body::Binary),
        Some(text) => String::from_utf8(text.into_owned())
            .map_or_else(|error| Body::Binary(error.into_bytes()), Body::Text),
        None => malformed(),
    }
}

/// A response as both gateways take it, for either payload format.
#[derive(Debug)]
pub struct Answer(pub Response<Body>);

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let response = &self.0;
        let mut answer = serializer.serialize_struct("Answer", 4)?;
        answer.serialize_field("statusCode", &response.status().as_u16())?;
        answer.serialize_field("headers", &Headers(response.headers()))?;
        answer.serialize_field("body", response.body())?;
        answer.serialize_field("isBase64Encoded", &matches!(response.body(), Body::Binary(_)))?;
        answer.end()
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A name occurs once; of one that did not, the values would make one list (RFC 9110 §5.3).
        serializer.collect_map(self.0.keys().map(|name| {
            let values = self.0.get_all(name).iter();
            let values: Vec<_> = values
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect();
            (name.as_str(), values.join(", "))
        }))
    }
}
