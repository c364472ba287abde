//! Links: whatever arrives as a token, only those that were made verify, each for its own purpose.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use shared::config::TokenConfig;
use shared::links::{EmailToken, LinkKeys, LinkState, PasswordToken, Purpose};
use uuid::Uuid;

const NOW: DateTime<Utc> = DateTime::from_timestamp(1_900_000_000, 0).expect("a time");

static KEYS: LazyLock<LinkKeys> = LazyLock::new(|| {
    LinkKeys::new(&TokenConfig {
        algorithm: Algorithm::HS256,
        secret_key: "a key for fuzzing of at least 32 bytes".into(),
        previous_secret_key: Some("a former key for fuzzing of 32 bytes".into()),
        issuer: "people".to_owned(),
        lifetime: Duration::from_hours(1),
        max_idle: None,
    })
});

static STATE: LazyLock<LinkState> = LazyLock::new(|| LinkState {
    user_id: Uuid::from_u128(0x05e5),
    password_hash: Some("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into()),
    password_version: 1,
    email: Some("alice@example.com".to_owned()),
    email_version: 1,
});

/// The tokens that were made.
static MADE: LazyLock<[String; 3]> = LazyLock::new(|| {
    [
        KEYS.password_token(Purpose::Reset, &STATE, NOW),
        KEYS.password_token(Purpose::Invite, &STATE, NOW),
        KEYS.email_token(&STATE, "alice@example.org", NOW),
    ]
});

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// Any text.
    Text(&'a str),
    /// Any bytes, encoded.
    Bytes(&'a [u8]),
    /// A token that was made, with other bytes from some point on.
    Changed {
        which: u8,
        encoded: bool,
        at: u16,
        replacement: &'a [u8],
    },
}

fuzz_target!(|input: Input| {
    // Otherwise this target would find nothing.
    assert!(MADE.iter().all(|token| is_valid(token)));
    match input {
        Input::Text(text) => only_those_that_were_made(text),
        Input::Bytes(bytes) => only_those_that_were_made(&URL_SAFE_NO_PAD.encode(bytes)),
        Input::Changed {
            which,
            encoded,
            at,
            replacement,
        } => {
            let token = &MADE[usize::from(which) % MADE.len()];
            let replace = |bytes: &[u8]| {
                let mut changed = bytes.to_vec();
                let at = usize::from(at) % (changed.len() + 1);
                let end = changed.len().min(at + replacement.len());
                changed.splice(at..end, replacement.iter().copied());
                changed
            };
            if encoded {
                only_those_that_were_made(&String::from_utf8_lossy(&replace(token.as_bytes())));
            } else {
                let bytes = URL_SAFE_NO_PAD.decode(token).expect("base64url");
                only_those_that_were_made(&URL_SAFE_NO_PAD.encode(replace(&bytes)));
            }
        }
    }
});

fn is_valid(token: &str) -> bool {
    let sets_password =
        PasswordToken::parse(token).is_ok_and(|token| token.verify(&KEYS, &STATE, NOW).is_ok());
    let confirms = EmailToken::parse(token).is_ok_and(|token| token.verify(&KEYS, &STATE, NOW).is_ok());
    assert!(!(sets_password && confirms), "one token for two purposes");
    sets_password || confirms
}

fn only_those_that_were_made(token: &str) {
    if is_valid(token) {
        assert!(MADE.iter().any(|made| made == token), "another token verified");
    }
}
