//! What is logged, and what never is.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::project::{Answer, Database, Local, PASSWORD, Project, eventually};

/// Stops `local` and returns its standard output and standard error.
/// The lines of a log, each a JSON object.
#[track_caller]
fn objects(log: &str) -> Vec<Map<String, Value>> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
        .collect()
}

/// Checks and removes what differs between runs.
fn stable(mut line: Map<String, Value>) -> Value {
    let timestamp = line.remove("timestamp").expect("a timestamp");
    let timestamp = timestamp.as_str().expect("text");
    assert!(timestamp.len() == 27 && timestamp.ends_with('Z'), "{timestamp}");
    if line["message"] == "request" {
        let milliseconds = line.remove("milliseconds").and_then(|value| value.as_f64());
        assert!(
            milliseconds.is_some_and(|ms| ms > 0.0 && ms < 30_000.0),
            "{milliseconds:?}"
        );
    }
    line.into()
}

/// The expected lines of a log.
#[derive(Default)]
struct Expected(Vec<Value>);

impl Expected {
    /// Adds the lines of one response: its events, then the request.
    #[track_caller]
    fn add(&mut self, answer: &Answer, route: &str, outcome: (u16, u64), events: &[Value]) {
        assert_eq!(answer.status(), outcome.0, "{answer:?}");
        let span = json!({
            "name": "request",
            "request_id": answer.header("x-request-id").expect("a request id"),
            "route": route,
            "source_address": "127.0.0.1",
        });
        let cold = self.0.is_empty();
        for event in events {
            let mut line = event.clone();
            line["message"] = "security".into();
            line["span"] = span.clone();
            self.0.push(line);
        }
        self.0.push(json!({
            "level": "INFO",
            "message": "request",
            "status": outcome.0,
            "code": outcome.1,
            "cold": cold,
            "span": span,
        }));
    }
}

/// An event at level INFO.
fn info(event: &str, user_id: &Value) -> Value {
    json!({ "level": "INFO", "event": event, "user_id": user_id })
}

/// An event at level WARN.
fn warn(event: &str) -> Value {
    json!({ "level": "WARN", "event": event })
}

/// `event` with another member.
fn with(mut event: Value, name: &str, value: impl Into<Value>) -> Value {
    event[name] = value.into();
    event
}

const NEW_PASSWORD: &str = "six candles under the bridge";

/// As if all attempts had been made at this moment, however slow the machine is.
const LOCKED_OUT: &str = "UPDATE people.attempt SET in_flight = '{}', failed_at = now(), forgotten_at = now() + interval '10 days'";

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[test]
fn each_request_is_one_line_and_each_security_event_another() {
    let project = Project::new();
    let database = Database::new();
    let local = project.start(&[
        ("PORT", "0"),
        ("DATABASE_URL", &database.url),
        ("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "2"),
        ("MAILS_PER_ADDRESS_PER_HOUR", "1"),
    ]);
    let mut expected = Expected::default();
    expected.add(
        &local.send("GET", "/health", &[], ""),
        "GET /health",
        (200, 1),
        &[],
    );
    let alice = register(&local, &mut expected);
    let token = log_in(&local, &database, &mut expected, &alice);
    use_token(&local, &mut expected, &alice, &token);
    database.sql("DELETE FROM people.attempt");
    use_account(&local, &database, &mut expected, &alice);
    expected.add(&local.send("GET", "/nowhere", &[], ""), "*", (404, 40401), &[]);
    expected.add(&local.send("PUT", "/auth/me", &[], ""), "*", (405, 40501), &[]);
    // The request id is the gateway's: a client cannot choose it.
    let chosen = local.send("GET", "/health", &[("x-request-id", "mine")], "");
    assert_ne!(chosen.header("x-request-id"), Some("mine"));
    expected.add(&chosen, "GET /health", (200, 1), &[]);

    let (_, stderr) = local.stop();
    let lines: Vec<Value> = objects(&stderr).into_iter().map(stable).collect();
    assert_eq!(lines, expected.0);
}

/// Every outcome of a registration. Returns the user id of alice.
fn register(local: &Local, expected: &mut Expected) -> Value {
    let route = "POST /user/register";
    let alice = local.register("alice");
    let user_id = alice.json()["data"]["user_info"]["user_id"].clone();
    expected.add(&alice, route, (200, 1), &[info("user_created", &user_id)]);
    expected.add(&local.register("ALICE"), route, (409, 40901), &[]);
    let refused = local.post("/user/register", &json!({}));
    expected.add(&refused, route, (422, 42201), &[warn("input_validation_fail")]);
    let too_many = [warn("excess_rate_limit_exceeded")];
    expected.add(&local.register("carol"), route, (429, 42901), &too_many);
    user_id
}

/// Every outcome of a log-in. Returns a token of alice.
fn log_in(local: &Local, database: &Database, expected: &mut Expected, alice: &Value) -> String {
    let route = "POST /auth/login";
    let invalid = [warn("input_validation_fail")];
    let send = |headers: &[(&str, &str)], body: &str| local.send("POST", "/auth/login", headers, body);
    expected.add(&send(&JSON, "{"), route, (400, 40001), &invalid);
    expected.add(&send(&[], "{}"), route, (415, 41501), &invalid);
    expected.add(&send(&JSON, &"x".repeat(20_000)), route, (413, 41301), &invalid);
    let wrong = json!({ "userid": "Alice", "password": "wrong" });
    let of_alice = |event: Value, way: &str| with(with(event, "user_id", alice.clone()), "way", way);
    let fail = of_alice(warn("authn_login_fail"), "json");
    expected.add(
        &local.post("/auth/login", &wrong),
        route,
        (401, 40101),
        std::slice::from_ref(&fail),
    );

    let success = of_alice(info("authn_login_success", alice), "json");
    let after_fail = with(
        of_alice(warn("authn_login_successafterfail"), "json"),
        "failures",
        1,
    );
    let logged_in = local.log_in("alice");
    expected.add(&logged_in, route, (200, 1), &[success.clone(), after_fail]);
    expected.add(&local.log_in("alice"), route, (200, 1), &[success]);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let right = format!("username=alice&password={PASSWORD}");
    let success = of_alice(info("authn_login_success", alice), "form");
    expected.add(&send(&form, &right), route, (200, 1), &[success]);
    for _ in 0..10 {
        expected.add(
            &local.post("/auth/login", &wrong),
            route,
            (401, 40101),
            std::slice::from_ref(&fail),
        );
    }
    database.sql(LOCKED_OUT);
    let too_many = of_alice(warn("authn_login_fail_max"), "form");
    expected.add(&send(&form, &right), route, (429, 42901), &[too_many]);
    database.sql("DELETE FROM people.attempt");
    for _ in 0..10 {
        let fail = with(warn("authn_login_fail"), "way", "json");
        expected.add(&local.log_in("nobody"), route, (401, 40101), &[fail]);
    }
    database.sql(LOCKED_OUT);
    let too_many = with(warn("authn_login_fail_max"), "way", "json");
    expected.add(&local.log_in("nobody"), route, (429, 42901), &[too_many]);
    logged_in.token()
}

/// Every outcome of a request with a token, until it is revoked.
fn use_token(local: &Local, expected: &mut Expected, alice: &Value, token: &str) {
    let refused = [warn("authz_fail")];
    let me = |token: &str| local.with_token("GET", "/auth/me", token);
    let route = "GET /auth/me";
    expected.add(&me(token), route, (200, 1), &[]);
    expected.add(&local.send("GET", "/auth/me", &[], ""), route, (401, 40102), &[]);
    expected.add(&me("forged"), route, (401, 40103), &refused);
    let revoked = [info("authn_token_revoked", alice)];
    // A token that was live identifies its user.
    let refused = [with(warn("authz_fail"), "user_id", alice.clone())];
    for (outcome, events) in [((200, 1), &revoked), ((401, 40103), &refused)] {
        let logout = local.with_token("POST", "/auth/logout", token);
        expected.add(&logout, "POST /auth/logout", outcome, events);
    }
    expected.add(&me(token), route, (401, 40103), &refused);
}

/// A device that is logged in, and what its requests are expected to leave in the log.
struct Device<'a> {
    local: &'a Local,
    expected: &'a mut Expected,
    token: String,
}

impl Device<'_> {
    fn send(
        &mut self,
        route: &str,
        path: &str,
        body: &Value,
        outcome: (u16, u64),
        events: &[Value],
    ) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("authorization", &*authorization), JSON[0]];
        let (method, _) = route.split_once(' ').expect("a method");
        let answer = self.local.send(method, path, &headers, body.to_string());
        self.expected.add(&answer, route, outcome, events);
        answer
    }
}

/// What an owner does with the account, each with and without success, until it is gone.
fn use_account(local: &Local, database: &Database, expected: &mut Expected, alice: &Value) {
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let answer = local.log_in("alice");
        let success = with(info("authn_login_success", alice), "way", "json");
        expected.add(&answer, "POST /auth/login", (200, 1), &[success]);
        tokens.push(answer.token());
    }
    let mut phone = Device {
        local,
        expected,
        token: tokens.remove(0),
    };
    end_sessions(&mut phone, alice);
    change_profile_and_password(&mut phone, alice);
    change_address(&mut phone, alice);
    recover(&mut phone, alice);
    delete_account(&mut phone, database, alice);
}

fn end_sessions(phone: &mut Device, alice: &Value) {
    let listed = phone.send(
        "GET /auth/sessions",
        "/auth/sessions",
        &Value::Null,
        (200, 1),
        &[],
    );
    let other = listed.json()["data"]["sessions"][0]["session_id"].clone();
    let other = format!("/auth/sessions/{}", other.as_str().expect("an id"));
    let revoked = [info("authn_token_revoked", alice)];
    let one = "DELETE /auth/sessions/{session_id}";
    phone.send(one, &other, &Value::Null, (200, 1), &revoked);
    phone.send(one, &other, &Value::Null, (404, 40402), &[]);
    let others = "DELETE /auth/sessions";
    phone.send(others, "/auth/sessions", &Value::Null, (200, 1), &revoked);
    // Now there are none.
    phone.send(others, "/auth/sessions", &Value::Null, (200, 1), &[]);
    phone.send(one, "/auth/sessions/%ff", &Value::Null, (404, 40402), &[]);
}

fn change_profile_and_password(phone: &mut Device, alice: &Value) {
    let updated = [info("user_updated", alice)];
    let refused = [warn("input_validation_fail")];
    let route = "PATCH /auth/me";
    phone.send(route, "/auth/me", &json!({ "job": "reader" }), (200, 1), &updated);
    phone.send(route, "/auth/me", &json!({}), (200, 1), &[]);
    phone.send(route, "/auth/me", &json!({ "roles": [] }), (422, 42201), &refused);
    let change = |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    let failed = [with(warn("authn_password_change_fail"), "user_id", alice.clone())];
    let changed = [info("authn_password_change", alice)];
    let (route, path) = ("POST /auth/password", "/auth/password");
    phone.send(route, path, &change("wrong", NEW_PASSWORD), (403, 40301), &failed);
    phone.send(route, path, &change(PASSWORD, "short"), (422, 42201), &refused);
    phone.send(route, path, &change(PASSWORD, NEW_PASSWORD), (200, 1), &changed);
}

/// The token of the link in the printed mail with this subject.
fn mailed_token(local: &Local, subject: &str) -> String {
    let token = || {
        let printed = local.stdout();
        let (_, mail) = printed.split_once(subject)?;
        let (_, token) = mail.split_once("#token=")?;
        // Printed with the line that it is in.
        token.split_once('\n').map(|(token, _)| token.to_owned())
    };
    eventually("a mail is printed", || token().is_some());
    token().expect("printed")
}

fn change_address(phone: &mut Device, alice: &Value) {
    let ask = |password: &str| json!({ "email": "alice@example.com", "current_password": password });
    let failed = [with(warn("authn_login_fail"), "user_id", alice.clone())];
    let (route, path) = ("POST /auth/email", "/auth/email");
    phone.send(route, path, &ask("wrong"), (403, 40301), &failed);
    phone.send(route, path, &ask(NEW_PASSWORD), (200, 1), &[]);
    let link = mailed_token(phone.local, "Confirm your e-mail address");
    let (route, path) = ("POST /auth/email/confirm", "/auth/email/confirm");
    let updated = [info("user_updated", alice)];
    phone.send(
        route,
        path,
        &json!({ "token": "x" }),
        (410, 41001),
        &[warn("authz_fail")],
    );
    phone.send(route, path, &json!({ "token": link }), (200, 1), &updated);
    // A repetition, which changes nothing.
    phone.send(route, path, &json!({ "token": link }), (200, 1), &[]);
}

fn recover(phone: &mut Device, alice: &Value) {
    let (route, path) = ("POST /auth/forgot", "/auth/forgot");
    let account = json!({ "account": "alice" });
    let too_many = [warn("excess_rate_limit_exceeded")];
    phone.send(route, path, &account, (200, 1), &[]);
    phone.send(route, path, &account, (429, 42901), &too_many);
    let link = mailed_token(phone.local, "Set a new password");
    let reset = |token: &str| json!({ "token": token, "new_password": NEW_PASSWORD });
    let (route, path) = ("POST /auth/reset", "/auth/reset");
    let failed = warn("authn_password_change_fail");
    let changed = [info("authn_password_change", alice)];
    phone.send(
        route,
        path,
        &reset("x"),
        (410, 41001),
        std::slice::from_ref(&failed),
    );
    phone.send(route, path, &reset(&link), (200, 1), &changed);
    let failed = [with(failed, "user_id", alice.clone())];
    phone.send(route, path, &reset(&link), (410, 41001), &failed);
    let log_in = json!({ "userid": "alice", "password": NEW_PASSWORD });
    let success = with(info("authn_login_success", alice), "way", "json");
    let answer = phone.send("POST /auth/login", "/auth/login", &log_in, (200, 1), &[success]);
    phone.token = answer.token();
}

fn delete_account(phone: &mut Device, database: &Database, alice: &Value) {
    let (route, path) = ("POST /user/delete", "/user/delete");
    let failed = [with(warn("authn_login_fail"), "user_id", alice.clone())];
    phone.send(
        route,
        path,
        &json!({ "password": PASSWORD }),
        (403, 40301),
        &failed,
    );
    let right = json!({ "password": NEW_PASSWORD });
    database.sql(LOCKED_OUT);
    let too_many = [with(warn("authn_login_fail_max"), "user_id", alice.clone())];
    phone.send(route, path, &right, (429, 42901), &too_many);
    database.sql("DELETE FROM people.attempt");
    phone.send(route, path, &right, (200, 1), &[info("user_deleted", alice)]);
    let refused = [with(warn("authz_fail"), "user_id", alice.clone())];
    phone.send("GET /auth/me", "/auth/me", &Value::Null, (401, 40103), &refused);
}

#[test]
fn an_attempt_in_flight_is_not_logged_as_a_failure() {
    let project = Project::new();
    let database = Database::new();
    let local = project.start(&[
        ("PORT", "0"),
        ("DATABASE_URL", &database.url),
        ("ARGON2_MEMORY_KIB", "64"),
        ("ARGON2_ITERATIONS", "1"),
    ]);
    assert_eq!(local.register("alice").outcome(), (200, 1));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(local.log_in("alice").outcome(), (200, 1)));
        }
    });
    let wrong = json!({ "userid": "alice", "password": "wrong" });
    for _ in 0..2 {
        assert_eq!(local.post("/auth/login", &wrong).outcome(), (401, 40101));
    }
    for _ in 0..2 {
        assert_eq!(local.log_in("alice").outcome(), (200, 1));
    }
    let (_, stderr) = local.stop();
    let events: Vec<Value> = objects(&stderr)
        .into_iter()
        .filter_map(|line| Some(json!([line.get("event")?, line.get("failures")])))
        .skip(1)
        .collect();
    let success = json!(["authn_login_success", null]);
    let fail = json!(["authn_login_fail", null]);
    let after_fail = json!(["authn_login_successafterfail", 2]);
    let mut expected = vec![success.clone(); 20];
    expected.extend([fail.clone(), fail, success.clone(), after_fail, success]);
    assert_eq!(events, expected);
}

#[test]
fn a_failure_of_the_database_is_logged_by_its_code_only() {
    let project = Project::new();
    let database = Database::new();
    let local = project.start(&[("PORT", "0"), ("DATABASE_URL", &database.url)]);
    database.sql(r#"ALTER TABLE people."user" ADD CONSTRAINT no_bob CHECK (userid <> 'bob')"#);
    let defect = local.register("bob");
    assert_eq!(defect.outcome(), (500, 50001));
    database.sql(r#"ALTER TABLE people."user" RENAME COLUMN userid TO other"#);
    let unavailable = local.register("alice");
    assert_eq!(unavailable.outcome(), (503, 50301));

    let (_, stderr) = local.stop();
    let lines: Vec<Value> = objects(&stderr).into_iter().map(stable).collect();
    let line = |answer: &Answer, status, code, cold, error| {
        json!({
            "level": "ERROR",
            "message": "request",
            "status": status,
            "code": code,
            "cold": cold,
            "error": error,
            "span": {
                "name": "request",
                "request_id": answer.header("x-request-id"),
                "route": "POST /user/register",
                "source_address": "127.0.0.1",
            },
        })
    };
    let failed = "statement failed: SQLSTATE 23514, constraint no_bob";
    assert_eq!(
        lines,
        [
            line(&defect, 500, 50001, true, failed),
            line(
                &unavailable,
                503,
                50301,
                false,
                "database unavailable: SQLSTATE 42703"
            ),
        ]
    );
}

/// Contained in every secret and every client value below, so that one search finds any of them.
const CANARY: &str = "kanariQ8vRw2xT5";

/// How [`CANARY`] might look in an output: itself in any case, in hex, in base64 at each of three offsets.
fn guises() -> Vec<String> {
    let hex: Vec<String> = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let decimal: Vec<String> = CANARY.bytes().map(|byte| byte.to_string()).collect();
    let mut guises = vec![CANARY.to_lowercase(), hex.concat(), decimal.join(", ")];
    for offset in 0..3 {
        let shifted = format!("{}{CANARY}", "-".repeat(offset));
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            // Without characters that depend on their context.
            let inner = &encoded[if offset == 0 { 0 } else { 4 }..encoded.len() - 2];
            guises.push(inner.to_lowercase());
        }
    }
    guises
}

#[test]
fn the_search_for_canaries_finds_them() {
    let found = |output: &str| {
        let output = output.to_lowercase();
        guises().iter().any(|guise| output.contains(guise))
    };
    assert!(found("KANARIq8vrW2XT5"));
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}{CANARY}and more");
        assert!(found(&STANDARD_NO_PAD.encode(&text)), "{before}");
        assert!(found(&format!("{:?}", text.as_bytes())));
    }
    assert!(!found("kanari"));
}

/// Every path that a secret or a value of a client's can take into the service. Returns what else is secret: a token
/// and what is stored of it.
fn send_canaries(local: &Local, database: &Database) -> Vec<String> {
    let password = format!("{CANARY}-password-of-alice");
    let alice = json!({
        "userid": format!("{CANARY}-alice"),
        "password": password,
        "user_name": format!("{CANARY} Alice"),
        "country": format!("{CANARY}land"),
        "job": format!("{CANARY}er"),
        "email": format!("{CANARY}@{CANARY}.example"),
        "init_cn_level": format!("HSK {CANARY}"),
        CANARY: CANARY,
    });
    assert_eq!(local.post("/user/register", &alice).outcome(), (200, 1));
    assert_eq!(local.post("/user/register", &alice).outcome(), (409, 40901));
    let login = local.post("/auth/login", &alice);
    assert_eq!(login.outcome(), (200, 1));
    let token = login.token();
    assert_eq!(local.with_token("GET", "/auth/me", &token).outcome(), (200, 1));

    send_refused_bodies(local);
    send_failed_attempts(local);
    send_refused_tokens(local, &token);
    send_strange_requests(local);
    send_to_a_failing_database(local, database, &alice, &token);

    let digest = database.sql("SELECT token FROM people.user_session");
    let parts = token.split('.').map(str::to_owned);
    parts.chain([digest]).collect()
}

/// Refused fields and malformed bodies.
fn send_refused_bodies(local: &Local) {
    for (body, outcome) in [
        (
            json!({
                "userid": format!("{CANARY} with space"),
                "password": CANARY.chars().take(7).collect::<String>(),
                "user_name": format!("{CANARY}\u{7}\r\n"),
                "country": CANARY.repeat(9),
                "phone": CANARY,
                "email": CANARY,
                "job": [CANARY],
                "init_cn_level": { CANARY: CANARY },
            })
            .to_string(),
            (422, 42201),
        ),
        (
            format!(r#"{{"userid":"{CANARY}","password":"{CANARY}"#),
            (400, 40001),
        ),
        (format!(r#"{{"{CANARY}":1,"{CANARY}":2}}"#), (400, 40001)),
        (format!(r#""{CANARY}""#), (400, 40001)),
        (
            format!("{{\"userid\":\"{CANARY}\n\",\"password\":\"{CANARY}\"}}"),
            (400, 40001),
        ),
        (format!(r#"{{"userid":{CANARY}}}"#), (400, 40001)),
        (CANARY.repeat(2_000), (413, 41301)),
    ] {
        for path in ["/user/register", "/auth/login"] {
            let answer = local.send("POST", path, &JSON, &body);
            if path == "/user/register" || outcome.0 != 422 {
                assert_eq!(answer.outcome(), outcome, "{path} {body}");
            }
        }
    }
    let not_utf8 = [b"{\"userid\":\"", CANARY.as_bytes(), b"\xff\"}"].concat();
    assert_eq!(
        local.send("POST", "/auth/login", &JSON, not_utf8).outcome(),
        (400, 40001)
    );
    let other_type = [("content-type", &*format!("text/{CANARY}; a=\"{CANARY}\""))];
    assert_eq!(
        local.send("POST", "/auth/login", &other_type, CANARY).outcome(),
        (415, 41501)
    );
}

/// Failed attempts until there are too many, as JSON and as a form.
fn send_failed_attempts(local: &Local) {
    let form_type = [("content-type", "application/x-www-form-urlencoded")];
    for userid in [
        format!("{CANARY}-alice"),
        format!("{CANARY}-nobody\",\n\u{1b}[31m\r\n{{}}"),
    ] {
        let wrong = json!({ "userid": userid, "password": format!("wrong {CANARY}") });
        while local.post("/auth/login", &wrong).status() != 429 {}
    }
    for form in [
        format!("username={CANARY}&password={CANARY}"),
        format!("username={CANARY}&password={CANARY}&grant_type={CANARY}"),
        format!("username={CANARY}&username={CANARY}&password=%ff{CANARY}"),
        format!("{CANARY}={CANARY}%00"),
    ] {
        assert_eq!(local.send("POST", "/auth/login", &form_type, form).status(), 400);
    }
}

/// Tokens: forged, altered, in the wrong place, repeated, with another scheme.
fn send_refused_tokens(local: &Local, token: &str) {
    let forged = |header: &Value, claims: &Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{CANARY}", part(header), part(claims))
    };
    let other_key = json!({ "alg": "HS256", "typ": "JWT", "kid": CANARY });
    for token in [
        CANARY.to_owned(),
        forged(&other_key, &json!({ "userid": CANARY, "sub": CANARY })),
        forged(&json!({ "alg": CANARY, "typ": CANARY }), &json!(CANARY)),
        format!("{token}{CANARY}"),
        format!("{token}, Bearer {CANARY}"),
    ] {
        assert_eq!(
            local.with_token("GET", "/auth/me", &token).outcome(),
            (401, 40103),
            "{token}"
        );
        assert_eq!(
            local.with_token("POST", "/auth/logout", &token).outcome(),
            (401, 40103),
            "{token}"
        );
    }
    let basic = format!("Basic {}", STANDARD_NO_PAD.encode(format!("{CANARY}:{CANARY}")));
    let query = format!("/auth/me?access_token={token}&{CANARY}={CANARY}%0d%0a%0A%1b%22");
    assert_eq!(
        local
            .send("GET", &query, &[("authorization", &basic)], "")
            .outcome(),
        (401, 40102)
    );
}

/// Headers, paths and methods with characters that could end a line or a JSON string.
fn send_strange_requests(local: &Local) {
    let quoted = format!("{CANARY}\",\"event\":\"authn_login_success\",\"x\":\"\\u000a\\");
    let headers: Vec<(&str, &str)> = [
        "user-agent",
        "referer",
        "origin",
        "cookie",
        "x-forwarded-for",
        "forwarded",
        "x-request-id",
        "traceparent",
        "x-amzn-trace-id",
        "x-amzn-requestid",
        "x-api-key",
        "content-type",
        CANARY,
    ]
    .map(|name| (name, quoted.as_str()))
    .to_vec();
    for method in ["GET", "POST", CANARY] {
        for path in [
            "/auth/me",
            "/auth/login",
            &format!("/{CANARY}%0a%22%7b?{CANARY}"),
            &format!("/%1b[31m{CANARY}"),
        ] {
            let status = local.send(method, path, &headers, "").status();
            assert!((400..500).contains(&status), "{method} {path}: {status}");
        }
    }
    let preflight = [("origin", CANARY), ("access-control-request-method", CANARY)];
    assert_eq!(local.send("OPTIONS", "/auth/me", &preflight, "").status(), 200);
    for value in [
        "\u{1b}[31m",
        "\u{7f}",
        "\t",
        "é",
        "\r\n continued",
        "\r",
        "\n\"event\":1",
        "\0",
    ] {
        let request = format!(
            "GET /auth/me HTTP/1.1\r\nhost: {CANARY}\r\nconnection: close\r\nx-canary: {CANARY}{value}{CANARY}\r\n\
             authorization: Bearer {CANARY}{value}\r\n\r\n"
        );
        let status = local.send_raw(request.as_bytes()).status();
        assert!(matches!(status, 400 | 401), "{value:?}: {status}");
    }
}

/// The error messages of a database may quote anything.
fn send_to_a_failing_database(local: &Local, database: &Database, alice: &Value, token: &str) {
    database.sql(&format!(
        r#"UPDATE people."user" SET password_hash = '$2b$12${CANARY}';
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE WARNING 'a warning of %', NEW;
            RAISE EXCEPTION 'not %', NEW USING DETAIL = NEW::text, HINT = NEW::text;
        END
        $$;
        CREATE TRIGGER refuse BEFORE INSERT ON people."user" FOR EACH ROW EXECUTE FUNCTION refuse();"#
    ));
    let mut bob = alice.clone();
    bob["userid"] = format!("{CANARY}-bob").into();
    assert_eq!(local.post("/user/register", &bob).outcome(), (500, 50001));
    database.sql("DELETE FROM people.attempt");
    assert_eq!(local.post("/auth/login", alice).outcome(), (401, 40101));
    database.sql(r#"ALTER TABLE people."user" RENAME COLUMN user_name TO other_name"#);
    for answer in [
        local.post("/auth/login", alice),
        local.post("/user/register", &bob),
        local.with_token("GET", "/auth/me", token),
    ] {
        assert_eq!(answer.outcome(), (503, 50301));
    }
}

#[test]
fn neither_secrets_nor_client_input_are_logged() {
    let project = Project::new();
    let database = Database::new();
    let secret_key = format!("a key of 32 bytes and more: {CANARY}");
    let variables = [
        ("PORT", "0"),
        ("DATABASE_URL", database.url.as_str()),
        ("SECRET_KEY", &secret_key),
        ("SECRET_KEY_PREVIOUS", &secret_key.replace("and", "or")),
    ];
    let local = project.start(&variables);
    let mut secrets = send_canaries(&local, &database);
    let (stdout, stderr) = local.stop();

    // Every line is well-formed, with known members only.
    for mut line in objects(&stderr) {
        let mut span = line.remove("span").expect("within a request");
        for (name, wanted) in [("name", "request"), ("source_address", "127.0.0.1")] {
            assert_eq!(span[name], wanted, "{span}");
        }
        let span = span.as_object_mut().expect("an object");
        span.retain(|name, _| !matches!(name.as_str(), "name" | "source_address" | "request_id" | "route"));
        assert!(span.is_empty(), "{span:?}");
        line.retain(|name, _| {
            !matches!(
                name.as_str(),
                "timestamp"
                    | "level"
                    | "message"
                    | "status"
                    | "code"
                    | "milliseconds"
                    | "cold"
                    | "error"
                    | "event"
                    | "user_id"
                    | "way"
                    | "failures"
            )
        });
        assert!(line.is_empty(), "{line:?}");
    }
    let successes = stderr.matches("\"authn_login_success\"").count();
    assert_eq!(successes, 1, "{stderr}");

    secrets.extend([database.password().to_owned(), PASSWORD.to_owned()]);
    secrets.extend(["$argon2", "$2b$", "postgres://", "Bearer "].map(str::to_owned));
    let banner = stdout.replace(
        &format!("-d '{{\"userid\":\"alice\",\"password\":\"{PASSWORD}\"}}'"),
        "",
    );
    for line in banner.lines().chain(stderr.lines()) {
        for secret in &secrets {
            assert!(!line.contains(secret), "{secret} in {line}");
        }
        let line = line.to_lowercase();
        for guise in guises() {
            assert!(!line.contains(&guise), "{guise} in {line}");
        }
    }
}
