//! Bodies, JSON and forms: nothing panics, and accepted input is read the same way by other parsers.
#![no_main]

use std::collections::HashMap;

use lambda_http::{Body, http};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use shared::error::Error;
use shared::http::body::{Members, form_parameters};

/// Members to read, as a handler does, and whether they are required.
const FIELDS: [(&str, bool); 6] = [
    ("userid", true),
    ("password", true),
    ("user_name", false),
    ("country", false),
    ("email", false),
    ("a", false),
];

fuzz_target!(|bytes: &[u8]| {
    json(bytes);
    form(bytes);
});

/// Accepts exactly the objects that `serde_json` accepts and that have no repeated member, with the same values.
fn json(bytes: &[u8]) {
    let request = http::Request::post("/user/register")
        .header("content-type", "application/json")
        .body(Body::Binary(bytes.to_vec()))
        .expect("a request");
    let expected = match serde_json::from_slice::<Value>(bytes) {
        Ok(value @ Value::Object(_)) if count_members(&value) == count_colons(bytes) => Some(value),
        _ => None,
    };
    let mut members = match (Members::of_json(&request), &expected) {
        (Ok(members), Some(_)) => members,
        (Err(Error::MalformedBody), None) => return,
        (outcome, _) => panic!("{:?} where serde_json has {expected:?}", outcome.map(|_| ())),
    };
    let object = expected.expect("checked above");
    let mut refused = Vec::new();
    for (field, required) in FIELDS {
        let parse = |text: &str| Ok(text.to_owned());
        let taken = if required {
            members.required(field, parse)
        } else {
            members.optional(field, parse)
        };
        assert_eq!(taken.as_deref(), object.get(field).and_then(Value::as_str));
        let absent = object.get(field).is_none_or(Value::is_null);
        if taken.is_none() && (required || !absent) {
            refused.push(field);
        }
    }
    let named = match members.finish() {
        Ok(()) => Vec::new(),
        Err(Error::Refused(errors)) => errors.iter().map(|error| error.field).collect(),
        Err(error) => panic!("{error:?}"),
    };
    assert_eq!(named, refused);
}

/// Number of members at every depth; repeated ones count once.
fn count_members(value: &Value) -> usize {
    match value {
        Value::Array(elements) => elements.iter().map(count_members).sum(),
        Value::Object(members) => members.len() + members.values().map(count_members).sum::<usize>(),
        _ => 0,
    }
}

/// Number of members at every depth of well-formed JSON: the colons outside strings.
fn count_colons(json: &[u8]) -> usize {
    let (mut colons, mut in_string, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b':' if !in_string => colons += 1,
            _ => {}
        }
    }
    colons
}

/// An accepted form has no repeated parameter, and the same values as with the WHATWG's parser.
fn form(bytes: &[u8]) {
    let Ok(parameters) = form_parameters(bytes) else {
        return;
    };
    let pairs: Vec<(String, String)> = form_urlencoded::parse(bytes).into_owned().collect();
    let expected: HashMap<String, String> = pairs.iter().cloned().collect();
    assert_eq!(expected.len(), pairs.len(), "a repeated parameter");
    let expected: HashMap<String, String> = expected
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    assert_eq!(parameters, expected);
}
