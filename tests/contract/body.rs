//! Request bodies: well-formed JSON objects, their size and content type.

use axum::http::{HeaderValue, Method};

use crate::harness::{Service, request};

const JSON: &str = "application/json";

/// The endpoints that accept JSON.
const PATHS: [&str; 2] = ["/user/register", "/auth/login"];

impl Service {
    /// Asserts that `body` is parsed: it is then rejected only because both fields are missing.
    async fn assert_well_formed(&self, body: &[u8]) {
        for path in PATHS {
            let reply = self.post_bytes(path, JSON, body.to_vec()).await;
            assert_eq!(reply.status, 422, "{}", String::from_utf8_lossy(body));
            reply.assert_refused(&[("userid", "is required"), ("password", "is required")]);
        }
    }

    async fn assert_malformed(&self, body: &[u8]) {
        for path in PATHS {
            let reply = self.post_bytes(path, JSON, body.to_vec()).await;
            assert_eq!(reply.status, 400, "{}", String::from_utf8_lossy(body));
            reply.assert_error(40001);
        }
    }
}

/// JSON values that a parser has to accept (RFC 8259), as `JSONTestSuite` lists them.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "123",
    "20e1",
    "123e65",
    "0e+1",
    "0e1",
    "1E22",
    "1E-2",
    "1E+2",
    "123e-10000000",
    "-0.000000000000000000000000000000000000000000000000000000000000000000000000000001",
    "123.456e78",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "100000000000000000000",
    "123456789012345678901234567890",
    "[]",
    "[[]   ]",
    r#"[""]"#,
    "[1\n]",
    "[1,null,null,null,2]",
    " [1] ",
    "{}",
    r#"{"":0}"#,
    r#"{"a":[]}"#,
    r#"{"min": -1.0e+28, "max": 1.0e+28}"#,
    "{\n\"a\": \"b\"\n}",
    "{\t\"a\"\r:\n \"b\"\t}",
    r#"{"foo\u0000bar": 42}"#,
    r#""""#,
    r#"" ""#,
    r#""asd""#,
    r#""\"\\\/\b\f\n\r\t""#,
    r#""\\u0000""#,
    r#""\\n""#,
    r#""\u0012""#,
    r#""\u0000""#,
    r#""\u0022""#,
    r#""\u0060\u012a\u12AB""#,
    r#""\uD801\udc37""#,
    r#""\ud83d\ude39\ud83d\udc8d""#,
    r#""\uDBFF\uDFFF""#,
    r#""\uFFFE\uFFFF\uFDD0\uD83F\uDFFE""#,
    r#""\u200B\u2064\u202E\uFEFF""#,
    r#""a/*b*/c/*d//e""#,
    "\"\u{7f}\"",
    "\"\u{2028}\u{2029}\"",
    "\"\u{202e}\u{2066}\"",
    "\"\u{feff}\"",
    "\"\u{e000}\u{ffff}\u{10ffff}\u{1bfff}\"",
    "\"€𝄞\"",
];

/// Invalid values.
const NO_VALUES: &[&[u8]] = &[
    b"",
    b"nul",
    b"nulll",
    b"True",
    b"FALSE",
    b"fals",
    b"undefined",
    b"NaN",
    b"-NaN",
    b"Infinity",
    b"-Infinity",
    b"Inf",
    b"+1",
    b"++1",
    b"--1",
    b"-",
    b"- 1",
    b"-01",
    b"01",
    b"012",
    b"-012",
    b".5",
    b"-.5",
    b"1.",
    b"-1.",
    b"2.e3",
    b"2.e+3",
    b"0.e1",
    b"0.1.2",
    b"0e",
    b"0e+",
    b"0E",
    b"1.0e",
    b"1.0e+",
    b"1.0e-",
    b"1eE2",
    b"9.e+",
    b"0x1",
    b"0x42",
    b"1_000",
    b"1 000",
    b"1.2a-3",
    b"1+2",
    b"\xef\xbc\x91",
    b"[",
    b"]",
    b"[1",
    b"[1,",
    b"[1,]",
    b"[,1]",
    b"[,]",
    b"[1,,2]",
    b"[1 2]",
    b"[1}",
    b"[\"\"",
    b"[1]]",
    b"[\x0c]",
    b"{",
    b"{1:1}",
    b"{a:1}",
    b"{'a':1}",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{\"a\" 1}",
    b"{\"a\"::1}",
    b"{\"a\",1}",
    b"{\"a\":1,}",
    b"{,\"a\":1}",
    b"{\"a\":1,,\"b\":2}",
    b"{\"a\":1 \"b\":2}",
    b"{null:null}",
    b"{[1]:1}",
    b"'a'",
    b"a",
    b"\"",
    b"\"a",
    b"\"\\\"",
    b"\"\\x41\"",
    b"\"\\'\"",
    b"\"\\a\"",
    b"\"\\u\"",
    b"\"\\u00A\"",
    b"\"\\u00G0\"",
    b"\"\\U0041\"",
    b"\"\\u{41}\"",
    b"\"\t\"",
    b"\"\n\"",
    b"\"\r\"",
    b"\"\x00\"",
    b"\"\x1f\"",
    b"\"a\"b",
    b"/**/1",
    b"1/**/",
    b"1//",
    b"1#",
    // Unpaired surrogates.
    b"\"\\uD800\"",
    b"\"\\uDBFF\"",
    b"\"\\uDC00\"",
    b"\"\\uDFFF\"",
    b"\"\\uD800\\n\"",
    b"\"\\uD800a\"",
    b"\"\\uD800\\u0041\"",
    b"\"\\uD800\\uD800\"",
    b"\"\\uDd1e\\uD834\"",
    b"\"\\uD834\\u\"",
    // Invalid UTF-8: stray, overlong, a surrogate, beyond Unicode, truncated.
    b"\"\xff\"",
    b"\"\x80\"",
    b"\"\xe9\"",
    b"\"\xc0\xaf\"",
    b"\"\xe0\x80\xaf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xed\xb0\x80\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xf8\x88\x80\x80\x80\"",
    b"\"\xe2\x82\"",
    b"\xff",
];

#[tokio::test]
async fn a_well_formed_value_is_read_in_a_member_that_is_ignored() {
    let service = Service::start().await;
    for value in VALUES {
        service
            .assert_well_formed(format!(r#"{{"ignored":{value}}}"#).as_bytes())
            .await;
    }
}

#[tokio::test]
async fn a_malformed_value_is_refused_even_in_a_member_that_is_ignored() {
    let service = Service::start().await;
    for value in NO_VALUES {
        service
            .assert_malformed(&[b"{\"ignored\":", *value, b"}"].concat())
            .await;
    }
}

#[tokio::test]
async fn white_space_may_surround_the_object() {
    let service = Service::start().await;
    for body in ["{}", " {} ", "\t\r\n{\t\r\n}\t\r\n"] {
        service.assert_well_formed(body.as_bytes()).await;
    }
}

#[tokio::test]
async fn only_one_object_is_a_body() {
    let service = Service::start().await;
    for body in [
        "",
        " ",
        "\n",
        "null",
        "true",
        "0",
        "1.5",
        r#""{}""#,
        "[]",
        "[{}]",
        "{}{}",
        "{} {}",
        "{},",
        ",{}",
        "{}x",
        "x{}",
        "{}#",
        "{}//",
        "/**/{}",
        "{}/**/",
        "{}]",
        "[{}",
        "{",
        "}",
        "{{}}",
        "{}\0",
        "\0{}",
        "\u{c}{}",
        "{}\u{b}",
        "\u{a0}{}",
        "\u{2060}{}",
        "\u{3000}{}",
        "data={}",
        ")]}',\n{}",
        "<a/>",
    ] {
        service.assert_malformed(body.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_malformed_wherever_it_ends() {
    let service = Service::start().await;
    let body = r#"{"userid":"alice","password":"\ud83d\ude39"}"#;
    for end in 0..body.len() {
        let reply = service
            .post_bytes("/user/register", JSON, body[..end].to_owned())
            .await;
        reply.assert_error(40001);
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_malformed() {
    let service = Service::start().await;
    service.assert_malformed(b"\xef\xbb\xbf{}").await;
    service.assert_malformed(b"{}\xef\xbb\xbf").await;
    service.assert_malformed(b"\xef\xbb\xbf").await;
}

#[tokio::test]
async fn utf_16_and_utf_32_are_malformed() {
    let service = Service::start().await;
    let text = r#"{"userid":"alice","password":"correct horse battery staple"}"#;
    let utf16: Vec<u16> = text.encode_utf16().collect();
    let mut bodies: Vec<Vec<u8>> = vec![
        utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(),
        text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
    ];
    bodies.push([b"\xff\xfe".as_slice(), &bodies[0]].concat());
    bodies.push([b"\xfe\xff".as_slice(), &bodies[1]].concat());
    for body in bodies {
        service.assert_malformed(&body).await;
    }
    // The parameter does not matter.
    let body: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    service
        .post_bytes("/user/register", "application/json; charset=utf-16", body)
        .await
        .assert_error(40001);
}

#[tokio::test]
async fn a_repeated_member_is_malformed_at_any_depth() {
    let service = Service::start().await;
    for body in [
        r#"{"userid":"a","userid":"b"}"#,
        r#"{"userid":"a","userid":"a"}"#,
        r#"{"userid":null,"userid":"a"}"#,
        r#"{"password":"a","x":1,"password":"b"}"#,
        r#"{"userid":"a","\u0075serid":"b"}"#,
        r#"{"ignored":1,"ignored":1}"#,
        r#"{"":1,"":2}"#,
        r#"{"x":{"a":1,"a":1}}"#,
        r#"{"x":{"a":1,"\u0061":1}}"#,
        r#"{"x":[{"a":1,"a":1}]}"#,
        r#"{"x":[0,[{"b":{"c":[{"a":1,"d":2,"a":1}]}}]]}"#,
        r#"{"userid":{"a":1,"a":1}}"#,
    ] {
        service.assert_malformed(body.as_bytes()).await;
    }
}

#[tokio::test]
async fn members_with_similar_looking_names_are_different() {
    let service = Service::start().await;
    for body in [
        r#"{"USERID":"a","Userid":"b"}"#,
        r#"{" userid":"a","userid ":"b"}"#,
        // Composed and decomposed.
        r#"{"\u00e9":1,"e\u0301":1}"#,
        r#"{"x":{"a":1},"y":{"a":1}}"#,
        r#"{"x":[{"a":1},{"a":1}]}"#,
    ] {
        service.assert_well_formed(body.as_bytes()).await;
    }
}

#[tokio::test]
async fn nesting_is_rejected_long_before_it_exhausts_the_stack() {
    let service = Service::start().await;
    let deep = [
        format!(r#"{{"x":{}{}}}"#, "[".repeat(8_000), "]".repeat(8_000)),
        format!(r#"{{"x":{}"#, "[".repeat(10_000)),
        "[".repeat(10_000),
        r#"{"a":"#.repeat(2_700),
        format!("{}1{}", r#"{"a":"#.repeat(2_700), "}".repeat(2_700)),
        format!("{}{}", r#"[{"a":"#.repeat(2_000), "}]".repeat(2_000)),
    ];
    for body in deep {
        service.assert_malformed(body.as_bytes()).await;
    }
    // With closing brackets, 10,000 levels would exceed the maximum size.
    let body = format!(r#"{{"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    for path in PATHS {
        let reply = service.post_bytes(path, JSON, body.clone()).await;
        reply.assert_error(41301);
    }
}

#[tokio::test]
async fn a_number_beyond_the_range_of_a_double_is_refused() {
    // RFC 8259, section 9: an implementation may set limits on the range of numbers.
    let service = Service::start().await;
    for number in ["1e400", "-1e400", "1e99999999999999999999"] {
        service
            .assert_malformed(format!(r#"{{"ignored":{number}}}"#).as_bytes())
            .await;
    }
}

#[tokio::test]
async fn moderate_nesting_is_read() {
    let service = Service::start().await;
    let body = format!(r#"{{"x":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    service.assert_well_formed(body.as_bytes()).await;
}

/// A well-formed object of this size.
fn object_of(bytes: usize) -> String {
    let padding = "a".repeat(bytes - r#"{"x":""}"#.len());
    format!(r#"{{"x":"{padding}"}}"#)
}

#[tokio::test]
async fn a_body_of_16384_bytes_is_read_and_one_of_16385_is_not() {
    let service = Service::start().await;
    service.assert_well_formed(object_of(16_384).as_bytes()).await;
    for path in PATHS {
        let reply = service.post_bytes(path, JSON, object_of(16_385)).await;
        reply.assert_error(41301);
    }
}

#[tokio::test]
async fn the_size_is_counted_in_bytes() {
    let service = Service::start().await;
    let text = |characters| format!(r#"{{"x":"{}"}}"#, "€".repeat(characters));
    // 8 bytes around three for each character.
    service.assert_well_formed(text(5_458).as_bytes()).await;
    let reply = service.post_bytes("/user/register", JSON, text(5_459)).await;
    reply.assert_error(41301);
}

#[tokio::test]
async fn the_size_is_checked_before_anything_else() {
    let service = Service::start().await;
    for body in ["{".repeat(16_385), "\0".repeat(100_000), "x".repeat(5_000_000)] {
        for content_type in [JSON, "text/plain", "application/x-www-form-urlencoded"] {
            for path in PATHS {
                let reply = service.post_bytes(path, content_type, body.clone()).await;
                reply.assert_error(41301);
            }
        }
    }
}

#[tokio::test]
async fn the_json_content_type_may_have_any_case_and_parameters() {
    let service = Service::start().await;
    for content_type in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json ; charset=\"utf-8\"",
        "application/json; charset=utf-8; q=1",
        "application/json;",
    ] {
        for path in PATHS {
            let reply = service.post_bytes(path, content_type, "{}").await;
            reply.assert_refused(&[("userid", "is required"), ("password", "is required")]);
        }
    }
}

#[tokio::test]
async fn no_other_content_type_is_accepted() {
    let service = Service::start().await;
    for content_type in [
        "text/plain",
        "text/plain; charset=utf-8",
        "text/plain;application/json",
        "text/plain; application/json",
        "text/json",
        "text/html",
        "application/*",
        "*/*",
        "json",
        "application",
        "application/",
        "application/jsonp",
        "application/json5",
        "application/json-patch+json",
        "application/ld+json",
        "application/problem+json",
        "application/vnd.api+json",
        "application/x-json",
        "application/xml",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "application/json, application/json",
        "application/json,text/plain",
        "text/plain, application/json",
        "application /json",
        "application/ json",
        "\"application/json\"",
        ";application/json",
        "",
        " ",
    ] {
        for path in PATHS {
            let reply = service.post_bytes(path, content_type, "{}").await;
            assert_eq!(reply.status, 415, "{content_type}");
            reply.assert_error(41501);
        }
    }
}

#[tokio::test]
async fn a_missing_repeated_or_unreadable_content_type_is_rejected() {
    let service = Service::start().await;
    let json = ("content-type", JSON);
    for path in PATHS {
        for headers in [
            [].as_slice(),
            &[json, json],
            &[json, ("content-type", "text/plain")],
            &[("content-type", "text/plain"), json],
        ] {
            let reply = service.send(request(Method::POST, path, headers, "{}")).await;
            reply.assert_error(41501);
        }
        let mut unreadable = request(Method::POST, path, &[], "{}");
        let value = HeaderValue::from_bytes(b"application/json; charset=\xff").expect("a value");
        unreadable.headers_mut().insert("content-type", value);
        service.send(unreadable).await.assert_error(41501);
    }
}

#[tokio::test]
async fn only_login_accepts_a_form() {
    let service = Service::start().await;
    let form = "userid=alice&username=alice&password=correct+horse+battery+staple";
    let content_type = "application/x-www-form-urlencoded";
    let reply = service.post_bytes("/user/register", content_type, form).await;
    reply.assert_error(41501);
    assert_eq!(service.database.count("people.\"user\"").await, 0);
}

#[tokio::test]
async fn endpoints_without_a_body_ignore_one_of_any_type() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let authorization = ("authorization", &*format!("Bearer {token}"));
    for (method, path) in [
        (Method::GET, "/health"),
        (Method::GET, "/auth/me"),
        (Method::POST, "/auth/logout"),
    ] {
        let headers = [authorization, ("content-type", "text/plain")];
        let reply = service.send(request(method, path, &headers, "{not json")).await;
        assert_eq!(reply.status, 200, "{path}");
    }
}
