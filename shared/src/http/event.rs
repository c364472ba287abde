//! Converts a gateway's event to a request, and a response to the form that the gateway expects. Every event becomes a
//! request: nothing here panics or returns an error.
//!
//! Both payload formats (2.0 of an HTTP API, 1.0 of a REST API) are read by the same rules: a member is looked up under
//! each of its names, a member of the wrong type counts as absent, and what no function needs (query string, cookies,
//! forwarded protocol) is ignored. The conversion in `lambda_http` builds a URL from these, and panics if it is
//! invalid.

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

/// The gateway's metadata of a request, an extension of the request. A client controls none of it except the values of
/// path parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// The gateway's request id, in visible ASCII.
    pub request_id: Option<String>,
    /// The source address of the request.
    pub source_address: Option<IpAddr>,
    /// The route that the gateway matched, as configured: `DELETE /auth/sessions/{session_id}`.
    pub route: Option<String>,
    /// The host name under which the gateway was called.
    pub domain_name: Option<String>,
    /// Names and values of the path parameters.
    pub path_parameters: Vec<(String, String)>,
    /// What the gateway's Lambda authorizer says of the caller, as names and values; empty without one.
    pub authorizer: Vec<(String, String)>,
    /// The event was not a JSON object, so it contains no request.
    pub unreadable: bool,
}

impl Gateway {
    /// The metadata of `request`; empty if it did not come through a gateway.
    #[must_use]
    pub fn of(request: &Request) -> &Self {
        static NONE: Gateway = Gateway {
            request_id: None,
            source_address: None,
            route: None,
            domain_name: None,
            path_parameters: Vec::new(),
            authorizer: Vec::new(),
            unreadable: false,
        };
        request.extensions().get().unwrap_or(&NONE)
    }
}

/// An event as it arrives.
#[derive(Debug)]
pub struct Event(Option<Box<RawValue>>);

impl<'de> Deserialize<'de> for Event {
    /// Never fails: the runtime would respond with an error of its own.
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

/// The request in the event `json`.
#[must_use]
pub fn request(json: &str) -> Request {
    request_of(&members(json), !json.starts_with('{'))
}

/// The request in an event with these members; `unreadable` as in [`Gateway`].
#[must_use]
pub fn request_of(members: &[(Text, &str)], unreadable: bool) -> Request {
    let mut event = Parts::default();
    event.read(members);
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
            // In payload 1.0 it is in two parts.
            let resource = event.resource.and_then(string)?;
            Some(format!("{} {resource}", request.method()))
        }),
        domain_name: event.domain_name.and_then(string),
        path_parameters: event.path_parameters.map(strings).unwrap_or_default(),
        authorizer: event.authorizer.map(authorizer_context).unwrap_or_default(),
        unreadable,
    };
    request.extensions_mut().insert(gateway);
    request
}

/// A string in the event, as bytes: a client may send invalid UTF-8, or an unpaired surrogate (`"\ud800"`) in JSON.
pub type Text<'a> = Cow<'a, [u8]>;

/// The members of an event that we use. Those that are not strings are kept as JSON text.
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
    fn read(&mut self, event: &[(Text<'a>, &'a str)]) {
        for &(ref name, value) in event {
            match &**name {
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
                // Payload 2.0 and 1.0, respectively.
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

/// The strings in the context of a Lambda authorizer. An HTTP API nests them one level deeper than a REST API.
fn authorizer_context(json: &str) -> Vec<(String, String)> {
    let lambda = members(json).into_iter().find(|(name, _)| &**name == b"lambda");
    strings(lambda.map_or(json, |(_, lambda)| lambda))
}

/// Those members of a JSON object that are strings.
fn strings(json: &str) -> Vec<(String, String)> {
    members(json)
        .into_iter()
        .filter_map(|(name, value)| Some((string(name)?, string(text(value)?)?)))
        .collect()
}

/// The members of a JSON object, with the values as JSON text; empty for anything else.
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

/// `json` as a string, if it is one.
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

/// The path. An invalid one becomes `*`, which no route has.
fn uri(raw_path: Option<Text>, path: Option<Text>, stage: Option<&[u8]>) -> Uri {
    let path = match raw_path {
        // In payload 2.0 it begins with the stage, unless that is the default stage.
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

/// All headers of the event. A REST API sends lists of all values, and separately the last value of each name.
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
        // Fails only for more headers than any gateway accepts.
        let _ = headers.try_append(name, value.clone());
    }
    headers
}

/// Headers with one value or a list of values each.
fn header_map(json: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in members(json) {
        // A header whose name is invalid is none that we read.
        let Ok(name) = HeaderName::from_bytes(&name) else {
            continue;
        };
        if !value.starts_with('[') {
            add_header(&mut headers, name, value);
            continue;
        }
        for value in serde_json::from_str::<Vec<&RawValue>>(value).unwrap_or_default() {
            add_header(&mut headers, name.clone(), value.get());
        }
    }
    headers
}

/// Adds a header with the string in `json`. One with an invalid value is added as unreadable, so that a second
/// credential does not go unnoticed.
pub fn add_header(headers: &mut HeaderMap, name: HeaderName, json: &str) {
    let value = text(json).and_then(|text| HeaderValue::from_bytes(&text).ok());
    let unreadable = || HeaderValue::from_bytes(b"\xff").ok();
    if json != "null"
        && let Some(value) = value.or_else(unreadable)
    {
        let _ = headers.try_append(name, value);
    }
}

/// The body. One that cannot be decoded becomes bytes that are neither valid JSON nor a valid form.
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

/// A response in the form that both gateways expect, for either payload format.
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
        // Names are unique here; multiple values would be joined to one list (RFC 9110 §5.3).
        serializer.collect_map(self.0.keys().map(|name| {
            let values = self.0.get_all(name).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
            (name.as_str(), values.reduce(|list, value| list + ", " + value))
        }))
    }
}
