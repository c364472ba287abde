use std::time::Duration;

use jsonwebtoken::Algorithm;
use proptest::prelude::*;

use super::*;

const KEY: &str = "a key for tests of at least 32 bytes";
const ASKED_AT: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
const USER: Uuid = Uuid::from_u128(0x05e5);

fn keys(secret_key: &str, previous: Option<&str>) -> LinkKeys {
    LinkKeys::new(&TokenConfig {
        algorithm: Algorithm::HS256,
        secret_key: secret_key.into(),
        previous_secret_key: previous.map(SecretString::from),
        issuer: "people".to_owned(),
        lifetime: Duration::from_hours(1),
        max_idle: None,
    })
}

fn state() -> LinkState {
    LinkState {
        user_id: USER,
        password_hash: Some("$argon2id$".into()),
        password_version: 3,
        email: Some("alice@example.com".to_owned()),
        email_version: 2,
    }
}

/// Every state that differs from [`state`] in one member.
fn other_states() -> Vec<LinkState> {
    let change = |change: fn(&mut LinkState)| {
        let mut state = state();
        change(&mut state);
        state
    };
    vec![
        change(|state| state.user_id = Uuid::from_u128(1)),
        change(|state| state.password_hash = None),
        change(|state| state.password_hash = Some("".into())),
        change(|state| state.password_hash = Some("$argon2id".into())),
        change(|state| state.password_version = 4),
        change(|state| state.email = None),
        change(|state| state.email = Some(String::new())),
        change(|state| state.email = Some("$alice@example.com".to_owned())),
    ]
}

fn opens(token: &str, keys: &LinkKeys, state: &LinkState, now: DateTime<Utc>) -> Option<Purpose> {
    PasswordToken::parse(token).ok()?.verify(keys, state, now).ok()
}

fn confirms(token: &str, keys: &LinkKeys, state: &LinkState, now: DateTime<Utc>) -> bool {
    EmailToken::parse(token).is_ok_and(|token| token.verify(keys, state, now).is_ok())
}

#[test]
fn a_password_link_is_valid_for_its_purpose_state_and_time() {
    let keys = keys(KEY, None);
    for (purpose, lifetime) in [
        (Purpose::Reset, TimeDelta::hours(1)),
        (Purpose::Invite, TimeDelta::days(7)),
    ] {
        let token = keys.password_token(purpose, &state(), ASKED_AT);
        assert_eq!(token.len(), 48);
        assert_eq!(token, keys.password_token(purpose, &state(), ASKED_AT));
        let opens = |state: &LinkState, after| opens(&token, &keys, state, ASKED_AT + after);
        assert_eq!(opens(&state(), TimeDelta::zero()), Some(purpose));
        assert_eq!(opens(&state(), lifetime - TimeDelta::seconds(1)), Some(purpose));
        assert_eq!(opens(&state(), lifetime), None);
        for other in other_states() {
            assert_eq!(opens(&other, TimeDelta::zero()), None, "{other:?}");
        }
    }
}

#[test]
fn an_email_link_is_valid_before_and_after_its_change() {
    let keys = keys(KEY, None);
    let new = "alice@example.org";
    let token = keys.email_token(&state(), new, ASKED_AT);
    assert_eq!(EmailToken::parse(&token).expect("well-formed").address(), new);
    let confirms = |state: &LinkState, after| confirms(&token, &keys, state, ASKED_AT + after);
    let now = TimeDelta::zero();
    assert!(confirms(&state(), now));
    assert!(confirms(&state(), EMAIL_LIFETIME - TimeDelta::seconds(1)));
    assert!(!confirms(&state(), EMAIL_LIFETIME));
    for other in other_states() {
        assert!(!confirms(&other, now), "{other:?}");
    }
    let with = |email: &str, email_version| LinkState {
        email: Some(email.to_owned()),
        email_version,
        ..state()
    };
    assert!(confirms(&with(new, 3), now));
    for (email, version) in [
        (new, 2),
        (new, 4),
        ("alice@example.com", 3),
        ("alice@example.com", 4),
    ] {
        assert!(!confirms(&with(email, version), now), "{email} {version}");
    }
}

#[test]
fn a_link_that_verifies_the_present_address_may_be_repeated() {
    let keys = keys(KEY, None);
    let token = keys.email_token(&state(), "alice@example.com", ASKED_AT);
    let after = LinkState {
        email_version: 3,
        ..state()
    };
    assert!(confirms(&token, &keys, &state(), ASKED_AT));
    assert!(confirms(&token, &keys, &after, ASKED_AT));
}

#[test]
fn a_previous_key_verifies_and_a_retired_one_does_not() {
    let token = keys(KEY, None).password_token(Purpose::Reset, &state(), ASKED_AT);
    let new = "another key for tests of 32 bytes or more";
    assert!(opens(&token, &keys(new, Some(KEY)), &state(), ASKED_AT).is_some());
    assert!(opens(&token, &keys(new, None), &state(), ASKED_AT).is_none());
}

#[test]
fn every_bit_of_a_link_counts() {
    let keys = keys(KEY, None);
    let password = keys.password_token(Purpose::Reset, &state(), ASKED_AT);
    let email = keys.email_token(&state(), "alice@example.org", ASKED_AT);
    for (token, valid) in [
        (
            &password,
            &(|token: &str| opens(token, &keys, &state(), ASKED_AT).is_some()) as &dyn Fn(&str) -> bool,
        ),
        (&email, &|token: &str| confirms(token, &keys, &state(), ASKED_AT)),
    ] {
        let bytes = URL_SAFE_NO_PAD.decode(token).expect("base64url");
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!valid(&URL_SAFE_NO_PAD.encode(changed)), "bit {bit}");
        }
        for shorter in 0..token.len() {
            assert!(!valid(&token[..shorter]), "{shorter} characters");
        }
        assert!(!valid(&format!("{token}=")));
        assert!(!valid(&format!("{token}A")));
        assert!(!valid(&format!("{token}AAAA")));
    }
    assert!(!confirms(&password, &keys, &state(), ASKED_AT));
    assert!(opens(&email, &keys, &state(), ASKED_AT).is_none());
}

#[test]
fn a_link_for_the_longest_address_is_accepted() {
    let keys = keys(KEY, None);
    let address = format!("{}@例子.中国", "𠮷".repeat(248));
    let token = keys.email_token(&state(), &address, ASKED_AT);
    assert!(confirms(&token, &keys, &state(), ASKED_AT));
}

proptest! {
    #[test]
    fn no_two_lists_of_parts_are_one_message(
        a in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)), 0..4),
        b in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)), 0..4),
    ) {
        let parts = |parts: &[Option<Vec<u8>>]| {
            message(&parts.iter().map(|part| part.as_deref()).collect::<Vec<_>>())
        };
        prop_assert_eq!(parts(&a) == parts(&b), a == b);
    }
}
