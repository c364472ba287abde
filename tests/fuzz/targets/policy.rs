//! What may be registered: one canonical form for each userid, and no field that is not what it was checked to be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::password_policy::PasswordPolicy;
use shared::users::{self, UserId};
use shared::validation::ValidationError;
use unicode_normalization::UnicodeNormalization;

// A userid, a user name, an e-mail address and a password, separated by a byte that UTF-8 does not have.
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
    let context: [&str; 3] = [&typed, &user_name, &email];
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
        assert_eq!(UserId::canonical(&spelling), canonical, "a spelling of its own");
    }
    let Ok(accepted) = UserId::new(typed) else {
        return;
    };
    assert_eq!(accepted, canonical);
    assert_eq!(
        UserId::new(accepted.as_str()).as_ref(),
        Ok(&accepted),
        "its own form is refused"
    );
    let userid = accepted.as_str();
    assert!((1..=64).contains(&userid.chars().count()));
    assert!(!userid.chars().any(|c| c.is_control() || c.is_whitespace()));
}

/// An accepted value is what was sent but for surrounding white space, and would be accepted again.
fn field(check: fn(&str) -> Result<String, ValidationError>, most: usize, sent: &str) {
    let Ok(accepted) = check(sent) else {
        return;
    };
    assert_eq!(accepted, sent.trim());
    assert!(accepted.chars().count() <= most);
    assert!(!accepted.chars().any(char::is_control));
    assert_eq!(check(&accepted), Ok(accepted));
}

/// The length that the contract states, no NUL, and one judgement for the spellings of one password.
fn password(typed: &str, context: &[&str]) {
    let policy = PasswordPolicy::new(8, &["people".to_owned()]);
    let judge = |typed: &str| policy.check(typed, context).map(|_| ());
    let judgement = judge(typed);
    assert_eq!(judge(&typed.nfd().collect::<String>()), judgement);
    assert_eq!(judge(&typed.nfc().collect::<String>()), judgement);
    if judgement.is_ok() {
        assert!((8..=128).contains(&typed.nfc().count()));
        assert!(!typed.contains('\0'));
    }
}
