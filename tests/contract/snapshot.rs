//! Comparison of whole responses: with an inline snapshot, or with an entry in the table of codes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::Reply;

/// Compares a whole [`Reply`] with a snapshot: status, body, and headers that are not common to all responses. Values
/// that differ between runs are replaced by their kind, if they have the expected form.
///
/// `cargo insta test --workspace --accept --test contract -- NAME` updates snapshots.
macro_rules! assert_reply {
    ($reply:expr, @$snapshot:literal) => {{
        let reply: &$crate::harness::Reply = &$reply;
        // One line of a test may compare several responses.
        insta::allow_duplicates!(insta::assert_snapshot!($crate::snapshot::Whole::of(reply), @$snapshot));
    }};
}
pub(crate) use assert_reply;

/// Headers that every answer has (section 1 of the contract), besides the request's id.
const COMMON_HEADERS: [(&str, &str); 6] = [
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("strict-transport-security", "max-age=63072000; includeSubDomains"),
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'",
    ),
    ("referrer-policy", "no-referrer"),
];

/// Headers that `local` adds instead of the gateway, for any origin.
const CORS_HEADERS: [(&str, &str); 2] = [
    ("vary", "origin"),
    (
        "access-control-expose-headers",
        "retry-after,www-authenticate,x-request-id",
    ),
];

/// What says nothing about the answer itself: the first depends on the request's origin, and has its own tests; others
/// are the HTTP library's.
const ELSEWHERE: [&str; 5] = [
    "access-control-allow-origin",
    "connection",
    "content-length",
    "date",
    "x-request-id",
];

/// The table of section 1 of the contract: code and message.
const ROWS: [(u16, &str); 18] = [
    (1, "success"),
    (40001, "The body is not one well-formed JSON object."),
    (40101, "The userid or the password is wrong."),
    (40102, "A bearer token is required."),
    (40103, "The bearer token is not valid or no longer valid."),
    (40301, "The account's password is wrong."),
    (40302, "The account is disabled."),
    (40401, "There is no such path."),
    (40402, "There is no such session."),
    (40501, "The path has no such method."),
    (40901, "The userid is taken."),
    (41001, "The link is not valid or no longer valid."),
    (41301, "The body is larger than 16 KiB."),
    (41501, "The content type is not supported."),
    (42201, "At least one field was refused."),
    (42901, "There were too many attempts."),
    (50001, "An internal error occurred."),
    (50301, "The service is temporarily unavailable."),
];

/// A response in the form that is compared.
#[derive(Debug, PartialEq)]
pub struct Whole<'a> {
    status: u16,
    body: &'a str,
    /// Those that not every answer has.
    pub headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Whole<'a> {
    /// Asserts the headers of every response.
    #[track_caller]
    pub fn of(reply: &'a Reply) -> Self {
        reply.assert_common_headers();
        let mut headers: Vec<_> = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .filter(|header| !COMMON_HEADERS.contains(header) && !CORS_HEADERS.contains(header))
            .filter(|(name, _)| !ELSEWHERE.contains(name))
            .collect();
        headers.sort_unstable();
        Self {
            status: reply.status.as_u16(),
            body: &reply.text,
            headers,
        }
    }
}

impl fmt::Display for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&wrapped(format!("{} ", self.status), self.body))?;
        self.headers
            .iter()
            .try_for_each(|(name, value)| write!(f, "\n{name}: {value}"))
    }
}

/// JSON after `line`, in lines of at most 100 columns.
pub fn wrapped(mut line: String, json: &str) -> String {
    // Ids, times and tokens contain no quotes.
    let redacted: Vec<_> = json.split('"').map(redacted).collect();
    let members = redacted.join("\"").replace(",\"", ",\n\"").replace(",{", ",\n{");
    let mut lines = String::new();
    for member in members.lines() {
        if line.len() + member.len() > 100 {
            lines += &line;
            "\n  ".clone_into(&mut line);
        }
        line += member;
    }
    lines + &line
}

/// Replaces random ids, times of this run and tokens by their kind.
fn redacted(text: &str) -> &str {
    let part = |part: &str| !part.is_empty() && URL_SAFE_NO_PAD.decode(part).is_ok();
    if Uuid::parse_str(text).is_ok_and(|id| id.get_version_num() == 4) {
        "[uuid]"
    } else if text.ends_with('Z')
        && DateTime::parse_from_rfc3339(text).is_ok_and(|time| is_of_this_run(time.to_utc()))
    {
        "[now]"
    } else if text.split('.').count() == 3 && text.split('.').all(part) {
        "[token]"
    } else {
        text
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what the database's clock says is compared with this one's"
)]
fn is_of_this_run(time: DateTime<Utc>) -> bool {
    (Utc::now() - time).abs() < TimeDelta::days(1)
}

impl Reply {
    /// Asserts that this is exactly the error with this code.
    #[track_caller]
    pub fn assert_error(&self, code: u16) {
        self.assert_row(code, &Value::Null);
    }

    /// Asserts that this is exactly a success with this data.
    #[track_caller]
    pub fn assert_success(&self, data: &Value) {
        self.assert_row(1, data);
    }

    /// Asserts that this is a 42201 with exactly these fields and reasons.
    #[track_caller]
    pub fn assert_refused(&self, fields: &[(&str, &str)]) {
        let errors: Vec<Value> = fields
            .iter()
            .map(|(field, message)| json!({ "field": field, "message": message }))
            .collect();
        self.assert_row(42201, &json!({ "errors": errors }));
    }

    /// Asserts that this is a 42901 with this number of seconds.
    #[track_caller]
    pub fn assert_too_many(&self, retry_after: u32) {
        assert_eq!(self.header("retry-after"), Some(&*retry_after.to_string()));
        self.assert_row(42901, &json!({ "retry_after": retry_after }));
    }

    /// Asserts that this is, as a whole, that row of the table. What only some endpoints add (`pragma`, `allow`) is
    /// left to the test.
    #[track_caller]
    pub fn assert_row(&self, code: u16, data: &Value) {
        let row = ROWS.iter().find(|(row, _)| *row == code);
        let (_, message) = row.expect("a code of the contract");
        let status = if code == 1 { 200 } else { code / 100 };
        let body = json!({ "code": code, "message": message, "data": data });
        assert_eq!((self.status.as_u16(), self.json()), (status, body));
        let header = match code {
            40102 => Some(("www-authenticate", r#"Bearer realm="people""#)),
            40103 => Some((
                "www-authenticate",
                r#"Bearer realm="people", error="invalid_token""#,
            )),
            50301 => Some(("retry-after", "1")),
            _ => None,
        };
        let mut headers = Whole::of(self).headers;
        headers.retain(|(name, _)| match *name {
            "allow" => code != 40501,
            "retry-after" => code != 42901,
            name => name != "pragma",
        });
        assert_eq!(headers, header.as_slice());
    }

    /// Asserts the headers of section 1 of the contract, each once.
    #[track_caller]
    pub fn assert_common_headers(&self) {
        for (name, value) in COMMON_HEADERS {
            let values: Vec<_> = self.headers.get_all(name).iter().collect();
            assert_eq!(values, [value], "{name}");
        }
        let ids: Vec<_> = self.headers.get_all("x-request-id").iter().collect();
        assert!(matches!(ids[..], [id] if !id.is_empty()), "x-request-id: {ids:?}");
    }
}
