//! Properties: any input gets a documented response.

use std::future::Future;

use axum::http::{HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use shared::http::body::form_parameters;
use shared::password_policy::PasswordPolicy;
use shared::users::UserId;
use tokio::runtime::Runtime;

use crate::harness::{PASSWORD, Reply, Service, request};

/// Fast hashes, and no limits, which would soon reject everything.
pub const SETTINGS: [(&str, &str); 4] = [
    ("ARGON2_MEMORY_KIB", "64"),
    ("ARGON2_ITERATIONS", "1"),
    ("FAILURES_PER_ADDRESS", "0"),
    ("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "0"),
];

pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

/// Runs `test` for `cases` values of `strategy` on one service.
pub fn holds_for<S: Strategy, F: Future<Output = Result<(), TestCaseError>>>(
    cases: u32,
    strategy: &S,
    test: impl Fn(Service, S::Value) -> F,
) {
    let runtime = Runtime::new().expect("a runtime");
    let service = runtime.block_on(Service::start_with(&SETTINGS));
    runner(cases)
        .run(strategy, |value| runtime.block_on(test(service.clone(), value)))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// One that a client can cause.
pub fn is_a_row(reply: &Reply) -> Result<(), TestCaseError> {
    let body = reply.json();
    let members = body.as_object().expect("an object");
    // The OAuth2 form of login.
    if members.contains_key("access_token") && reply.status == 200 {
        reply.assert_common_headers();
        prop_assert_eq!(members.len(), 3);
        return Ok(());
    }
    if members.contains_key("error") {
        prop_assert_eq!(reply.status.as_u16(), 400);
        reply.assert_common_headers();
        prop_assert_eq!(members.len(), 2);
        return Ok(());
    }
    let (code, data) = (body["code"].as_u64().expect("a code"), &body["data"]);
    reply.assert_row(code.try_into().expect("a code"), data);
    match code {
        1 => {}
        42201 => prop_assert!(!data["errors"].as_array().expect("errors").is_empty()),
        42901 => prop_assert!(data["retry_after"].is_u64()),
        _ => prop_assert!(data.is_null() && code < 50000, "{}", reply.text),
    }
    Ok(())
}

fn endpoints() -> impl Strategy<Value = (Method, &'static str)> {
    prop::sample::select(vec![
        (Method::POST, "/user/register"),
        (Method::POST, "/auth/login"),
        (Method::POST, "/auth/token"),
        (Method::POST, "/auth/logout"),
        (Method::GET, "/auth/me"),
        (Method::GET, "/health"),
    ])
}

/// Bytes that are valid in a header.
fn header_value() -> impl Strategy<Value = HeaderValue> {
    let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80_u8..];
    vec(byte, 0..100).prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("a value"))
}

fn content_type() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![
        4 => Just(HeaderValue::from_static("application/json")),
        2 => Just(HeaderValue::from_static("application/x-www-form-urlencoded")),
        1 => header_value(),
    ]
}

/// Text of printable ASCII, of any characters and of some that are special.
pub fn text() -> impl Strategy<Value = String> {
    const SPECIAL: [char; 9] = [
        '\0', '\u{202e}', '\u{301}', 'İ', 'ﬁ', '\u{fdfa}', '\u{e000}', '"', '\\',
    ];
    // One number per character, since a strategy for each would take most of the time.
    vec(any::<u32>(), 0..80).prop_map(|numbers| {
        let character = |number: u32| match number % 3 {
            0 => SPECIAL.get(number as usize / 3 % SPECIAL.len()).copied(),
            1 => char::from_u32(u32::from(b' ') + number / 3 % 95),
            _ => char::from_u32(number / 3 % 0x11_0000),
        };
        numbers
            .into_iter()
            .map(|number| character(number).unwrap_or('\u{fffd}'))
            .collect()
    })
}

pub fn member() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => text().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object with some of the known members.
fn object() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "userid",
        "password",
        "user_name",
        "country",
        "job",
        "phone",
        "email",
        "init_cn_level",
        "ignored",
    ]);
    prop::collection::btree_map(name, member(), 0..9)
        .prop_map(|members| json!(members).to_string().into_bytes())
}

fn form() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec!["username", "password", "grant_type", "scope", ""]);
    let value = prop_oneof!["[a-z%+=0-9]{0,12}", text(), Just("password".to_owned())];
    vec((name, value), 0..5).prop_map(|pairs| {
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&")
            .into_bytes()
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..200),
        object(),
        form(),
        // An object with one byte changed.
        (object(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut body, index, byte)| {
            let at = index.index(body.len());
            body[at] = byte;
            body
        }),
        // Around the limit.
        (16_300_usize..16_500).prop_map(|length| vec![b' '; length]),
    ]
}

#[test]
fn any_body_with_any_content_type_gets_a_documented_response() {
    let input = (endpoints(), content_type(), body());
    holds_for(
        250,
        &input,
        |service, ((method, path), content_type, body)| async move {
            let mut request = request(method, path, &[], body);
            request.headers_mut().insert("content-type", content_type);
            is_a_row(&service.send(request).await)
        },
    );
}

#[test]
fn any_authorization_header_gets_a_documented_response() {
    let token = "[A-Za-z0-9_=~+/-]{0,20}(\\.[A-Za-z0-9_-]{0,20}){0,4}";
    let value = prop_oneof![
        header_value(),
        token.prop_map(|token| HeaderValue::from_str(&format!("Bearer {token}")).expect("a value")),
        header_value().prop_map(|value| {
            HeaderValue::from_bytes(&[b"Bearer ", value.as_bytes()].concat()).expect("a value")
        }),
    ];
    let input = (endpoints(), vec(value, 0..3));
    holds_for(300, &input, |service, ((method, path), values)| async move {
        let mut request = request(method, path, &[], "");
        for value in values {
            request.headers_mut().append("authorization", value);
        }
        let reply = service.send(request).await;
        let protected = matches!(path, "/auth/me" | "/auth/logout");
        prop_assert!(!protected || reply.status == 401, "{}", reply.text);
        is_a_row(&reply)
    });
}

#[test]
fn a_header_that_looks_like_json_is_not_a_token() {
    let input = (object(), object(), vec(any::<u8>(), 0..40));
    holds_for(40, &input, |service, (header, claims, signature)| async move {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let token = format!("{}.{}.{}", encode(&header), encode(&claims), encode(&signature));
        let reply = service.get("/auth/me", &token).await;
        prop_assert_eq!(&reply.json()["code"], 40103);
        is_a_row(&reply)
    });
}

#[test]
fn any_path_and_method_gets_a_documented_response() {
    let path = "/[a-zA-Z0-9/._~!$&'()*+,;=:@%-]{0,30}(\\?[a-z=&%+]{0,20})?";
    let method = "[A-Za-z!#$%&'*+.^_`|~-]{1,12}";
    holds_for(200, &(method, path), |service, (method, path)| async move {
        let method = Method::from_bytes(method.as_bytes()).expect("a token");
        // These have no body to check.
        prop_assume!(method != Method::HEAD && method != Method::OPTIONS);
        is_a_row(&service.send(request(method, &path, &[], "")).await)
    });
}

#[test]
fn the_canonical_form_of_a_userid_is_its_own() {
    runner(500)
        .run(&text(), |typed| {
            let once = UserId::canonical(&typed);
            prop_assert_eq!(&UserId::canonical(once.as_str()), &once);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_canonical_form_of_every_single_character_is_its_own() {
    for c in '\0'..=char::MAX {
        // Whole planes of unassigned and private characters that fold to themselves.
        if ('\u{32400}'..'\u{e0000}').contains(&c) || c > '\u{e0fff}' {
            continue;
        }
        let once = UserId::canonical(c.encode_utf8(&mut [0; 4]));
        assert_eq!(UserId::canonical(once.as_str()), once, "{}", c.escape_unicode());
    }
}

#[test]
fn the_canonical_form_of_every_letter_with_an_accent_is_its_own() {
    // Some, such as J with a caron, are a single character only in lower case.
    for letter in ('A'..='Z').chain('Α'..='Ω').chain('А'..='Я') {
        for accent in '\u{300}'..='\u{36f}' {
            let once = UserId::canonical(&format!("{letter}{accent}"));
            assert_eq!(UserId::canonical(once.as_str()), once, "{letter}{accent}");
        }
    }
}

#[test]
fn a_userid_that_registers_logs_in_again_and_in_its_canonical_form() {
    let userid = prop_oneof![
        "[A-Za-z0-9._@-]{1,64}",
        "\\PC{1,64}",
        "\\p{L}{1,32}",
        "[ßẞİıſKÅΣσςǅﬁ①Ａａé\u{301}\u{308}]{1,20}",
    ];
    holds_for(150, &userid, |service, userid| async move {
        let reply = service.register(&userid).await;
        is_a_row(&reply)?;
        // Refused, or taken by an earlier case.
        prop_assume!(reply.status == 200);
        let info = &reply.json()["data"]["user_info"];
        let canonical = info["userid"].as_str().expect("a userid");
        for spelling in [&*userid, canonical, &userid.to_lowercase()] {
            let login = service.log_in(spelling, PASSWORD).await;
            prop_assert_eq!(login.status.as_u16(), 200, "{:?}", spelling);
            prop_assert_eq!(&login.json()["data"]["user_info"], info);
        }
        let again = service.register(canonical).await;
        prop_assert_eq!(again.status.as_u16(), 409);
        Ok(())
    });
}

#[test]
fn a_password_that_registers_logs_in_and_one_more_character_does_not() {
    let password = prop_oneof![
        text(),
        (text(), text()).prop_map(|(one, two)| one + &two),
        "\\PC{8,64}",
        "[ -~]{8,128}",
        "(e\u{301}|o\u{308}|\u{1100}\u{1161}|[a-z]){8,64}",
    ];
    let input = ("[a-z]{1,8}[0-9]{6}", password);
    holds_for(120, &input, |service, (userid, password)| async move {
        let body = json!({ "userid": userid, "password": password });
        let reply = service.post("/user/register", &body).await;
        is_a_row(&reply)?;
        prop_assume!(reply.status == 200);
        let login = service.log_in(&userid, &password).await;
        prop_assert_eq!(login.status.as_u16(), 200);
        let longer = service.log_in(&userid, &format!("{password}x")).await;
        prop_assert_eq!(longer.status.as_u16(), 401);
        Ok(())
    });
}

#[test]
fn a_form_has_the_same_result_as_json() {
    let input = ("[a-z]{1,8}[0-9]{6}", "[ -~äж龍🦀]{8,40}");
    holds_for(60, &input, |service, (userid, password)| async move {
        let body = json!({ "userid": userid, "password": password });
        prop_assume!(service.post("/user/register", &body).await.status == 200);
        let encoded = password
            .bytes()
            .fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"));
        let reply = service
            .post_form(&format!("username={userid}&password={encoded}"))
            .await;
        is_a_row(&reply)?;
        prop_assert_eq!(reply.status.as_u16(), 200);
        Ok(())
    });
}

#[test]
fn any_bytes_are_read_as_a_form_without_a_panic() {
    let bytes = prop_oneof![
        vec(any::<u8>(), 0..300),
        form(),
        "[%&=+a-f0-9]{0,60}".prop_map(String::into_bytes)
    ];
    runner(500)
        .run(&bytes, |bytes| {
            if let Ok(parameters) = form_parameters(&bytes) {
                prop_assert!(parameters.values().all(|value| !value.is_empty()));
            } else if let Ok(text) = std::str::from_utf8(&bytes) {
                // Only an escape or a second parameter can be wrong in a form that is UTF-8.
                prop_assert!(text.contains('%') || text.contains('&'), "{}", text);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn any_password_is_checked_without_a_panic() {
    let policy = PasswordPolicy::new(8, &["people".to_owned()]);
    runner(200)
        .run(
            &(text(), text(), text(), text()),
            |(password, userid, name, email)| {
                let context = [userid.as_str(), &name, &email].map(Some);
                if policy.check(&password, &context).is_ok() {
                    prop_assert!(!password.contains('\0'));
                    prop_assert!(password.chars().count() >= 8);
                }
                Ok(())
            },
        )
        .unwrap_or_else(|error| panic!("{error}"));
}
