//! Fields of a registration: each userid has one canonical form, and accepted values satisfy what they were checked
//! for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::password_policy::PasswordPolicy;
use shared::users::{self, UserId};
use shared::validation::ValidationError;
use unicode_normalization::UnicodeNormalization;

// A userid, a user name, an e-mail address and a password, separated by a byte that does not occur in UTF-8.
fuzz_target!(|bytes: &[u8]| {
    let mut texts = bytes.split(|byte| *byte == 0xff).map(String::from_utf8_lossy);
    let [typed, user_name, email, sent] = std::array::from_fn(|_| texts.next().unwrap_or_default());
    userid(&typed);
    for text in [&typed, &user_name, &email] {
        field(users::user_name, 64, text);
        field(users::country_or_job, 64, text);
        field(users::init_cn_level, 32, text);
        field(users::phone, 32, text);
        field(users::email, 254, text);
    }
    let context = [&*typed, &*user_name, &*email].map(Some);
    password(&sent, &context);
    password(&typed, &context);
});

fn userid(typed: &str) {
    let canonical = UserId::canonical(typed);
    assert_eq!(
        UserId::canonical(canonical.as_str()),
        canonical,
        "not a fixed point"
    );
    for spelling in [
        typed.nfc().collect::<String>(),
        typed.nfd().collect(),
        typed.nfkc().collect(),
    ] {
        assert_eq!(
            UserId::canonical(&spelling),
            canonical,
            "a different userid for another spelling"
        );
    }
    let Ok(accepted) = UserId::new(typed) else {
        return;
    };
    assert_eq!(accepted, canonical);
    assert_eq!(
        UserId::new(accepted.as_str()).as_ref(),
        Ok(&accepted),
        "its canonical form is rejected"
    );
    let userid = accepted.as_str();
    assert!((1..=64).contains(&userid.chars().count()));
    assert!(!userid.chars().any(|c| c.is_control() || c.is_whitespace()));
}

/// An accepted value is the input without surrounding white space, and is accepted again.
fn field(check: fn(&str) -> Result<String, ValidationError>, max: usize, sent: &str) {
    let Ok(accepted) = check(sent) else {
        return;
    };
    assert_eq!(accepted, sent.trim());
    assert!(accepted.chars().count() <= max);
    assert!(!accepted.chars().any(char::is_control));
    assert_eq!(check(&accepted), Ok(accepted));
}

/// The documented length, no NUL, and the same result for all normalizations of a password.
fn password(typed: &str, context: &[Option<&str>]) {
    let policy = PasswordPolicy::new(8, &["people".to_owned()]);
    let check = |typed: &str| policy.check(typed, context).map(|_| ());
    let result = check(typed);
    assert_eq!(check(&typed.nfd().collect::<String>()), result);
    assert_eq!(check(&typed.nfc().collect::<String>()), result);
    if result.is_ok() {
        assert!((8..=128).contains(&typed.nfc().count()));
        assert!(!typed.contains('\0'));
    }
}
