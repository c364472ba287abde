//! Tokens: their contents, which are rejected, and where they are read from.
//!
//! Forged tokens are signed with the right key, and the session row is changed to have their digest, whenever that
//! makes the case harder: then only the rule under test can reject them.

use axum::http::{HeaderValue, Method};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::sync::Mutex;

use crate::harness::{PASSWORD, Reply, SECRET_KEY, Service, request, sha256_hex};

const OTHER_KEY: &str = "another key for tests of at least 32 bytes";

const EXP: &str = "exp";
const IAT: &str = "iat";

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn part(token: &str, n: usize) -> Value {
    let part = token.split('.').nth(n).expect("a part");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// A token with these parts and an HMAC.
fn signed(algorithm: hmac::Algorithm, key: &[u8], header: &str, claims: &str) -> String {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    sign_message(algorithm, key, &message)
}

fn sign_message(algorithm: hmac::Algorithm, key: &[u8], message: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(algorithm, key), message.as_bytes());
    format!("{message}.{}", base64url(tag))
}

/// A token with these parts, as the service would sign it.
fn rightly_signed(header: &Value, claims: &Value) -> String {
    let (header, claims) = (header.to_string(), claims.to_string());
    signed(hmac::HMAC_SHA256, SECRET_KEY.as_bytes(), &header, &claims)
}

/// A live session, with the parts of its token to derive others from.
struct Session {
    service: Service,
    token: String,
    header: Value,
    claims: Value,
    connection: Mutex<PgConnection>,
}

impl Session {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let service = Service::start_with(settings).await;
        let token = service.token_of_new_user("alice").await;
        Self {
            header: part(&token, 0),
            claims: part(&token, 1),
            connection: Mutex::new(service.database.connect().await),
            service,
            token,
        }
    }

    /// The response of `me` to `token`, after storing its digest in the session.
    async fn me_with(&self, token: &str) -> Reply {
        sqlx::query("UPDATE people.user_session SET token = $1")
            .bind(sha256_hex(token))
            .execute(&mut *self.connection.lock().await)
            .await
            .expect("a session");
        self.service.get("/auth/me", token).await
    }

    async fn assert_live(&self, token: &str) {
        let reply = self.me_with(token).await;
        assert_eq!(reply.status, 200, "{token}");
    }

    async fn assert_refused(&self, token: &str, why: &str) {
        let reply = self.me_with(token).await;
        assert_eq!(reply.status, 401, "{why}");
        reply.assert_error(40103);
        let logout = self.service.log_out(token).await;
        logout.assert_error(40103);
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        rightly_signed(&header, &self.claims)
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        rightly_signed(&self.header, &claims)
    }

    fn time(&self, claim: &str) -> i64 {
        self.claims[claim].as_i64().expect("a whole number")
    }
}

fn without(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object
        .as_object_mut()
        .expect("an object")
        .remove(name)
        .expect("it was there");
    object
}

// What a token is.

#[tokio::test]
async fn the_header_is_exactly_alg_typ_and_kid() {
    let session = Session::start().await;
    let kid = &session.header["kid"];
    assert_eq!(
        session.header,
        json!({ "alg": "HS256", "typ": "JWT", "kid": kid })
    );
    assert!(kid.as_str().is_some_and(|kid| !kid.is_empty()), "{kid}");
}

#[tokio::test]
async fn the_claims_are_issuer_user_session_and_times() {
    let session = Session::start().await;
    let ids = "SELECT user_id || ' ' || session_id FROM people.user_session";
    let ids = session.service.database.text(ids).await.expect("a session");
    let (user_id, session_id) = ids.split_once(' ').expect("two ids");
    let iat = session.time(IAT);
    assert_eq!(
        session.claims,
        json!({
            "iss": "people",
            "sub": user_id,
            "jti": session_id,
            "iat": iat,
            "exp": iat + 3600,
            "user_id": user_id,
            "userid": "alice",
        })
    );
    let now = format!("SELECT abs(extract(epoch FROM now()) - {iat}) < 600");
    assert_eq!(session.service.database.text(&now).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn the_signature_is_an_hmac_under_the_secret_key() {
    let session = Session::start().await;
    let (message, signature) = session.token.rsplit_once('.').expect("a signature");
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, SECRET_KEY.as_bytes()),
        message.as_bytes(),
    );
    assert_eq!(signature, base64url(tag));
}

#[tokio::test]
async fn the_kid_identifies_the_key_without_revealing_it() {
    let session = Session::start().await;
    let same = Session::start().await;
    let other = Session::start_with(&[("SECRET_KEY", OTHER_KEY)]).await;
    let kid = session.header["kid"].as_str().expect("a kid");
    assert_eq!(same.header["kid"], kid);
    assert_ne!(other.header["kid"], kid);
    // Neither the key, nor its plain digest, from which a weak key could be looked up in a table.
    let hex = sha256_hex(SECRET_KEY);
    assert!(!hex.contains(kid), "{kid}");
    assert!(!SECRET_KEY.contains(kid), "{kid}");
    assert!(!base64url(&hex).contains(kid), "{kid}");
    assert!(!base64url(SECRET_KEY).contains(kid), "{kid}");
}

#[tokio::test]
async fn issuer_lifetime_and_algorithm_are_settings() {
    for (name, algorithm) in [("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        let session = Session::start_with(&[
            ("ALGORITHM", name),
            ("TOKEN_ISSUER", "https://id.example"),
            ("ACCESS_TOKEN_EXPIRE_MINUTES", "5"),
        ])
        .await;
        let kid = &session.header["kid"];
        assert_eq!(session.header, json!({ "alg": name, "typ": "JWT", "kid": kid }));
        assert_eq!(session.claims["iss"], "https://id.example");
        assert_eq!(session.time(EXP) - session.time(IAT), 300);
        let (message, _) = session.token.rsplit_once('.').expect("a signature");
        assert_eq!(
            session.token,
            sign_message(algorithm, SECRET_KEY.as_bytes(), message)
        );
        session.assert_live(&session.token).await;
        let out = session.service.log_out(&session.token).await;
        assert_eq!(out.status, 200);
    }
}

#[tokio::test]
async fn a_token_with_members_in_another_order_is_live() {
    // So that the tests below do not fail merely because of how tokens are written.
    let session = Session::start().await;
    session.assert_live(&session.token).await;
    session
        .assert_live(&rightly_signed(&session.header, &session.claims))
        .await;
    let header = format!(
        " {{ \"kid\" : {}, \"typ\":\"JWT\",\n\"alg\":\"HS256\" }} ",
        session.header["kid"]
    );
    let claims = session.claims.to_string();
    let token = signed(hmac::HMAC_SHA256, SECRET_KEY.as_bytes(), &header, &claims);
    session.assert_live(&token).await;
}

// Forged headers and signatures.

#[tokio::test]
async fn no_algorithm_but_the_configured_one_is_accepted() {
    let session = Session::start().await;
    let claims = session.claims.to_string();
    for (alg, hash) in [
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
        // The right signature with another algorithm name.
        ("HS384", hmac::HMAC_SHA256),
        ("hs256", hmac::HMAC_SHA256),
        ("Hs256", hmac::HMAC_SHA256),
        ("HS256 ", hmac::HMAC_SHA256),
        ("", hmac::HMAC_SHA256),
        ("none", hmac::HMAC_SHA256),
        ("None", hmac::HMAC_SHA256),
        ("NONE", hmac::HMAC_SHA256),
        ("nOnE", hmac::HMAC_SHA256),
        // With the secret as if it were a public key.
        ("RS256", hmac::HMAC_SHA256),
        ("PS256", hmac::HMAC_SHA256),
        ("ES256", hmac::HMAC_SHA256),
        ("EdDSA", hmac::HMAC_SHA256),
        ("HS1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        ("A128KW", hmac::HMAC_SHA256),
        ("dir", hmac::HMAC_SHA256),
    ] {
        let mut header = session.header.clone();
        header["alg"] = json!(alg);
        let token = signed(hash, SECRET_KEY.as_bytes(), &header.to_string(), &claims);
        session.assert_refused(&token, alg).await;
    }
    for alg in [
        json!(null),
        json!(256),
        json!(["HS256"]),
        json!({ "alg": "HS256" }),
        json!(true),
    ] {
        session
            .assert_refused(&session.with_header("alg", alg.clone()), &alg.to_string())
            .await;
    }
    let token = rightly_signed(&without(&session.header, "alg"), &session.claims);
    session.assert_refused(&token, "no alg").await;
}

#[tokio::test]
async fn a_service_for_hs512_refuses_hs256() {
    let session = Session::start_with(&[("ALGORITHM", "HS512")]).await;
    session.assert_live(&session.token).await;
    session
        .assert_refused(&session.with_header("alg", json!("HS256")), "HS256")
        .await;
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    let session = Session::start().await;
    let (message, signature) = session.token.rsplit_once('.').expect("a signature");
    let mut none = session.header.clone();
    none["alg"] = json!("none");
    let unsigned = format!(
        "{}.{}",
        base64url(none.to_string()),
        base64url(session.claims.to_string())
    );
    for token in [
        format!("{message}."),
        message.to_owned(),
        format!("{unsigned}."),
        unsigned.clone(),
        format!("{unsigned}.{signature}"),
        format!("{message}.{}", base64url([0; 32])),
        format!("{message}.{}", &signature[..42]),
        format!("{message}.{}", base64url([0; 0])),
    ] {
        session.assert_refused(&token, &token).await;
    }
}

#[tokio::test]
async fn a_signature_by_another_key_or_over_something_else_is_refused() {
    let session = Session::start().await;
    let (header, claims) = (session.header.to_string(), session.claims.to_string());
    for key in [OTHER_KEY.as_bytes(), b"", &SECRET_KEY.as_bytes()[1..], b"secret"] {
        let token = signed(hmac::HMAC_SHA256, key, &header, &claims);
        session.assert_refused(&token, "another key").await;
    }
    let parts: Vec<&str> = session.token.split('.').collect();
    let mut claims = session.claims.clone();
    claims["userid"] = json!("mallory");
    let swapped = format!("{}.{}.{}", parts[0], base64url(claims.to_string()), parts[2]);
    session.assert_refused(&swapped, "other claims").await;
    // One bit of each byte of the signature.
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64url");
    for n in 0..signature.len() {
        let mut changed = signature.clone();
        changed[n] ^= 1 << (n % 8);
        let token = format!("{}.{}.{}", parts[0], parts[1], base64url(changed));
        let reply = session.me_with(&token).await;
        reply.assert_error(40103);
    }
}

#[tokio::test]
async fn another_member_in_the_header_is_refused_though_the_signature_is_right() {
    let session = Session::start().await;
    let jwk = json!({ "kty": "oct", "k": base64url(SECRET_KEY) });
    for (name, value) in [
        ("jku", json!("https://evil.example/keys")),
        ("jwk", jwk.clone()),
        ("x5u", json!("https://evil.example/certificate")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!("AAAA")),
        ("crit", json!([])),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!(null)),
        ("b64", json!(true)),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("cty", json!("JWT")),
        ("p2c", json!(1_000_000_000)),
        ("exp", json!(0)),
        ("x", json!(null)),
        ("", json!("")),
        ("ALG", json!("none")),
    ] {
        session
            .assert_refused(&session.with_header(name, value), name)
            .await;
    }
}

#[tokio::test]
async fn a_repeated_member_is_refused_in_header_and_claims() {
    let session = Session::start().await;
    let (header, claims) = (session.header.to_string(), session.claims.to_string());
    let repeated = |object: &str, member: &str| {
        let rest = object.strip_prefix('{').expect("an object");
        [
            format!("{{{member},{rest}"),
            format!("{},{member}}}", object.strip_suffix('}').expect("an object")),
        ]
    };
    let kid = format!("\"kid\":{}", session.header["kid"]);
    for member in [r#""alg":"HS256""#, r#""alg":"none""#, r#""typ":"JWT""#, &kid] {
        for header in repeated(&header, member) {
            let token = signed(hmac::HMAC_SHA256, SECRET_KEY.as_bytes(), &header, &claims);
            session.assert_refused(&token, &header).await;
        }
    }
    for name in ["iss", "sub", "jti", IAT, EXP, "user_id", "userid"] {
        let member = format!("\"{name}\":{}", session.claims[name]);
        for claims in repeated(&claims, &member) {
            let token = signed(hmac::HMAC_SHA256, SECRET_KEY.as_bytes(), &header, &claims);
            session.assert_refused(&token, &claims).await;
        }
    }
}

#[tokio::test]
async fn an_unknown_or_missing_kid_is_refused() {
    let session = Session::start().await;
    let kid = session.header["kid"].as_str().expect("a kid");
    for other in [
        json!("0000000000000000"),
        json!(""),
        json!(kid.to_uppercase() + "x"),
        json!(&kid[1..]),
        json!(format!("{kid} ")),
        json!(format!("{kid}\u{0}")),
        json!("../../../../dev/null"),
        json!("' OR '1'='1"),
        json!(null),
        json!(0),
        json!([kid]),
        json!({ "kid": kid }),
    ] {
        session
            .assert_refused(&session.with_header("kid", other.clone()), &other.to_string())
            .await;
    }
    let token = rightly_signed(&without(&session.header, "kid"), &session.claims);
    session.assert_refused(&token, "no kid").await;
}

#[tokio::test]
async fn another_or_missing_typ_is_refused() {
    let session = Session::start().await;
    for typ in [
        json!("jwt"),
        json!("Jwt"),
        json!("at+jwt"),
        json!("JWE"),
        json!("application/jwt"),
        json!(""),
        json!(null),
        json!(1),
        json!(["JWT"]),
    ] {
        session
            .assert_refused(&session.with_header("typ", typ.clone()), &typ.to_string())
            .await;
    }
    let token = rightly_signed(&without(&session.header, "typ"), &session.claims);
    session.assert_refused(&token, "no typ").await;
}

#[tokio::test]
async fn a_header_that_is_not_an_object_is_rejected() {
    let session = Session::start().await;
    let claims = session.claims.to_string();
    for header in [
        "",
        "null",
        "[]",
        "\"HS256\"",
        "0",
        "{",
        "{}",
        "{}{}",
        "\u{feff}{}",
    ] {
        let token = signed(hmac::HMAC_SHA256, SECRET_KEY.as_bytes(), header, &claims);
        session.assert_refused(&token, header).await;
    }
    let whole = session.header.to_string();
    for header in [
        format!("{whole}x"),
        format!("{whole}{whole}"),
        format!("\u{feff}{whole}"),
        format!("[{whole}]"),
        format!("{whole}\0"),
    ] {
        let token = signed(hmac::HMAC_SHA256, SECRET_KEY.as_bytes(), &header, &claims);
        session.assert_refused(&token, &header).await;
    }
}

// Claims.

#[tokio::test]
async fn every_claim_is_required() {
    let session = Session::start().await;
    for name in ["iss", "sub", "jti", IAT, EXP, "user_id", "userid"] {
        let token = rightly_signed(&session.header, &without(&session.claims, name));
        session.assert_refused(&token, name).await;
    }
}

#[tokio::test]
async fn a_claim_of_the_wrong_type_is_refused() {
    let session = Session::start().await;
    for name in ["iss", "sub", "jti", "user_id", "userid"] {
        let right = session.claims[name].clone();
        for wrong in [
            json!(null),
            json!(0),
            json!(1.5),
            json!(true),
            json!({}),
            json!([]),
            json!([right]),
        ] {
            session
                .assert_refused(
                    &session.with_claim(name, wrong.clone()),
                    &format!("{name} {wrong}"),
                )
                .await;
        }
    }
    for name in [IAT, EXP] {
        let right = session.time(name);
        for wrong in [
            json!(null),
            json!(true),
            json!({}),
            json!([right]),
            json!(right.to_string()),
            json!(""),
            json!("2030-01-01T00:00:00Z"),
        ] {
            session
                .assert_refused(
                    &session.with_claim(name, wrong.clone()),
                    &format!("{name} {wrong}"),
                )
                .await;
        }
    }
}

#[tokio::test]
async fn claims_that_are_not_an_object_are_rejected() {
    let session = Session::start().await;
    let header = session.header.to_string();
    let whole = session.claims.to_string();
    for claims in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        format!("[{whole}]"),
        format!("{whole}x"),
        format!("{whole}{whole}"),
        format!("\u{feff}{whole}"),
        whole[1..].to_owned(),
    ] {
        let token = signed(hmac::HMAC_SHA256, SECRET_KEY.as_bytes(), &header, &claims);
        session.assert_refused(&token, &claims).await;
    }
}

#[tokio::test]
async fn another_issuer_user_or_session_is_refused() {
    let session = Session::start().await;
    session.service.register("bob").await;
    let bob = "SELECT user_id FROM people.\"user\" WHERE userid = 'bob'";
    let bob = session.service.database.text(bob).await.expect("bob");
    for (name, value) in [
        ("iss", "People"),
        ("iss", "people "),
        ("iss", ""),
        ("iss", "https://evil.example"),
        ("sub", &bob),
        ("user_id", &bob),
        ("sub", ""),
        ("sub", "alice"),
        ("sub", "00000000-0000-0000-0000-000000000000"),
        ("jti", ""),
        ("jti", "x"),
        ("jti", "00000000-0000-4000-8000-000000000000"),
        ("jti", "' OR '1'='1"),
    ] {
        session
            .assert_refused(
                &session.with_claim(name, json!(value)),
                &format!("{name} {value}"),
            )
            .await;
    }
    // Both ids are equal, but the session is alice's.
    let mut claims = session.claims.clone();
    claims["sub"] = json!(bob);
    claims["user_id"] = json!(bob);
    let token = rightly_signed(&session.header, &claims);
    session.assert_refused(&token, "bob").await;
}

#[tokio::test]
async fn a_token_that_has_expired_is_refused_though_its_session_has_not() {
    let session = Session::start().await;
    let iat = session.time(IAT);
    for exp in [iat, iat - 1, iat - 3600, 1, 0, -1, -1_000_000_000_000, i64::MIN] {
        session
            .assert_refused(&session.with_claim(EXP, json!(exp)), &exp.to_string())
            .await;
    }
    // A whole hour in the past.
    let mut claims = session.claims.clone();
    claims[IAT] = json!(iat - 7200);
    claims[EXP] = json!(iat - 3600);
    let token = rightly_signed(&session.header, &claims);
    session.assert_refused(&token, "in the past").await;
    // There is no leeway: one second is too late.
    claims[IAT] = json!(iat - 3601);
    claims[EXP] = json!(iat - 1);
    let token = rightly_signed(&session.header, &claims);
    session.assert_refused(&token, "a second ago").await;
}

#[tokio::test]
async fn an_implausible_expiry_is_rejected() {
    let session = Session::start().await;
    let exp = session.time(EXP);
    for wrong in [
        // Decades ahead, at the limit of representable times, and beyond.
        json!(exp + 100 * 365 * 86_400),
        json!(253_402_300_799_i64),
        json!(i64::MAX),
        json!(9_223_372_036_854_775_808_u64),
        json!(u64::MAX),
        json!(1e19),
        json!(1e300),
        // A float, even a whole one.
        serde_json::from_str(&format!("{exp}.0")).expect("a float"),
        serde_json::from_str(&format!("{exp}.5")).expect("a float"),
        serde_json::from_str(&format!("{exp}e0")).expect("a float"),
        // Milliseconds.
        json!(exp * 1_000),
    ] {
        session
            .assert_refused(&session.with_claim(EXP, wrong.clone()), &wrong.to_string())
            .await;
    }
    let claims = session.claims.to_string();
    let header = session.header.to_string();
    for wrong in [
        "1e400",
        "00",
        "0x7fffffff",
        "NaN",
        "Infinity",
        "9223372036854775808",
        "1e1000000",
    ] {
        let claims = claims.replace(&format!("\"exp\":{exp}"), &format!("\"exp\":{wrong}"));
        let token = signed(hmac::HMAC_SHA256, SECRET_KEY.as_bytes(), &header, &claims);
        session.assert_refused(&token, wrong).await;
    }
}

#[tokio::test]
async fn a_token_from_the_future_is_refused() {
    let session = Session::start().await;
    let mut claims = session.claims.clone();
    claims[IAT] = json!(session.time(IAT) + 1800);
    claims[EXP] = json!(session.time(EXP) + 1800);
    let token = rightly_signed(&session.header, &claims);
    session.assert_refused(&token, "half an hour ahead").await;
    for iat in [json!(i64::MAX), json!(9_223_372_036_854_775_808_u64), json!(1e19)] {
        session
            .assert_refused(&session.with_claim(IAT, iat.clone()), &iat.to_string())
            .await;
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_yet_is_refused() {
    let session = Session::start().await;
    let issued = session.time(IAT);
    for nbf in [json!(issued - 3600), json!(issued)] {
        session.assert_live(&session.with_claim("nbf", nbf)).await;
    }
    for nbf in [
        json!(issued + 1800),
        json!(i64::MAX),
        json!(9_223_372_036_854_775_808_u64),
        json!(1e19),
        json!("0"),
    ] {
        session
            .assert_refused(&session.with_claim("nbf", nbf.clone()), &format!("nbf {nbf}"))
            .await;
    }
}

#[tokio::test]
async fn a_token_for_an_audience_is_refused() {
    let session = Session::start().await;
    for audience in [json!("people"), json!(""), json!([]), json!(["people"]), json!(1)] {
        session
            .assert_refused(
                &session.with_claim("aud", audience.clone()),
                &format!("aud {audience}"),
            )
            .await;
    }
}

// Other spellings of a token.

#[tokio::test]
async fn a_token_has_exactly_three_parts() {
    let session = Session::start().await;
    let key = SECRET_KEY.as_bytes();
    let parts: Vec<&str> = session.token.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    for token in [
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "x".to_owned(),
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}."),
        format!(".{header}.{claims}.{signature}"),
        format!("{header}..{claims}.{signature}"),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        // Signed as they are.
        sign_message(hmac::HMAC_SHA256, key, header),
        sign_message(hmac::HMAC_SHA256, key, &format!("{header}.{claims}.")),
        sign_message(hmac::HMAC_SHA256, key, &format!("{header}.{claims}.{claims}")),
        sign_message(hmac::HMAC_SHA256, key, &format!("{header}.{header}.{claims}")),
        sign_message(hmac::HMAC_SHA256, key, &format!("{header}..{claims}")),
        sign_message(hmac::HMAC_SHA256, key, &format!(".{header}.{claims}")),
        sign_message(hmac::HMAC_SHA256, key, ""),
        sign_message(hmac::HMAC_SHA256, key, "."),
        // As in JWE.
        format!("{header}.{claims}.{signature}.{claims}.{signature}"),
    ] {
        session.assert_refused(&token, &token).await;
    }
}

/// Replaces the last character of `part` by one that differs only in unused bits.
fn with_spare_bits(part: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = part.bytes().last().expect("a character");
    let value = ALPHABET.iter().position(|&c| c == last).expect("base64url");
    assert_ne!(part.len() % 4, 0, "no bits are left over");
    let changed = char::from(ALPHABET[value | 1]);
    assert_ne!(changed, char::from(last), "the bits left over were zero");
    format!("{}{changed}", &part[..part.len() - 1])
}

#[tokio::test]
async fn only_strict_unpadded_base64url_is_read() {
    let session = Session::start().await;
    let key = SECRET_KEY.as_bytes();
    // Trailing spaces give each part a length with unused bits, which would need padding.
    let pad = |mut json: String| {
        while json.len() % 3 != 1 {
            json.push(' ');
        }
        base64url(json)
    };
    let (header, claims) = (pad(session.header.to_string()), pad(session.claims.to_string()));
    let message = format!("{header}.{claims}");
    let token = sign_message(hmac::HMAC_SHA256, key, &message);
    session.assert_live(&token).await;
    let signature = token.rsplit_once('.').expect("a signature").1;
    let forged =
        |header: &str, claims: &str| sign_message(hmac::HMAC_SHA256, key, &format!("{header}.{claims}"));
    for token in [
        // Padding.
        format!("{message}.{signature}="),
        format!("{message}.{signature}=="),
        forged(&format!("{header}=="), &claims),
        forged(&header, &format!("{claims}==")),
        forged(&header, &format!("{claims}=")),
        // Unused bits.
        format!("{message}.{}", with_spare_bits(signature)),
        forged(&with_spare_bits(&header), &claims),
        forged(&header, &with_spare_bits(&claims)),
        // Characters of another alphabet, or invalid ones.
        format!("{message}.{}", signature.replace(['-', '_'], "+")) + "+",
        forged(&header, &format!("{claims}~")),
        forged(&format!("{header}/"), &claims),
        forged(&header, &format!("{}+{}", &claims[..8], &claims[9..])),
        // One character too many.
        format!("{message}.{signature}A"),
        format!("{token}A"),
    ] {
        session.assert_refused(&token, &token).await;
    }
}

#[tokio::test]
async fn white_space_within_a_token_is_refused() {
    let session = Session::start().await;
    let parts: Vec<&str> = session.token.split('.').collect();
    for token in [
        format!("{} .{}.{}", parts[0], parts[1], parts[2]),
        format!("{}. {}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}\t.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.\t{}", parts[0], parts[1], parts[2]),
        format!("{} {}", &session.token[..40], &session.token[40..]),
        format!("{} x", session.token),
        format!("\"{}\"", session.token),
        format!("{}\u{a0}", session.token),
        format!("{},", session.token),
        format!("{};", session.token),
    ] {
        let reply = session.service.get("/auth/me", &token).await;
        reply.assert_error(40103);
    }
}

#[tokio::test]
async fn a_token_has_at_most_4_kib() {
    let session = Session::start().await;
    let padded = |length: usize| {
        // White space in the claims, which only changes the length.
        let mut claims = session.claims.to_string();
        loop {
            let (header, key) = (session.header.to_string(), SECRET_KEY.as_bytes());
            let token = signed(hmac::HMAC_SHA256, key, &header, &claims);
            if token.len() >= length {
                return token;
            }
            claims.push(' ');
        }
    };
    let (fits, exceeds) = (padded(4_095), padded(4_097));
    assert!((4_095..=4_096).contains(&fits.len()), "{}", fits.len());
    session.assert_live(&fits).await;
    assert!((4_097..=4_099).contains(&exceeds.len()), "{}", exceeds.len());
    session.assert_refused(&exceeds, "too long").await;
    session.assert_refused(&"A".repeat(100_000), "far too long").await;
}

// Keys.

#[tokio::test]
async fn rotating_the_key_logs_nobody_out() {
    let before = Session::start().await;
    let rotated = Service::on(
        before.service.database.clone(),
        &[("SECRET_KEY", OTHER_KEY), ("SECRET_KEY_PREVIOUS", SECRET_KEY)],
    );
    assert_eq!(rotated.get("/auth/me", &before.token).await.status, 200);
    // New tokens are signed with the new key, and accepted by an instance with only that key.
    let new = rotated.log_in("alice", PASSWORD).await.access_token();
    assert_ne!(part(&new, 0)["kid"], before.header["kid"]);
    assert_eq!(rotated.get("/auth/me", &new).await.status, 200);
    let retired = Service::on(before.service.database.clone(), &[("SECRET_KEY", OTHER_KEY)]);
    assert_eq!(retired.get("/auth/me", &new).await.status, 200);
    retired.get("/auth/me", &before.token).await.assert_error(40103);
    retired.log_out(&before.token).await.assert_error(40103);
    // An instance with only the old key rejects them.
    before.service.get("/auth/me", &new).await.assert_error(40103);
    assert_eq!(rotated.log_out(&before.token).await.status, 200);
}

#[tokio::test]
async fn the_previous_key_verifies_only_under_its_own_kid() {
    let session = Session::start_with(&[("SECRET_KEY_PREVIOUS", OTHER_KEY)]).await;
    let previous = Session::start_with(&[("SECRET_KEY", OTHER_KEY)]).await;
    let (header, claims) = (session.header.to_string(), session.claims.to_string());
    let previous_header = previous.header.to_string();
    let token = |header: &str, key: &str| signed(hmac::HMAC_SHA256, key.as_bytes(), header, &claims);
    session.assert_live(&token(&header, SECRET_KEY)).await;
    session.assert_live(&token(&previous_header, OTHER_KEY)).await;
    session
        .assert_refused(&token(&header, OTHER_KEY), "current kid, previous key")
        .await;
    session
        .assert_refused(&token(&previous_header, SECRET_KEY), "previous kid, current key")
        .await;
}

#[tokio::test]
async fn the_same_key_as_current_and_previous_is_one_key() {
    let session = Session::start_with(&[("SECRET_KEY_PREVIOUS", SECRET_KEY)]).await;
    session.assert_live(&session.token).await;
}

// Where tokens are read from.

impl Service {
    async fn me_with_headers(&self, values: &[&[u8]]) -> Reply {
        let mut request = request(Method::GET, "/auth/me", &[], "");
        for value in values {
            let value = HeaderValue::from_bytes(value).expect("a value");
            request.headers_mut().append("authorization", value);
        }
        self.send(request).await
    }
}

#[tokio::test]
async fn the_scheme_may_have_any_case_and_several_spaces() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for scheme in ["Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer   "] {
        let value = format!("{scheme}{token}");
        let reply = service.me_with_headers(&[value.as_bytes()]).await;
        assert_eq!(reply.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn other_schemes_count_as_no_token() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service.me_with_headers(&[]).await.assert_error(40102);
    for value in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "bearer    ".to_owned(),
        "Basic YWxpY2U6eA==".to_owned(),
        "Digest username=\"alice\"".to_owned(),
        format!("Token {token}"),
        format!("JWT {token}"),
        format!("Basic {token}"),
        format!("BearerX {token}"),
        format!("Bearer{token}"),
        format!("Bearer:{token}"),
        format!("Bearer={token}"),
        token.clone(),
    ] {
        let reply = service.me_with_headers(&[value.as_bytes()]).await;
        assert_eq!(reply.json()["code"], 40102, "{value}");
        reply.assert_error(40102);
    }
}

#[tokio::test]
async fn two_credentials_are_refused_whatever_they_are() {
    let service = Service::start().await;
    let alice = format!("Bearer {}", service.token_of_new_user("alice").await);
    let bob = format!("Bearer {}", service.token_of_new_user("bob").await);
    for pair in [
        [alice.as_str(), bob.as_str()],
        [&alice, &alice],
        [&alice, "Basic eDp5"],
        ["Basic eDp5", &alice],
        [&alice, ""],
        ["", &alice],
        [&alice, "Bearer x"],
    ] {
        let reply = service
            .me_with_headers(&[pair[0].as_bytes(), pair[1].as_bytes()])
            .await;
        reply.assert_error(40103);
    }
    // As joined by a gateway.
    for joined in [
        format!("{alice},{bob}"),
        format!("{alice}, {bob}"),
        format!("{alice}, Basic eDp5"),
        format!("{alice}, {alice}"),
        format!("{alice},"),
        format!("Bearer ,{alice}"),
    ] {
        let reply = service.me_with_headers(&[joined.as_bytes()]).await;
        reply.assert_error(40103);
    }
}

#[tokio::test]
async fn a_bearer_token_with_invalid_bytes_is_rejected() {
    let service = Service::start().await;
    for value in [
        b"Bearer \xff".as_slice(),
        b"Bearer a.b.c\x80",
        b"bearer \xc3\xa9.x.y",
        b"Bearer a\tb",
        b"Bearer {}",
        b"Bearer <x>",
        b"Bearer a%2Eb%2Ec",
    ] {
        service.me_with_headers(&[value]).await.assert_error(40103);
    }
    for value in [b"\xff".as_slice(), b"Basic \xff", b"\xc3\xa9"] {
        service.me_with_headers(&[value]).await.assert_error(40102);
    }
}

#[tokio::test]
async fn a_token_anywhere_else_is_never_read() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let form = format!("access_token={token}");
    for (method, path) in [(Method::GET, "/auth/me"), (Method::POST, "/auth/logout")] {
        for query in [
            format!("access_token={token}"),
            format!("token={token}"),
            format!("authorization=Bearer%20{token}"),
        ] {
            let path = format!("{path}?{query}");
            let request = request(method.clone(), &path, &[], "");
            service.send(request).await.assert_error(40102);
        }
        for (name, value) in [
            (
                "cookie",
                format!("access_token={token}; Authorization=Bearer {token}"),
            ),
            ("x-access-token", token.clone()),
            ("x-authorization", format!("Bearer {token}")),
            ("proxy-authorization", format!("Bearer {token}")),
            ("x-api-key", token.clone()),
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
        ] {
            let headers = [(name, value.as_str())];
            let request = request(method.clone(), path, &headers, form.clone());
            service.send(request).await.assert_error(40102);
        }
        let json = json!({ "access_token": token, "authorization": format!("Bearer {token}") });
        let headers = [("content-type", "application/json")];
        let request = request(method, path, &headers, json.to_string());
        service.send(request).await.assert_error(40102);
    }
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
}

#[tokio::test]
async fn a_token_in_the_query_does_not_replace_a_revoked_one_in_the_header() {
    let service = Service::start().await;
    let dead = service.token_of_new_user("alice").await;
    service.log_out(&dead).await;
    let live = service.log_in("alice", PASSWORD).await.access_token();
    let path = format!("/auth/me?access_token={live}");
    service.get(&path, &dead).await.assert_error(40103);
}

#[tokio::test]
async fn a_bearer_token_that_a_gateway_joined_to_another_credential_is_40103() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for joined in [
        format!("Basic eDp5,Bearer {token}"),
        format!("Basic eDp5, bearer {token}"),
    ] {
        let reply = service
            .send(request(
                Method::GET,
                "/auth/me",
                &[("authorization", &joined)],
                "",
            ))
            .await;
        reply.assert_error(40103);
    }
    let digest = r#"Digest username="x", realm="y""#;
    let reply = service
        .send(request(Method::GET, "/auth/me", &[("authorization", digest)], ""))
        .await;
    reply.assert_error(40102);
}
