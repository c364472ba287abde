//! Tokens: without the key, none verifies except the signed one; with the key, only those that are allowed.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use serde_json::{Value, json};
use shared::config::{MAX_LIFETIME_MINUTES, TokenConfig};
use shared::token::Keys;
use uuid::Uuid;

const SECRET: &str = "a key for fuzzing of at least 32 bytes";
const ISSUER: &str = "people";
const SESSION: Uuid = Uuid::from_u128(0x5e55_1014);
const USER: Uuid = Uuid::from_u128(0x05e5);
const NOW: DateTime<Utc> = DateTime::from_timestamp(1_900_000_000, 0).expect("a time");

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    Keys::new(&TokenConfig {
        algorithm: Algorithm::HS256,
        secret_key: SECRET.into(),
        previous_secret_key: None,
        issuer: ISSUER.to_owned(),
        lifetime: Duration::from_hours(1),
        max_idle: None,
    })
});

/// The signed token.
static SIGNED: LazyLock<String> = LazyLock::new(|| {
    let token = KEYS.sign(SESSION, USER, "alice", NOW).expect("signs");
    token.expose().to_owned()
});

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// Arbitrary bytes.
    Raw(&'a [u8]),
    /// The signed token, changed.
    Changed(Vec<Change<'a>>),
    /// The signed token with changes to the decoded header and claims.
    Recoded {
        header: Vec<Change<'a>>,
        claims: Vec<Change<'a>>,
    },
    /// Arbitrary header and claims, signed with the right key.
    Forged { header: &'a [u8], claims: &'a [u8] },
    /// Well-formed claims, signed with the right key.
    Claimed {
        iat: i64,
        exp: i64,
        sub: u8,
        user_id: u8,
        claim: &'a str,
        of: Shape,
    },
}

#[derive(Arbitrary, Debug)]
enum Change<'a> {
    Put { at: u16, byte: u8 },
    Flip { at: u16, bit: u8 },
    Insert { at: u16, bytes: &'a [u8] },
    Remove { at: u16, length: u8 },
    Repeat { from: u16, length: u8, at: u16 },
    Swap { at: u16, with: u16 },
    Truncate { at: u16 },
}

#[derive(Arbitrary, Debug)]
enum Shape {
    Absent,
    Null,
    Text,
    Float,
    Array,
}

fuzz_target!(|input: Input| {
    // Otherwise this target would find nothing.
    assert!(KEYS.verify(&SIGNED, NOW).is_ok());
    match input {
        Input::Raw(bytes) => only_the_signed_one(bytes),
        Input::Changed(changes) => only_the_signed_one(&changed(SIGNED.as_bytes(), &changes)),
        Input::Recoded { header, claims } => {
            let (signed_header, signed_claims, signature) = parts();
            let header = URL_SAFE_NO_PAD.encode(changed(&signed_header, &header));
            let claims = URL_SAFE_NO_PAD.encode(changed(&signed_claims, &claims));
            only_the_signed_one(format!("{header}.{claims}.{signature}").as_bytes());
        }
        Input::Forged { header, claims } => only_what_is_allowed(header, claims),
        Input::Claimed {
            iat,
            exp,
            sub,
            user_id,
            claim,
            of,
        } => {
            let mut claims = json!({
                "iss": ISSUER, "sub": id(sub), "jti": SESSION.to_string(), "iat": iat, "exp": exp,
                "user_id": id(user_id), "userid": "alice",
            });
            if let Some(members) = claims.as_object_mut()
                && members.contains_key(claim)
            {
                match of {
                    Shape::Absent => members.remove(claim),
                    Shape::Null => members.insert(claim.to_owned(), Value::Null),
                    Shape::Text => members.insert(claim.to_owned(), exp.to_string().into()),
                    Shape::Float => members.insert(claim.to_owned(), 1_900_000_001.5.into()),
                    Shape::Array => members.insert(claim.to_owned(), json!([ISSUER])),
                };
            }
            only_what_is_allowed(&parts().0, claims.to_string().as_bytes());
        }
    }
});

fn id(last_byte: u8) -> String {
    Uuid::from_u128(last_byte.into()).to_string()
}

/// Header and claims as JSON, and the encoded signature.
fn parts() -> (Vec<u8>, Vec<u8>, &'static str) {
    let mut parts = SIGNED.split('.');
    let mut next = || parts.next().expect("three parts");
    let decoded = |part| URL_SAFE_NO_PAD.decode(part).expect("base64url");
    (decoded(next()), decoded(next()), next())
}

fn changed(token: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut token = token.to_vec();
    for change in changes {
        // Always within the token, so that few inputs are without effect.
        let length = token.len();
        let within = |at: u16| usize::from(at) % (length + 1);
        let byte = |at: u16| usize::from(at) % length.max(1);
        match *change {
            _ if length > 8192 => return token,
            Change::Insert { at, bytes } => {
                token.splice(within(at)..within(at), bytes.iter().copied());
            }
            Change::Remove { at, length: bytes } => {
                token.drain(within(at)..length.min(within(at) + usize::from(bytes)));
            }
            Change::Repeat {
                from,
                length: bytes,
                at,
            } => {
                let part = token[within(from)..length.min(within(from) + usize::from(bytes))].to_vec();
                token.splice(within(at)..within(at), part);
            }
            Change::Truncate { at } => token.truncate(within(at)),
            _ if length == 0 => {}
            Change::Put { at, byte: new } => token[byte(at)] = new,
            Change::Flip { at, bit } => token[byte(at)] ^= 1 << (bit % 8),
            Change::Swap { at, with } => token.swap(byte(at), byte(with)),
        }
    }
    token
}

fn only_the_signed_one(token: &[u8]) {
    let Ok(token) = std::str::from_utf8(token) else {
        return;
    };
    if KEYS.verify(token, NOW).is_ok() {
        assert_eq!(token, *SIGNED, "another token verified");
    }
}

/// Signs with the right key. A token that verifies then has the exact header, and valid claims.
fn only_what_is_allowed(header: &[u8], claims: &[u8]) {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    let Ok(verified) = KEYS.verify(&format!("{signed}.{signature}"), NOW) else {
        return;
    };
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json).expect("accepted, so JSON");
    assert_eq!(read(header), read(&parts().0), "another header");
    let (read, claims, now) = (read(claims), verified.claims, NOW.timestamp());
    assert_eq!(read["iss"], ISSUER);
    assert_eq!(
        (read["iat"].as_i64(), read["exp"].as_i64()),
        (Some(claims.iat), Some(claims.exp))
    );
    assert_eq!(claims.sub, claims.user_id);
    assert!(
        claims.iat <= now + 60 && now < claims.exp,
        "not valid at this time"
    );
    assert!(
        claims.exp - claims.iat <= i64::from(MAX_LIFETIME_MINUTES) * 60,
        "the lifetime is too long"
    );
}
