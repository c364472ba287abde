//! `POST /user/register`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::users::UserId;

use crate::harness::{FAST, PASSWORD, Reply, Service};
use crate::snapshot::assert_reply;

const MANY: &str = "must have 1 to 64 characters";
const INVISIBLE: &str = "must not have white space, control or invisible characters";
const CONTROL: &str = "must not have control characters";
const AT_MOST_64: &str = "must have at most 64 characters";
const AT_MOST_32: &str = "must have at most 32 characters";
const PHONE: &str = "must have only digits and + ( ) - . and spaces";
const EMAIL: &str = "must be an e-mail address of at most 254 characters";

impl Service {
    async fn users(&self) -> i64 {
        self.database.count("people.\"user\"").await
    }
}

/// Asserts the whole response to a registration: alice without optional members, overridden by these members.
#[track_caller]
fn assert_registered(reply: &Reply, members: Value) {
    let mut info = json!({
        "userid": "alice",
        "user_name": "alice",
        "country": null,
        "job": null,
        "phone": null,
        "email": null,
        "email_verified": false,
        "init_cn_level": null,
        "roles": [],
    });
    for made in ["user_id", "reg_time"] {
        info[made] = reply.json()["data"]["user_info"][made].take();
    }
    let Value::Object(members) = members else {
        panic!("an object")
    };
    info.as_object_mut().expect("an object").extend(members);
    reply.assert_success(&json!({ "user_info": info }));
}

#[tokio::test]
async fn userid_and_password_are_enough() {
    let service = Service::start().await;
    assert_reply!(service.register("alice").await, @r#"
    200 {"code":1,"message":"success","data":{"user_info":{"user_id":"[uuid]","userid":"alice",
      "user_name":"alice","country":null,"job":null,"phone":null,"email":null,"email_verified":false,
      "init_cn_level":null,"roles":[],"reg_time":"[now]"}}}
    "#);
}

#[tokio::test]
async fn every_optional_member_is_returned_as_sent() {
    let service = Service::start().await;
    let reply = service
        .register_with(json!({
            "userid": "Ａlice",
            "user_name": "Алиса 爱丽丝",
            "country": "中国",
            "job": "Engineer (Rust) 🦀",
            "phone": "+49 (30) 123-45.67",
            "email": "Alice@Example.COM",
            "init_cn_level": "HSK 3",
        }))
        .await;
    assert_reply!(reply, @r#"
    200 {"code":1,"message":"success","data":{"user_info":{"user_id":"[uuid]","userid":"alice",
      "user_name":"Алиса 爱丽丝","country":"中国","job":"Engineer (Rust) 🦀",
      "phone":"+49 (30) 123-45.67","email":"Alice@Example.COM","email_verified":false,
      "init_cn_level":"HSK 3","roles":[],"reg_time":"[now]"}}}
    "#);
    let stored = service
        .database
        .text(
            "SELECT concat_ws('|', userid, user_name, country, job, phone, email, init_cn_level) FROM people.\"user\"",
        )
        .await;
    assert_eq!(
        stored.as_deref(),
        Some("alice|Алиса 爱丽丝|中国|Engineer (Rust) 🦀|+49 (30) 123-45.67|Alice@Example.COM|HSK 3")
    );
}

#[tokio::test]
async fn user_id_and_reg_time_are_those_of_the_row() {
    let service = Service::start().await;
    let info = service.register("alice").await.json()["data"]["user_info"].take();
    let user_id = service.database.text("SELECT user_id FROM people.\"user\"").await;
    assert_eq!(info["user_id"].as_str(), user_id.as_deref());
    let sql = "SELECT to_char(reg_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM people.\"user\"";
    let stored: DateTime<Utc> = service
        .database
        .text(sql)
        .await
        .expect("a time")
        .parse()
        .expect("RFC 3339");
    let told: DateTime<Utc> = info["reg_time"]
        .as_str()
        .expect("text")
        .parse()
        .expect("RFC 3339");
    assert_eq!(told, stored);
    let recent = service
        .database
        .text("SELECT reg_time BETWEEN now() - interval '1 hour' AND now() FROM people.\"user\"")
        .await;
    assert_eq!(recent.as_deref(), Some("true"));
}

#[tokio::test]
async fn a_registration_writes_the_user_and_no_session() {
    let service = Service::start().await;
    assert_eq!(service.register("alice").await.status, 200);
    assert_eq!(service.users().await, 1);
    assert_eq!(service.database.count("people.user_session").await, 0);
}

#[tokio::test]
async fn neither_password_nor_hash_is_in_the_answer() {
    let service = Service::start().await;
    let reply = service.register("alice").await;
    assert!(!reply.text.contains(PASSWORD), "{}", reply.text);
    assert!(!reply.text.contains("argon2"), "{}", reply.text);
    assert!(!reply.text.contains("hash"), "{}", reply.text);
    let hash = service
        .database
        .text("SELECT password_hash FROM people.\"user\"")
        .await
        .expect("a hash");
    assert!(!hash.contains(PASSWORD), "{hash}");
}

#[tokio::test]
async fn optional_members_may_be_null() {
    let service = Service::start().await;
    let reply = service
        .register_with(json!({
            "user_name": null,
            "country": null,
            "job": null,
            "phone": null,
            "email": null,
            "init_cn_level": null,
        }))
        .await;
    assert_registered(&reply, json!({}));
}

#[tokio::test]
async fn members_that_are_not_declared_are_ignored() {
    let service = Service::start().await;
    let reply = service
        .register_with(json!({
            "user_id": "00000000-0000-4000-8000-000000000000",
            "reg_time": "2000-01-01T00:00:00Z",
            "password_hash": "$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG",
            "is_admin": true,
            "USERID": "mallory",
            "__proto__": { "userid": "mallory" },
        }))
        .await;
    assert_registered(&reply, json!({}));
    let untouched = service
        .database
        .text(
            "SELECT user_id <> '00000000-0000-4000-8000-000000000000' AND reg_time > '2001-01-01'
                AND password_hash LIKE '$argon2id$%' FROM people.\"user\"",
        )
        .await;
    assert_eq!(untouched.as_deref(), Some("true"));
}

#[tokio::test]
async fn spellings_of_a_userid_are_one_account() {
    let service = Service::start().await;
    assert_eq!(service.register("Alice").await.status, 200);
    for userid in [
        "alice",
        "ALICE",
        "aLiCe",
        "Ａlice",
        "ａｌｉｃｅ",
        "ⓐlice",
        "𝐀𝐥𝐢𝐜𝐞",
        "ᴬLICE",
    ] {
        let reply = service.register(userid).await;
        reply.assert_error(40901);
    }
    assert_eq!(service.users().await, 1);
}

#[tokio::test]
async fn userids_that_only_look_alike_are_different_accounts() {
    let service = Service::start().await;
    // With an accent; dotless i; a digit.
    for userid in ["alice", "alicé", "alıce", "a1ice"] {
        assert_eq!(service.register(userid).await.status, 200, "{userid}");
    }
    assert_eq!(service.users().await, 4);
}

#[tokio::test]
async fn a_taken_userid_leaves_the_account_as_it_was() {
    let service = Service::start().await;
    service.register("alice").await;
    let row = "SELECT u FROM people.\"user\" u";
    let before = service.database.text(row).await;
    let reply = service
        .register_with(
            json!({ "userid": "ALICE", "password": "another password entirely", "user_name": "Mallory" }),
        )
        .await;
    reply.assert_error(40901);
    assert_eq!(service.database.text(row).await, before);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn the_userid_is_stored_in_its_canonical_form() {
    let service = Service::start().await;
    for (typed, canonical) in [
        ("ALICE", "alice"),
        ("Ａlice", "alice"),
        ("ÉMILE", "émile"),
        ("E\u{301}mile", "émile"),
        ("ﬁona", "fiona"),
        // Composed only after it is lower-cased.
        ("J\u{30c}an", "\u{1f0}an"),
        ("Straße", "straße"),
        ("STRASSE", "strasse"),
        ("İstanbul", "i\u{307}stanbul"),
        ("李小龍", "李小龍"),
        ("①②", "12"),
        ("ｶﾞ", "ガ"),
        ("o'brien;--", "o'brien;--"),
        ("<script>", "<script>"),
        ("%00", "%00"),
        ("a@b.example", "a@b.example"),
        ("🦀", "🦀"),
    ] {
        assert_registered(
            &service.register(typed).await,
            json!({ "userid": canonical, "user_name": typed }),
        );
        service.database.execute("DELETE FROM people.\"user\"").await;
    }
}

#[tokio::test]
async fn a_userid_has_1_to_64_code_points_in_its_canonical_form() {
    let service = Service::start().await;
    let accepted = [
        "a".to_owned(),
        "b".repeat(64),
        "é".repeat(64),
        // Twice as many code points before they are composed.
        "o\u{308}".repeat(64),
        "龍".repeat(64),
    ];
    for userid in &accepted {
        let reply = service
            .register_with(json!({ "userid": userid, "user_name": "x" }))
            .await;
        assert_eq!(reply.status, 200, "{userid}");
    }
    let refused = [
        String::new(),
        "a".repeat(65),
        "é".repeat(65),
        // Each becomes two, or eighteen.
        "ﬁ".repeat(33),
        "İ".repeat(33),
        "a".repeat(1_000),
    ];
    for userid in &refused {
        service.register(userid).await.assert_refused(&[("userid", MANY)]);
    }
    assert_eq!(service.users().await, 5);
}

#[tokio::test]
async fn a_userid_has_no_white_space_control_format_unassigned_or_private_use_characters() {
    let service = Service::start().await;
    for c in [
        // White space.
        ' ',
        '\t',
        '\n',
        '\r',
        '\u{b}',
        '\u{c}',
        '\u{85}',
        '\u{a0}',
        '\u{1680}',
        '\u{2003}',
        '\u{2028}',
        '\u{2029}',
        '\u{202f}',
        '\u{205f}',
        '\u{3000}',
        // Becomes a space and an accent.
        '\u{b4}',
        '\u{a8}',
        // Control.
        '\0',
        '\u{1}',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{9f}',
        // Format: soft hyphen, zero width, bidi marks, embeddings and isolates, BOM, tag.
        '\u{ad}',
        '\u{61c}',
        '\u{180e}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{feff}',
        '\u{fff9}',
        '\u{e0041}',
        // Unassigned, noncharacters among them.
        '\u{378}',
        '\u{fdd0}',
        '\u{fffe}',
        '\u{ffff}',
        '\u{10ffff}',
        '\u{e1000}',
        // Private use.
        '\u{e000}',
        '\u{f8ff}',
        '\u{f0000}',
        '\u{10fffd}',
    ] {
        for userid in [format!("{c}alice"), format!("al{c}ice"), format!("alice{c}")] {
            let reply = service.register(&userid).await;
            assert_eq!(reply.status, 422, "{}", c.escape_unicode());
            reply.assert_refused(&[("userid", INVISIBLE)]);
        }
    }
    assert_eq!(service.users().await, 0);
}

#[tokio::test]
async fn no_ignorable_or_blank_code_point_is_anywhere_in_a_userid() {
    let service = Service::start().await;
    for c in [
        '\u{3164}',
        '\u{34f}',
        '\u{115f}',
        '\u{1160}',
        '\u{ffa0}',
        '\u{17b4}',
        '\u{17b5}',
        '\u{180b}',
        '\u{180f}',
        '\u{2065}',
        '\u{206a}',
        '\u{fe00}',
        '\u{fe0f}',
        '\u{fff0}',
        '\u{1bca0}',
        '\u{1d173}',
        '\u{e0000}',
        '\u{e0100}',
        '\u{e0fff}',
        '\u{2800}',
        '\u{16fe4}',
        '\u{1d159}',
    ] {
        for userid in [
            c.to_string(),
            format!("{c}admin"),
            format!("ad{c}min"),
            format!("admin{c}"),
        ] {
            let reply = service.register(&userid).await;
            assert_eq!(reply.status, 422, "{}", userid.escape_unicode());
            reply.assert_refused(&[("userid", INVISIBLE)]);
        }
    }
    assert_eq!(service.users().await, 0);
}

#[tokio::test]
async fn a_userid_does_not_begin_with_a_combining_mark() {
    let service = Service::start().await;
    for userid in ["\u{301}alice", "\u{20dd}a", "\u{93e}राम", "\u{301}"] {
        let reply = service.register(userid).await;
        reply.assert_refused(&[("userid", "must not begin with a combining mark")]);
    }
    assert_eq!(service.register("a\u{303}\u{301}\u{20dd}b").await.status, 200);
}

#[tokio::test]
async fn a_userid_mixes_only_scripts_that_are_written_together() {
    let service = Service::start().await;
    let message = "must be of one script (Latin may stand with Han, kana, Bopomofo or Hangul)";
    for userid in [
        "\u{430}pple",
        "PAYPA\u{41b}",
        "αlice",
        "иванivan",
        "दravid",
        "ひ김",
        "李ж",
        "ⅰи",
    ] {
        let reply = service.register(userid).await;
        reply.assert_refused(&[("userid", message)]);
    }
    assert_eq!(service.users().await, 0);
    for userid in [
        "иван",
        "γιώργος",
        "דוד",
        "محمد",
        "राम",
        "李ひカa",
        "李ㄅb",
        "李김c",
        "иван_2026",
        "a@b.c",
        "http://x",
        "🦀→★",
        "l·l",
        "42",
    ] {
        assert_eq!(service.register(userid).await.status, 200, "{userid}");
    }
}

#[tokio::test]
async fn a_userid_older_than_a_rule_still_logs_in() {
    let service = Service::start_with(&FAST).await;
    for userid in ["\u{3164}", "ad\u{34f}min", "\u{430}pple", "\u{301}x", "a b"] {
        assert_eq!(service.register("newcomer").await.status, 200);
        let rename = format!(
            "UPDATE people.\"user\" SET userid = '{}' WHERE userid = 'newcomer'",
            UserId::canonical(userid).as_str()
        );
        service.database.execute(&rename).await;
        assert_eq!(
            service.log_in(userid, PASSWORD).await.status,
            200,
            "{}",
            userid.escape_unicode()
        );
    }
}

#[tokio::test]
async fn an_empty_optional_member_counts_as_absent() {
    let service = Service::start().await;
    for field in ["user_name", "country", "job", "phone", "email", "init_cn_level"] {
        let reply = service.register_with(json!({ field: "" })).await;
        assert_registered(&reply, json!({}));
        service.database.execute("DELETE FROM people.\"user\"").await;
    }
    for field in ["userid", "password"] {
        assert_eq!(service.register_with(json!({ field: "" })).await.status, 422);
    }
}

#[tokio::test]
async fn the_display_name_is_the_userid_as_typed_unless_given() {
    let service = Service::start().await;
    assert_registered(
        &service.register("Ａlice").await,
        json!({ "user_name": "Ａlice" }),
    );
    let reply = service
        .register_with(json!({ "userid": "BOB", "user_name": "Robert" }))
        .await;
    assert_registered(&reply, json!({ "userid": "bob", "user_name": "Robert" }));
}

#[tokio::test]
async fn a_userid_that_is_too_long_as_typed_is_the_display_name_in_its_canonical_form() {
    let service = Service::start().await;
    let reply = service.register(&"o\u{308}".repeat(64)).await;
    assert_registered(
        &reply,
        json!({ "userid": &"ö".repeat(64), "user_name": &"ö".repeat(64) }),
    );
}

#[tokio::test]
async fn a_display_name_has_1_to_64_code_points() {
    let service = Service::start().await;
    for (userid, name) in [("a", "x".to_owned()), ("b", "🦀".repeat(64))] {
        let reply = service
            .register_with(json!({ "userid": userid, "user_name": name }))
            .await;
        assert_registered(&reply, json!({ "userid": userid, "user_name": &name }));
    }
    for name in [" ", "\u{3000}"] {
        let reply = service.register_with(json!({ "user_name": name })).await;
        reply.assert_refused(&[("user_name", MANY)]);
    }
    for name in ["\u{3164}", "\u{200b}\u{2800}", "\u{34f} \u{fe0f}"] {
        let reply = service.register_with(json!({ "user_name": name })).await;
        reply.assert_refused(&[("user_name", "must have a visible character")]);
    }
    let reply = service
        .register_with(json!({ "user_name": "🦀".repeat(65) }))
        .await;
    reply.assert_refused(&[("user_name", AT_MOST_64)]);
}

#[tokio::test]
async fn control_characters_are_rejected_in_every_text() {
    let service = Service::start().await;
    for field in ["user_name", "country", "job", "init_cn_level", "phone"] {
        for text in [
            "1\u{0}2",
            "1\n2",
            "1\r2",
            "1\u{1b}[2m",
            "1\u{7f}2",
            "1\u{85}2",
            "1\u{9f}2",
        ] {
            let reply = service.register_with(json!({ field: text })).await;
            reply.assert_refused(&[(field, CONTROL)]);
        }
    }
    let reply = service.register_with(json!({ "email": "a\n@example.com" })).await;
    reply.assert_refused(&[("email", EMAIL)]);
    assert_eq!(service.users().await, 0);
}

#[tokio::test]
async fn country_and_job_have_at_most_64_code_points_and_the_level_32() {
    for (field, most, message) in [
        ("country", 64, AT_MOST_64),
        ("job", 64, AT_MOST_64),
        ("init_cn_level", 32, AT_MOST_32),
    ] {
        let service = Service::start().await;
        let reply = service
            .register_with(json!({ field: "é".repeat(most + 1) }))
            .await;
        reply.assert_refused(&[(field, message)]);
        let text = "é".repeat(most);
        let reply = service.register_with(json!({ field: text })).await;
        assert_registered(&reply, json!({ field: text }));
    }
}

#[tokio::test]
async fn white_space_around_a_text_is_not_stored() {
    let service = Service::start().await;
    let reply = service
        .register_with(json!({
            "user_name": " \u{3000}Alice  Liddell\t",
            "country": "\nUK\r\n",
            "job": "  ",
            "phone": " 123 ",
            "email": " alice@example.com\u{a0}",
            "init_cn_level": "\u{2003}HSK 1\u{2003}",
        }))
        .await;
    assert_reply!(reply, @r#"
    200 {"code":1,"message":"success","data":{"user_info":{"user_id":"[uuid]","userid":"alice",
      "user_name":"Alice  Liddell","country":"UK","job":null,"phone":"123","email":"alice@example.com",
      "email_verified":false,"init_cn_level":"HSK 1","roles":[],"reg_time":"[now]"}}}
    "#);
}

#[tokio::test]
async fn a_phone_number_has_at_most_32_characters() {
    let service = Service::start().await;
    for phone in [
        "12x",
        "1/2",
        "+49_30",
        "١٢٣",
        "⑴⑵⑶⑷⑸⑹⑺⑻⑼⑽x",
        "tel:123",
        "1,2",
        "1\u{2011}2",
        "#1",
        "*1",
    ] {
        let reply = service.register_with(json!({ "phone": phone })).await;
        reply.assert_refused(&[("phone", PHONE)]);
    }
    let reply = service.register_with(json!({ "phone": "1".repeat(33) })).await;
    reply.assert_refused(&[("phone", AT_MOST_32)]);
    // Each becomes three.
    let reply = service.register_with(json!({ "phone": "⑴".repeat(11) })).await;
    reply.assert_refused(&[("phone", AT_MOST_32)]);
    let full_width = "＋８６　（１３８）　１２３４－５６７８．";
    let reply = service.register_with(json!({ "phone": full_width })).await;
    assert_registered(&reply, json!({ "phone": full_width }));
    service.database.execute("DELETE FROM people.\"user\"").await;
    let phone = "+0123456789 ()-. 0123456789 ()-.";
    assert_eq!(phone.len(), 32);
    let reply = service.register_with(json!({ "phone": phone })).await;
    assert_registered(&reply, json!({ "phone": phone }));
}

#[tokio::test]
async fn an_email_has_the_shape_of_an_address() {
    let service = Service::start().await;
    for email in [
        " ",
        "a",
        "@",
        "a@",
        "@b.example",
        "a@b",
        "a@@b.example",
        "a@b@c.example",
        "a@.example",
        "a@b.",
        "a@b..example",
        "a b@c.example",
        "a@b c.example",
        "a\u{a0}b@c.example",
        // Several addresses, or one with more than the address.
        "<a@b.example>",
        "a<a@b.example",
        "a;c@b.example",
        "a,c@b.example",
        "\"a\"@b.example",
        "a@[192.0.2.1]",
        "a(c)@b.example",
        "a\\c@b.example",
    ] {
        let reply = service.register_with(json!({ "email": email })).await;
        assert_eq!(reply.status, 422, "{email}");
        reply.assert_refused(&[("email", EMAIL)]);
    }
    for (userid, email) in [
        ("a", "a@b.example"),
        ("b", "first.last+tag@sub.domain.example"),
        ("c", "o'brien@example.com"),
        ("d", "用户@例子.广告"),
        ("e", "x@1.2"),
    ] {
        let reply = service
            .register_with(json!({ "userid": userid, "email": email }))
            .await;
        assert_registered(
            &reply,
            json!({ "userid": userid, "user_name": userid, "email": email }),
        );
    }
}

#[tokio::test]
async fn an_email_has_at_most_254_characters() {
    let service = Service::start().await;
    let email = |length: usize| format!("{}@example.com", "a".repeat(length - "@example.com".len()));
    let reply = service.register_with(json!({ "email": email(255) })).await;
    reply.assert_refused(&[("email", EMAIL)]);
    let reply = service.register_with(json!({ "email": email(254) })).await;
    assert_registered(&reply, json!({ "email": email(254) }));
}

#[tokio::test]
async fn a_member_of_another_type_is_refused() {
    let service = Service::start().await;
    for field in [
        "userid",
        "user_name",
        "country",
        "job",
        "phone",
        "email",
        "init_cn_level",
        "password",
    ] {
        for value in [
            json!(1),
            json!(-1),
            json!(1.5),
            json!(true),
            json!(false),
            json!([]),
            json!(["alice"]),
            json!({}),
            json!({ "$ne": null }),
        ] {
            let reply = service.register_with(json!({ field: value })).await;
            reply.assert_refused(&[(field, "must be a string")]);
        }
    }
    for field in ["userid", "password"] {
        let reply = service.register_with(json!({ field: Value::Null })).await;
        reply.assert_refused(&[(field, "is required")]);
    }
    assert_eq!(service.users().await, 0);
}

#[tokio::test]
async fn all_rejected_fields_are_named_without_their_values() {
    let service = Service::start().await;
    let reply = service
        .register_with(json!({
            "userid": "canary one",
            "user_name": "canary\u{1}two",
            "country": ["canary three"],
            "job": "canary".repeat(20),
            "phone": "canary five",
            "email": "canary six",
            "init_cn_level": { "canary": "seven" },
            "password": "canary8",
        }))
        .await;
    reply.assert_refused(&[
        ("userid", INVISIBLE),
        ("user_name", CONTROL),
        ("country", "must be a string"),
        ("job", AT_MOST_64),
        ("phone", PHONE),
        ("email", EMAIL),
        ("init_cn_level", "must be a string"),
        ("password", "must have at least 8 characters"),
    ]);
    assert!(!reply.text.contains("canary"), "{}", reply.text);
}

#[tokio::test]
async fn a_rejected_field_takes_precedence_over_a_taken_userid() {
    let service = Service::start().await;
    service.register("alice").await;
    let reply = service.register_with(json!({ "password": "short" })).await;
    reply.assert_refused(&[("password", "must have at least 8 characters")]);
}

#[tokio::test]
async fn credentials_are_neither_needed_nor_read() {
    let service = Service::start().await;
    let mut request = crate::harness::request(
        axum::http::Method::POST,
        "/user/register",
        &[
            ("content-type", "application/json"),
            ("authorization", "Bearer nonsense"),
        ],
        json!({ "userid": "alice", "password": PASSWORD }).to_string(),
    );
    request
        .headers_mut()
        .append("authorization", "Basic eDp5".parse().expect("a value"));
    assert_registered(&service.send(request).await, json!({}));
}
