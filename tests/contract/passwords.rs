//! Passwords: which are accepted, how they are hashed, and which stored hashes verify.
//! Hashes in this file were made by other implementations (the C reference of Argon2, bcrypt of Python).

use serde_json::json;
use shared::password_policy::PasswordPolicy;
use shared::validation::ValidationError;
use sqlx::Connection as _;
use tokio::task::JoinSet;

use crate::harness::{FAST, PASSWORD, Reply, Service};

const SHORT: &str = "must have at least 8 characters";
const LONG: &str = "must have at most 128 characters";
const COMMON: &str = "is one of the most common passwords";
const VARIATION: &str = "is a simple variation of a common password";
const GUESSED: &str = "is easily guessed from the userid, user name, e-mail, phone or the service's name";

/// A hash with the default parameters: 16 bytes of salt and 32 of hash, in unpadded base64.
const CURRENT: &str = r"^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$";

impl Service {
    async fn register_as(&self, userid: &str, password: &str) -> Reply {
        let body = json!({ "userid": userid, "password": password });
        self.post("/user/register", &body).await
    }

    /// Inserts a user with this hash.
    async fn seed(&self, userid: &str, hash: Option<&str>) {
        let mut connection = self.database.connect().await;
        sqlx::query("INSERT INTO people.\"user\" (userid, user_name, password_hash) VALUES ($1, $1, $2)")
            .bind(userid)
            .bind(hash)
            .execute(&mut connection)
            .await
            .expect("a new user");
        connection.close().await.expect("close");
    }

    /// Seeds users with these hashes and asserts that none of them can log in, and that each keeps its hash.
    /// All at the same time, since a failure may take its time.
    async fn assert_unusable(&self, hashes: &[Option<&str>]) {
        let mut logins = JoinSet::new();
        for (n, hash) in hashes.iter().enumerate() {
            let (service, userid) = (self.clone(), format!("user{n}"));
            self.seed(&userid, *hash).await;
            logins.spawn(async move { (n, service.log_in(&userid, PASSWORD).await) });
        }
        while let Some(login) = logins.join_next().await {
            let (n, reply) = login.expect("no panic");
            assert_eq!(reply.status, 401, "{:?}", hashes[n]);
            reply.assert_error(40101);
            assert_eq!(self.hash_of(&format!("user{n}")).await.as_deref(), hashes[n]);
        }
        assert_eq!(self.database.count("people.user_session").await, 0);
    }

    async fn hash_of(&self, userid: &str) -> Option<String> {
        let sql = format!("SELECT password_hash FROM people.\"user\" WHERE userid = '{userid}'");
        self.database.text(&sql).await
    }

    async fn has_current_hash(&self, userid: &str) -> bool {
        let hash = format!("people.\"user\" WHERE userid = '{userid}' AND password_hash ~ '{CURRENT}'");
        self.database.count(&hash).await == 1
    }
}

// Which passwords are accepted.

#[tokio::test]
async fn a_password_has_8_to_128_code_points() {
    let service = Service::start_with(&FAST).await;
    for (userid, password) in [
        ("a", "xkcd-936".to_owned()),
        ("b", "Ж龍🦀é∑ø¥ß".to_owned()),
        ("c", "🦀🐙🐢🐬🦊🦉🐝🐸".repeat(16)),
        // 256 code points before they are composed.
        (
            "d",
            "e\u{301}o\u{308}u\u{308}a\u{308}i\u{301}o\u{301}u\u{301}a\u{301}".repeat(16),
        ),
    ] {
        assert_eq!(
            service.register_as(userid, &password).await.status,
            200,
            "{userid}"
        );
        assert_eq!(service.log_in(userid, &password).await.status, 200, "{userid}");
    }
    for (password, message) in [
        ("", SHORT),
        ("xkcd-93", SHORT),
        ("Ж龍🦀é∑ø¥", SHORT),
        // 14 code points that are 7.
        ("e\u{301}o\u{308}u\u{308}a\u{308}i\u{301}o\u{301}u\u{301}", SHORT),
        (
            "🦀🐙🐢🐬🦊🦉🐝".repeat(19).get(..4 * 129).expect("129 of them"),
            LONG,
        ),
        ("x1y2z3".repeat(50).as_str(), LONG),
    ] {
        let reply = service.register_as("nobody", password).await;
        reply.assert_refused(&[("password", message)]);
    }
}

#[tokio::test]
async fn the_minimum_length_is_a_setting() {
    let settings = [FAST[0], FAST[1], ("PASSWORD_MIN_LENGTH", "15")];
    let service = Service::start_with(&settings).await;
    let reply = service.register_as("alice", "fourteen chars").await;
    reply.assert_refused(&[("password", "must have at least 15 characters")]);
    assert_eq!(service.register_as("alice", "fifteen chars :").await.status, 200);
    // An account from before the setting still logs in.
    let before = Service::on(service.database.clone(), &FAST);
    assert_eq!(before.register_as("bob", "xkcd-936").await.status, 200);
    assert_eq!(service.log_in("bob", "xkcd-936").await.status, 200);
}

#[tokio::test]
async fn no_byte_of_a_password_is_cut_off() {
    let service = Service::start_with(&FAST).await;
    for (n, length) in [72, 73, 74, 100, 128].into_iter().enumerate() {
        let userid = format!("user{n}");
        let start = "correct horse battery staple ".repeat(5);
        let start = &start[..length - 1];
        assert_eq!(
            service.register_as(&userid, &format!("{start}x")).await.status,
            200
        );
        let reply = service.log_in(&userid, &format!("{start}y")).await;
        reply.assert_error(40101);
        service.log_in(&userid, start).await.assert_error(40101);
        assert_eq!(service.log_in(&userid, &format!("{start}x")).await.status, 200);
    }
}

#[tokio::test]
async fn a_password_is_the_same_composed_or_not() {
    let service = Service::start_with(&FAST).await;
    let composed = "caf\u{e9} au lait \u{1e69} \u{ac00}";
    let decomposed = "cafe\u{301} au lait s\u{307}\u{323} \u{1100}\u{1161}";
    for (userid, typed) in [("a", composed), ("b", decomposed)] {
        assert_eq!(service.register_as(userid, typed).await.status, 200);
        for tried in [composed, decomposed] {
            assert_eq!(service.log_in(userid, tried).await.status, 200);
        }
        // Compatibility equivalents are another password.
        let wide = "ｃaf\u{e9} au lait \u{1e69} \u{ac00}";
        service.log_in(userid, wide).await.assert_error(40101);
    }
}

#[tokio::test]
async fn passwords_are_hashed_as_nfc_in_utf_8() {
    let service = Service::start_with(&FAST).await;
    // The C reference over "caf\u{e9} au lait".
    let hash =
        "$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$/RpOmvo1nVoa3ZPvpuHm76aASgtWIvTRz4yM+fZHT7g";
    service.seed("alice", Some(hash)).await;
    for typed in ["caf\u{e9} au lait", "cafe\u{301} au lait"] {
        assert_eq!(service.log_in("alice", typed).await.status, 200);
    }
}

#[tokio::test]
async fn nothing_is_trimmed_folded_or_ignored() {
    let service = Service::start_with(&FAST).await;
    for (n, (password, other)) in [
        (" xkcd-936 ", "xkcd-936"),
        ("xkcd-936\n", "xkcd-936"),
        ("\txkcd-936", "xkcd-936"),
        ("Xkcd-936", "xkcd-936"),
        ("xkcd  936 x", "xkcd 936 x"),
        ("xkcd\u{a0}936", "xkcd 936"),
        ("xkcd\u{200b}-936", "xkcd-936"),
        ("\u{feff}xkcd-936", "xkcd-936"),
        ("ﬁxkcd-936", "fixkcd-936"),
        ("xkcd-936\u{202e}", "xkcd-936"),
        ("xkcd\u{1}-936", "xkcd-936"),
        ("xkcd-936\u{fffd}", "xkcd-936?"),
    ]
    .into_iter()
    .enumerate()
    {
        let userid = format!("user{n}");
        assert_eq!(service.register_as(&userid, password).await.status, 200);
        let reply = service.log_in(&userid, other).await;
        reply.assert_error(40101);
        assert_eq!(service.log_in(&userid, password).await.status, 200);
    }
}

#[tokio::test]
async fn there_are_no_composition_rules() {
    let service = Service::start_with(&FAST).await;
    for (n, password) in [
        "aardvarkzebra",
        "UPPERONLYHERE",
        "82640917355",
        "!*(^)_-+={};",
        "   many spaces   ",
        "一二三四五六七八",
    ]
    .into_iter()
    .enumerate()
    {
        let reply = service.register_as(&format!("user{n}"), password).await;
        assert_eq!(reply.status, 200, "{password}");
    }
}

#[tokio::test]
async fn only_nul_is_not_allowed_in_passwords() {
    let service = Service::start_with(&FAST).await;
    for password in ["\u{0}xkcd-936", "xkcd\u{0}-936", "xkcd-936\u{0}", "\u{0}"] {
        let refused = [("password", "must not have a NUL character")];
        service
            .register_as("alice", password)
            .await
            .assert_refused(&refused);
        service.log_in("alice", password).await.assert_refused(&refused);
    }
}

#[tokio::test]
async fn common_passwords_are_refused_in_any_case_and_width() {
    let service = Service::start().await;
    for password in [
        "password",
        "12345678",
        "123456789",
        "1234567890",
        "qwertyuiop",
        "iloveyou",
        "sunshine",
        "princess",
        "football",
        "baseball",
        "superman",
        "starwars",
        "trustno1",
        "passw0rd",
        "password1",
        "password123",
        "11111111",
        "88888888",
        "abc12345",
        "1q2w3e4r",
        "1qaz2wsx",
        "whatever",
        "jennifer",
        "michelle",
        "computer",
        "letmein1",
        "admin123",
        "welcome1",
        "changeme",
        "PASSWORD",
        "PassWord",
        "SunShine",
        "ｐａｓｓｗｏｒｄ",
        "１２３４５６７８",
    ] {
        let reply = service.register_as("someone", password).await;
        assert_eq!(reply.status, 422, "{password}");
        reply.assert_refused(&[("password", COMMON)]);
    }
    assert_eq!(service.database.count("people.\"user\"").await, 0);
}

fn policy() -> PasswordPolicy {
    PasswordPolicy::new(8, &["people".to_owned()])
}

#[test]
fn every_listed_common_password_is_refused() {
    let list = include_str!("../../shared/src/common_passwords.txt");
    let policy = policy();
    let mut refused = 0;
    for password in list.lines() {
        let outcome = policy.check(password, &[]).err();
        assert_eq!(outcome, Some(ValidationError::CommonPassword), "{password}");
        refused += 1;
    }
    assert!(refused >= 3_000, "{refused}");
}

/// The password and its context in each line of a table, with the result.
fn judged(table: &str) -> impl Iterator<Item = (&str, Option<ValidationError>)> {
    let policy = policy();
    table.lines().map(move |line| {
        let (password, context) = line.split_once('\t').unwrap_or((line, ""));
        let context: Vec<_> = context.split('\t').map(Some).collect();
        (line, policy.check(password, &context).err())
    })
}

#[test]
fn common_passwords_their_variations_and_those_guessed_from_the_context_are_rejected() {
    use ValidationError::{CommonPassword, CommonPasswordVariation, GuessedFromContext};
    let table = include_str!("../passwords/refused.tsv");
    let mut count = 0;
    for (line, outcome) in judged(table) {
        assert!(
            matches!(
                outcome,
                Some(CommonPassword | CommonPasswordVariation | GuessedFromContext)
            ),
            "{line}: {outcome:?}"
        );
        count += 1;
    }
    assert!(count >= 200, "{count}");
}

#[test]
fn random_phrases_and_characters_are_accepted() {
    let table = include_str!("../passwords/accepted.tsv");
    let mut count = 0;
    for (line, outcome) in judged(table) {
        assert_eq!(outcome, None, "{line}");
        count += 1;
    }
    assert!(count >= 200, "{count}");
}

#[tokio::test]
async fn variations_of_common_passwords_are_refused() {
    let service = Service::start().await;
    for password in [
        "P@ssw0rd123",
        "Password123!",
        "aaaaaaaaaaaa",
        "abcdabcd",
        "12345678x",
        "ｐａｓｓｗｏｒｄ１２３！",
    ] {
        let reply = service.register_as("someone", password).await;
        reply.assert_refused(&[("password", VARIATION)]);
    }
}

#[tokio::test]
async fn the_names_of_the_service_are_a_setting_and_default_to_the_issuer() {
    let settings = [FAST[0], FAST[1], ("TOKEN_ISSUER", "quizmaster")];
    let service = Service::start_with(&settings).await;
    let guessed = [("password", GUESSED)];
    service
        .register_as("a", "quizmaster123!")
        .await
        .assert_refused(&guessed);
    assert_eq!(service.register_as("a", "mandarin 4 owls").await.status, 200);
    let other = [
        settings[0],
        settings[1],
        settings[2],
        ("PASSWORD_CONTEXT", "mandarinowl, 汉语"),
    ];
    let other = Service::on(service.database.clone(), &other);
    other
        .register_as("b", "M4ndarin0wl!")
        .await
        .assert_refused(&guessed);
    other
        .register_as("b", "汉语汉语2026!")
        .await
        .assert_refused(&guessed);
    assert_eq!(other.register_as("b", "quizmaster & I").await.status, 200);
}

#[tokio::test]
async fn a_password_that_is_little_more_than_userid_name_or_email_is_refused() {
    let service = Service::start().await;
    for (userid, user_name, email, password) in [
        ("brunhilde", None, None, "brunhilde"),
        ("brunhilde", None, None, "Brunhilde1!"),
        ("brunhilde", None, None, "BRUNHILDE2026"),
        ("brunhilde", None, None, "edlihnurb"),
        ("toastmeister", None, None, "70457m31573r"),
        ("toastmeister", None, None, "t0@$tm3!st3r"),
        ("toastmeister", None, None, "R3TSI3MTSAOT"),
        ("brunhilde", None, None, "brunhildebrunhilde"),
        ("brunhilde", None, None, "brun hil-de"),
        ("ｂrunhilde", None, None, "brunhilde!"),
        ("Brunhilde", None, None, "ＢＲＵＮＨＩＬＤＥ"),
        ("m.burns", None, None, "m.burns1"),
        ("mburns", Some("Charles Brunhilde"), None, "brunhilde"),
        ("mburns", Some("Charles Brunhilde"), None, "charles-brunhilde"),
        ("mburns", Some("Charles Brunhilde"), None, "brunhildeCHARLES"),
        ("mburns", None, Some("wsmithersby@plant.example"), "wsmithersby"),
        (
            "mburns",
            None,
            Some("wsmithersby@plant.example"),
            "wsmithersby@plant",
        ),
        (
            "mburns",
            None,
            Some("wsmithersby@plant.example"),
            "wsmithersby@plant.example",
        ),
        ("mburns", Some("李小龍武術家功夫"), None, "李小龍武術家功夫"),
    ] {
        let reply = service
            .register_with(
                json!({ "userid": userid, "user_name": user_name, "email": email, "password": password }),
            )
            .await;
        assert_eq!(reply.status, 422, "{password} for {userid}");
        reply.assert_refused(&[("password", GUESSED)]);
    }
    assert_eq!(service.database.count("people.\"user\"").await, 0);
}

#[tokio::test]
async fn a_password_that_is_the_users_phone_number_or_short_name_is_rejected() {
    let service = Service::start().await;
    for (user_name, phone, password) in [
        ("张三", "", "张三123456"),
        ("张三", "", "20261125张三"),
        ("李雷", "+86 138 1234 5678", "13812345678"),
        ("李雷", "１３８－１２３４－５６７８", "138 1234 5678"),
        ("Anna", "+49 (30) 901820", "030901820"),
        ("Anna", "+49 (30) 901820", "anna901820"),
    ] {
        let body =
            json!({ "userid": "someone", "user_name": user_name, "phone": phone, "password": password });
        let reply = service.post("/user/register", &body).await;
        reply.assert_refused(&[("password", GUESSED)]);
    }
}

#[tokio::test]
async fn a_long_phrase_that_contains_a_name_is_accepted() {
    let service = Service::start_with(&FAST).await;
    for (userid, password) in [
        ("brunhilde", "my cat brunhilde hates mondays"),
        ("ann", "annual planning of the annexe"),
        ("e", "eleven elephants eat everything"),
        ("al", "all alone along the alley"),
        ("bob", "correct horse bob staple"),
    ] {
        let reply = service.register_as(userid, password).await;
        assert_eq!(reply.status, 200, "{password}");
    }
}

#[tokio::test]
async fn a_refusal_never_shows_the_password() {
    let service = Service::start().await;
    for password in ["canary", "brunhilde1", &"canary".repeat(30), "canary\u{0}canary"] {
        let reply = service.register_as("brunhilde", password).await;
        assert_eq!(reply.status, 422);
        assert!(!reply.text.contains(password), "{}", reply.text);
        assert!(!reply.text.contains("canary"), "{}", reply.text);
    }
}

// How they are hashed.

#[tokio::test]
async fn a_new_hash_is_argon2id_with_the_default_parameters_and_a_salt_of_16_bytes() {
    let service = Service::start().await;
    service.register("alice").await;
    assert!(service.has_current_hash("alice").await);
}

#[tokio::test]
async fn the_parameters_are_settings() {
    let service = Service::start_with(&[
        ("ARGON2_MEMORY_KIB", "128"),
        ("ARGON2_ITERATIONS", "3"),
        ("ARGON2_PARALLELISM", "2"),
    ])
    .await;
    service.register("alice").await;
    let hash = service.hash_of("alice").await.expect("a hash");
    assert!(hash.starts_with("$argon2id$v=19$m=128,t=3,p=2$"), "{hash}");
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
    assert_eq!(service.hash_of("alice").await, Some(hash));
}

#[tokio::test]
async fn every_hash_has_a_salt_of_its_own() {
    let service = Service::start_with(&FAST).await;
    for userid in ["a", "b", "c"] {
        service.register(userid).await;
    }
    let salts = "(SELECT DISTINCT split_part(password_hash, '$', 5) FROM people.\"user\") AS salts";
    assert_eq!(service.database.count(salts).await, 3);
}

#[tokio::test]
async fn a_login_leaves_a_current_hash_as_it_is() {
    let service = Service::start().await;
    // The C reference, with the default parameters.
    let hash =
        "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$gYJZtjEAJqjg26xdLmknq8/bB7MiWPrE9hsYuA+SkIU";
    service.seed("alice", Some(hash)).await;
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
    assert_eq!(service.hash_of("alice").await.as_deref(), Some(hash));
}

/// Hashes of [`PASSWORD`] that verify and have to be replaced.
const OUTDATED: [&str; 10] = [
    // Weaker, stronger, other parameters.
    "$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog",
    "$argon2id$v=19$m=64,t=10,p=4$AAECAwQFBgcICQoLDA0ODw$+g0wC4+A9gV2oC4fGlBaBHeyBPF8OqwdIYR7rIF+uCA",
    // An older version of Argon2, a shorter salt, a shorter hash.
    "$argon2id$v=16$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$rrP6DQa6O+rHVmG0msZIIwOFJ2/7wun2k9QtG9bof9Y",
    "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgc$Txb3Bs6uhCpVPmTaTm8+J3GRJ9rN32QChHbjfodWMMs",
    "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$kR1KtUbQOkm51miqXxYZzQ",
    // bcrypt with each of its prefixes.
    "$2a$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG",
    "$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG",
    "$2y$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG",
    "$2b$10$abcdefghijklmnopqrstuuGGgFFcYeueaAql8Z7U7CnCTRw4DR77W",
    "$2b$12$abcdefghijklmnopqrstuu0sDWleciW5uGBGYwxpcgAsh9WK4bWNy",
];

#[tokio::test]
async fn a_login_replaces_a_hash_of_another_kind_or_with_other_parameters() {
    let service = Service::start().await;
    for (n, hash) in OUTDATED.into_iter().enumerate() {
        let userid = format!("user{n}");
        service.seed(&userid, Some(hash)).await;
        assert_eq!(service.log_in(&userid, PASSWORD).await.status, 200, "{hash}");
        assert!(service.has_current_hash(&userid).await, "{hash}");
        assert_eq!(service.log_in(&userid, PASSWORD).await.status, 200, "{hash}");
        let reply = service.log_in(&userid, "wrong").await;
        reply.assert_error(40101);
    }
}

#[tokio::test]
async fn a_failed_login_replaces_no_hash() {
    let service = Service::start().await;
    for (n, hash) in [OUTDATED[0], OUTDATED[5]].into_iter().enumerate() {
        let userid = format!("user{n}");
        service.seed(&userid, Some(hash)).await;
        let reply = service.log_in(&userid, "wrong").await;
        reply.assert_error(40101);
        assert_eq!(service.hash_of(&userid).await.as_deref(), Some(hash));
    }
}

#[tokio::test]
async fn a_hash_that_changed_during_the_login_is_not_replaced() {
    let service = Service::start().await;
    service.seed("alice", Some(OUTDATED[0])).await;
    // Somebody else sets a password between reading and replacing; here while the attempt is being counted.
    service
        .database
        .execute(
            "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN UPDATE people.\"user\" SET password_hash = 'changed meanwhile'; RETURN NULL; END $$;
             CREATE TRIGGER change AFTER INSERT ON people.attempt FOR EACH STATEMENT EXECUTE FUNCTION change()",
        )
        .await;
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
    assert_eq!(
        service.hash_of("alice").await.as_deref(),
        Some("changed meanwhile")
    );
}

#[tokio::test]
async fn a_hash_that_cannot_be_replaced_does_not_fail_the_login() {
    let service = Service::start().await;
    service.seed("alice", Some(OUTDATED[5])).await;
    service
        .database
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON people.\"user\" FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    let token = service.log_in("alice", PASSWORD).await.access_token();
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
    assert_eq!(service.hash_of("alice").await.as_deref(), Some(OUTDATED[5]));
}

#[tokio::test]
async fn a_form_login_replaces_a_hash_too() {
    let service = Service::start().await;
    service.seed("alice", Some(OUTDATED[6])).await;
    let form = "username=alice&password=correct+horse+battery+staple";
    assert_eq!(service.post_form(form).await.status, 200);
    assert!(service.has_current_hash("alice").await);
}

#[tokio::test]
async fn the_database_knows_which_kinds_of_hash_are_in_use() {
    let service = Service::start_with(&FAST).await;
    let kinds = "array_to_string(people.hash_kinds(16), ' ')";
    assert_eq!(service.database.text(kinds).await.as_deref(), Some(""));
    service.register("new").await;
    for (n, hash) in OUTDATED.into_iter().chain(OUTDATED).enumerate() {
        service.seed(&format!("user{n}"), Some(hash)).await;
    }
    let without_version = OUTDATED[0].replace("$v=19", "");
    for (n, hash) in [None, Some(""), Some("$"), Some("$5$x$y"), Some(&*without_version)]
        .into_iter()
        .enumerate()
    {
        service.seed(&format!("other{n}"), hash).await;
    }
    assert_eq!(
        service.database.text(kinds).await.as_deref(),
        Some(
            "$2a$04 $2b$04 $2b$10 $2b$12 $2y$04 $argon2id$m=64,t=1,p=1 $argon2id$v=16$m=19456,t=2,p=1 \
             $argon2id$v=19$m=19456,t=2,p=1 $argon2id$v=19$m=64,t=1,p=1 $argon2id$v=19$m=64,t=10,p=4"
        )
    );
    let few = "array_to_string(people.hash_kinds(2), ' ')";
    assert_eq!(service.database.text(few).await.as_deref(), Some("$2a$04 $2b$04"));
}

// Which stored hashes verify.

#[tokio::test]
async fn a_hash_made_by_the_bcrypt_crate_verifies() {
    let service = Service::start_with(&FAST).await;
    for (userid, version) in [
        ("a", bcrypt::Version::TwoA),
        ("b", bcrypt::Version::TwoB),
        ("y", bcrypt::Version::TwoY),
    ] {
        let hash = bcrypt::hash_with_result(PASSWORD, 4).expect("a hash");
        service
            .seed(userid, Some(&hash.format_for_version(version)))
            .await;
        assert_eq!(service.log_in(userid, PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn bcrypt_uses_72_bytes_and_its_replacement_all() {
    let service = Service::start_with(&FAST).await;
    // Over 72 times the letter a.
    let hash = "$2b$04$abcdefghijklmnopqrstuuBzzIgyKkz7xMWYSzkIjUSnxEQFQ0WNe";
    let a = |count: usize| "a".repeat(count);
    service.seed("alice", Some(hash)).await;
    service.log_in("alice", &a(71)).await.assert_error(40101);
    let different = format!("{}b", a(71));
    service.log_in("alice", &different).await.assert_error(40101);
    assert_eq!(
        service.log_in("alice", &format!("{}xyz", a(72))).await.status,
        200
    );
    // From now on, the typed password counts in full.
    let reply = service.log_in("alice", &a(72)).await;
    reply.assert_error(40101);
    assert_eq!(
        service.log_in("alice", &format!("{}xyz", a(72))).await.status,
        200
    );
}

#[tokio::test]
async fn a_bcrypt_hash_of_either_normal_form_verifies() {
    let service = Service::start_with(&FAST).await;
    let of_decomposed = "$2b$04$abcdefghijklmnopqrstuu.oMTCQjdCbYvSW3IQEvGWmdb6wOIFXe";
    let of_composed = "$2b$04$abcdefghijklmnopqrstuumeEFg6zY3F9UMkjHzpfyE4WkVj6Z2cW";
    let (composed, decomposed) = ("caf\u{e9} au lait", "cafe\u{301} au lait");
    service.seed("a", Some(of_composed)).await;
    assert_eq!(service.log_in("a", decomposed).await.status, 200);
    service.seed("b", Some(of_decomposed)).await;
    assert_eq!(service.log_in("b", decomposed).await.status, 200);
    assert_eq!(service.log_in("b", composed).await.status, 200);
}

#[tokio::test]
async fn an_account_without_a_usable_hash_cannot_log_in() {
    let service = Service::start_with(&FAST).await;
    service
.assert_unusable(&[

        None,
        Some(""),
        Some(" "),
        Some(PASSWORD),
        Some("$"),
        Some("!"),
        Some("x"),
        Some("$argon2id$"),
        Some("$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw"),
        Some("$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$"),
        Some("$argon2id$v=19$m=64,t=1,p=1$$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog"),
        Some(
            "$argon2id$v=18$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog",
        ),
        Some("$argon2id$v=19$m=0,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog"),
        Some(
            "$argon2id$v=19$m=64,t=0,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog",
        ),
        Some(
            "$argon2id$v=19$m=-64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog",
        ),
        // A salt of 4 bytes.
        Some("$argon2id$v=19$m=64,t=1,p=1$AAECAw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog"),
        // Unsupported kinds, although the password is right.
        Some("$argon2i$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$ZeAtnMLtJJxSZvE8sdM45LGYXGE7j3Ldm0M784m8M/w"),
        Some("$argon2d$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$hvol6Tdu9XX+kNFt1PztIn2Ytghw71Ftmap42MA2COw"),
        Some("$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6C"),
        Some("$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CGG"),
        Some("$2b$04$!bcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"),
        Some("$2x$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"),
        Some("$2$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"),
        Some("$2b$$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"),
        Some("$2b$xx$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"),
        Some("$2b$03$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG"),
        Some("$5$rounds=1000$x$y"),
        Some("$pbkdf2-sha256$i=1$AAAA$AAAA"),
        Some("5f4dcc3b5aa765d61d8327deb882cf99"),
        Some("é龍🦀"),
    ]).await;
}

#[tokio::test]
async fn stored_parameters_beyond_the_limits_are_rejected_even_with_the_right_password() {
    let service = Service::start_with(&FAST).await;
    service.assert_unusable(&[
        Some("$argon2id$v=19$m=262145,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$6aF3l/8WMd24lZrlJqKfPjz8Vml7JEd27mvnvPPX4i0"),
        Some("$argon2id$v=19$m=64,t=11,p=1$AAECAwQFBgcICQoLDA0ODw$LawnsvLATxmUDnx+QrDNhKi3eRQ3c34q6pl9F9B/MVU"),
        Some("$argon2id$v=19$m=64,t=1,p=5$AAECAwQFBgcICQoLDA0ODw$3aWmvSpdDgG8CiOMO5++7xzE9/W0wKvRZn2Qs8RFlKM"),
        Some("$2b$15$abcdefghijklmnopqrstuuaQUsXyxrRnqw/gKK2LRfkPigOrvfc.S"),
    ]).await;
}

#[tokio::test]
async fn impossible_stored_parameters_are_rejected() {
    let service = Service::start_with(&FAST).await;
    let argon2 = [
        "m=2147483648,t=1,p=1",
        "m=4294967295,t=1,p=1",
        "m=4294967296,t=1,p=1",
        "m=64,t=4294967295,p=1",
        "m=64,t=1,p=16777215",
        "m=2147483648,t=4294967295,p=16777215",
    ]
    .map(|parameters| {
        format!(
            "$argon2id$v=19${parameters}$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog"
        )
    });
    let bcrypt = ["31", "32", "99", "4294967295", "4294967296", "-1"]
        .map(|cost| format!("$2b${cost}$abcdefghijklmnopqrstuuaQUsXyxrRnqw/gKK2LRfkPigOrvfc.S"));
    let hashes: Vec<_> = argon2
        .iter()
        .chain(&bcrypt)
        .map(|hash| Some(hash.as_str()))
        .collect();
    service.assert_unusable(&hashes).await;
}
