//! The function `admin`: what operators do with accounts.

use std::collections::BTreeSet;
use std::time::Instant;

use axum::http::Method;
use functions::admin::{Admin, handle};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use shared::config::{DatabaseConfig, Environment};
use shared::database::DatabaseError;
use shared::telemetry;
use sqlx::Executor as _;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::{Database, FAST, PASSWORD, PATIENT, Service};
use crate::panics::Lines;
use crate::properties::{holds_for, text};

/// The question of a gateway about the token in place of `TOKEN`.
const GATEWAY: &str = include_str!("../events/authorizer-http.json");

/// Every action, with what it needs besides a user.
const ON_A_USER: [(&str, &str); 7] = [
    ("disable", "{}"),
    ("enable", "{}"),
    ("end_sessions", "{}"),
    ("set_roles", r#"{"roles": ["teacher"]}"#),
    ("set_email", r#"{"new_email": "new@example.org"}"#),
    ("ask_reset", "{}"),
    ("delete", "{}"),
];

/// Users without any detail, and everything that an action could change.
const EVERYTHING: &str = r#"concat(
    (SELECT json_agg(u ORDER BY userid) FROM people."user" AS u),
    (SELECT json_agg(s ORDER BY session_id) FROM people.user_session AS s),
    (SELECT json_agg(o ORDER BY outbox_id) FROM people.outbox AS o))"#;

/// The mails and events that wait to be sent, as `kind address`.
const OUTBOX: &str = "(SELECT coalesce(string_agg(concat_ws(' ', kind, address), ', ' ORDER BY asked_at), '')
    FROM people.outbox)";

/// The function on the database of a service.
pub struct Operator {
    admin: Admin,
}

impl Operator {
    pub fn of(database: &Database) -> Self {
        Self::with(database, &[("MAIL_FROM", "people@example.com")])
    }

    fn with(database: &Database, settings: &[(&str, &str)]) -> Self {
        let mut environment: Environment = settings.iter().copied().collect();
        environment.set_default("DATABASE_URL", &*database.url);
        let mut config = DatabaseConfig::from_environment(&environment).expect("a URL");
        config.timeouts = PATIENT;
        let mut admin = Admin::from_environment(&environment).expect("usable settings");
        admin.database = shared::database::Database::new(config);
        Self { admin }
    }

    async fn invoke(&self, event: &Value) -> Result<Value, DatabaseError> {
        handle(&self.admin, &event.to_string()).await
    }

    /// With who asks for it, and why.
    async fn call(&self, members: Value) -> Value {
        let mut event = json!({ "by": "Mei", "reason": "ticket 7" });
        let Value::Object(members) = members else {
            panic!("an object")
        };
        event.as_object_mut().expect("an object").extend(members);
        self.invoke(&event).await.expect("an answer")
    }

    /// Calls an action that needs no more than a user. Returns that user.
    async fn done(&self, action: &str, userid: &str) -> Value {
        let answer = self.call(json!({ "action": action, "userid": userid })).await;
        let users = answer["users"].as_array().unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(users.len(), 1, "{answer}");
        users[0].clone()
    }

    /// Everything that can be done: to a user with an address, and with a userid that nobody has.
    pub async fn every_action(&self, userid: &str, nobody: &str) {
        let user_id = self.done("find", userid).await["user_id"].clone();
        let answer = self
            .call(json!({ "action": "missing", "user_ids": [user_id] }))
            .await;
        assert_eq!(answer, json!({ "missing": [] }));
        let invite =
            json!({ "action": "invite", "userid": nobody, "email": format!("{nobody}@example.com") });
        assert!(self.call(invite).await["users"].is_array());
        let users =
            json!([{ "userid": nobody }, { "userid": format!("{nobody}-2"), "user_id": Uuid::new_v4() }]);
        let answer = self.import(&users).await;
        assert_eq!(
            (&answer["present"], &answer["refused"]),
            (&json!([0]), &json!([]))
        );
        for wanted in [
            json!({ "user_id": user_id }),
            json!({ "email": format!("{nobody}@EXAMPLE.com") }),
        ] {
            for (action, more) in ON_A_USER {
                let mut event: Value = serde_json::from_str(more).expect("JSON");
                let event = event.as_object_mut().expect("an object");
                event.extend(wanted.as_object().cloned().expect("an object"));
                event.insert("action".to_owned(), json!(action));
                if action == "set_email" && wanted["email"].is_string() {
                    event.insert("new_email".to_owned(), wanted["email"].clone());
                }
                let answer = self.call(json!(event)).await;
                assert!(answer["users"].is_array(), "{event:?}: {answer}");
                // So that a mail can be asked for.
                event.insert("action".to_owned(), json!("enable"));
                if action == "disable" {
                    self.call(json!(event)).await;
                }
            }
        }
    }

    async fn import(&self, users: &Value) -> Value {
        self.call(json!({ "action": "import", "users": users })).await
    }
}

fn error(message: &str) -> Value {
    json!({ "error": message })
}

async fn start() -> (Service, Operator) {
    let service = Service::start_with(&FAST).await;
    let operator = Operator::of(&service.database);
    (service, operator)
}

#[tokio::test]
async fn a_user_is_found_by_userid_key_or_address_and_shown_without_a_hash() {
    let (service, operator) = start().await;
    let all = json!({ "userid": "Alice", "email": "Alice@Example.com", "country": "DE", "job": "reader",
        "phone": "+49 30 1", "init_cn_level": "HSK 2" });
    let mut expected = service.register_with(all).await.json()["data"]["user_info"].clone();
    service.register("bob").await;
    let user_id = expected["user_id"].clone();
    expected["disabled_at"] = Value::Null;
    expected["last_log_in"] = Value::Null;
    expected["live_sessions"] = json!(0);
    for wanted in [
        json!({ "userid": "ＡLICE" }),
        json!({ "user_id": user_id }),
        json!({ "email": "aliCE@example.COM" }),
    ] {
        let mut event = wanted.clone();
        event["action"] = json!("find");
        assert_eq!(
            operator.call(event).await,
            json!({ "users": [expected] }),
            "{wanted}"
        );
    }
    service.log_in("alice", PASSWORD).await.access_token();
    let token = service.log_in("alice", PASSWORD).await.access_token();
    service.log_out(&token).await;
    let found = operator.done("find", "alice").await;
    assert_eq!(found["live_sessions"], 1);
    let last = found["last_log_in"].as_str().expect("a time");
    let is_last = format!("SELECT max(login_time) = '{last}' FROM people.user_session");
    assert_eq!(service.database.text(&is_last).await.as_deref(), Some("true"));
    // What is left of a log-in when its session has been deleted.
    service.database.execute("DELETE FROM people.user_session").await;
    let found = operator.done("find", "alice").await;
    assert!(
        found["last_log_in"].is_string() && found["live_sessions"] == 0,
        "{found}"
    );
    assert!(!found.to_string().contains("argon2"), "{found}");
}

/// Who has cleared the name, or never had one in an earlier back end.
#[tokio::test]
async fn a_user_without_a_name_goes_by_the_userid_in_every_action() {
    let (service, operator) = start().await;
    service
        .register_with(json!({ "userid": "alice", "email": "alice@example.com" }))
        .await
        .json();
    let token = service.log_in("alice", PASSWORD).await.access_token();
    let cleared = json!({ "user_name": null });
    let reply = service.call_as(Method::PATCH, "/auth/me", &token, &cleared).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(operator.done("find", "alice").await["user_name"], "alice");
    operator.every_action("alice", "nobody").await;
}

#[tokio::test]
async fn sessions_that_are_idle_for_too_long_are_not_counted_as_live() {
    let (service, operator) = start().await;
    service.token_of_new_user("alice").await;
    let idle = "UPDATE people.user_session SET last_seen = now() - interval '61 minutes'";
    service.database.execute(idle).await;
    assert_eq!(operator.done("find", "alice").await["live_sessions"], 1);
    let limited = Operator::with(&service.database, &[("SESSION_IDLE_MINUTES", "60")]);
    assert_eq!(limited.done("find", "alice").await["live_sessions"], 0);
}

#[tokio::test]
async fn nobody_is_found_and_nothing_done_to_nobody() {
    let (service, operator) = start().await;
    service
        .register_with(json!({ "email": "alice@example.com" }))
        .await;
    let before = service.database.text(EVERYTHING).await;
    for wanted in [
        json!({ "userid": "bob" }),
        json!({ "user_id": Uuid::nil() }),
        json!({ "email": "bob@example.com" }),
        // Neither a pattern nor a part is looked for.
        json!({ "userid": "alic%" }),
        json!({ "email": "example.com" }),
    ] {
        let mut event = wanted.clone();
        event["action"] = json!("find");
        assert_eq!(operator.call(event).await, json!({ "users": [] }), "{wanted}");
        for (action, more) in ON_A_USER {
            let mut event: Value = serde_json::from_str(more).expect("JSON");
            event["action"] = json!(action);
            event
                .as_object_mut()
                .expect("an object")
                .extend(wanted.as_object().cloned().expect("an object"));
            assert_eq!(
                operator.call(event).await,
                error("there is no such user"),
                "{action}"
            );
        }
    }
    assert_eq!(service.database.text(EVERYTHING).await, before);
}

#[tokio::test]
async fn of_several_users_with_one_address_the_verified_and_oldest_are_found_and_nothing_is_done_to_them() {
    let (service, operator) = start().await;
    let fill = "INSERT INTO people.\"user\" (userid, user_name, email, reg_time, email_verified_at)
        SELECT 'user-' || n, 'x', 'Family@example.com', '2026-01-01'::timestamptz + n * interval '1 day',
               CASE WHEN n IN (22, 24) THEN now() END
        FROM generate_series(1, 25) AS n";
    service.database.execute(fill).await;
    let before = service.database.text(EVERYTHING).await;
    let found = operator
        .call(json!({ "action": "find", "email": "family@EXAMPLE.com" }))
        .await;
    let found = found["users"].as_array().expect("users");
    let found: Vec<&str> = found.iter().filter_map(|user| user["userid"].as_str()).collect();
    let expected: Vec<String> = [22, 24]
        .into_iter()
        .chain(1..=18)
        .map(|n| format!("user-{n}"))
        .collect();
    assert_eq!(found, expected);
    for (action, more) in ON_A_USER {
        let mut event: Value = serde_json::from_str(more).expect("JSON");
        event["action"] = json!(action);
        event["email"] = json!("family@example.com");
        let expected = "there are several users with this email: name one of them by user_id";
        assert_eq!(operator.call(event).await, error(expected), "{action}");
    }
    assert_eq!(service.database.text(EVERYTHING).await, before);
}

#[tokio::test]
async fn a_disabled_user_is_out_everywhere_at_once_and_back_after_enable() {
    let (service, operator) = start().await;
    let token = service.token_of_new_user("alice").await;
    let event = GATEWAY.replace("TOKEN", &token);
    for _ in 0..2 {
        let mut disabled_at = Vec::new();
        for _ in 0..2 {
            let user = operator.done("disable", "alice").await;
            assert_eq!(user["live_sessions"], 0);
            disabled_at.push(user["disabled_at"].as_str().expect("a time").to_owned());
        }
        assert_eq!(disabled_at[0], disabled_at[1], "repeated: no change");
        service.get("/auth/me", &token).await.assert_error(40103);
        service.sessions(&token).await.assert_error(40103);
        service
            .change_password(&token, PASSWORD, "six candles under the bridge")
            .await
            .assert_error(40103);
        service.delete_user(&token, PASSWORD).await.assert_error(40103);
        let profile = json!({ "job": "reader" });
        service
            .call_as(Method::PATCH, "/auth/me", &token, &profile)
            .await
            .assert_error(40103);
        assert_eq!(
            service.authorize(&event).await,
            Ok(json!({ "isAuthorized": false }))
        );
        service.log_in("alice", PASSWORD).await.assert_error(40302);
        for _ in 0..2 {
            let user = operator.done("enable", "alice").await;
            assert_eq!(
                (&user["disabled_at"], &user["live_sessions"]),
                (&Value::Null, &json!(1))
            );
        }
        assert_eq!(service.get("/auth/me", &token).await.status, 200);
        assert_eq!(
            service.authorize(&event).await.expect("an answer")["isAuthorized"],
            true
        );
    }
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
    assert_eq!(service.log_out(&token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_log_in_during_a_disable_leaves_a_live_session() {
    let (service, operator) = start().await;
    service.register("alice").await;
    for round in 0..12 {
        let mut tasks = JoinSet::new();
        for n in 0..8 {
            let (service, address) = (service.clone(), format!("198.51.100.{n}"));
            tasks.spawn(async move { service.log_in_from(&address, "alice", PASSWORD).await });
        }
        tokio::time::sleep(std::time::Duration::from_millis(round)).await;
        operator.done("disable", "alice").await;
        for reply in tasks.join_all().await {
            let code = reply.json()["code"].as_u64();
            // Of one whose password was verified before, the session is not opened.
            assert!(
                [Some(1), Some(40101), Some(40302)].contains(&code),
                "{}",
                reply.text
            );
            if code == Some(1) {
                service
                    .get("/auth/me", &reply.access_token())
                    .await
                    .assert_error(40103);
            }
        }
        assert_eq!(service.database.count("people.live_session").await, 0);
        operator.done("enable", "alice").await;
        service
            .database
            .execute("DELETE FROM people.user_session; DELETE FROM people.attempt")
            .await;
    }
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test]
async fn all_sessions_end_whatever_their_number_and_the_password_stays() {
    let (service, operator) = start().await;
    let token = service.token_of_new_user("alice").await;
    let bob = service.token_of_new_user("bob").await;
    let more = "INSERT INTO people.user_session (session_id, user_id, expires_at)
        SELECT gen_random_uuid(), user_id, now() + interval '1 hour'
        FROM people.\"user\", generate_series(1, 1000) WHERE userid = 'alice'";
    service.database.execute(more).await;
    assert_eq!(operator.done("find", "alice").await["live_sessions"], 1_001);
    for _ in 0..2 {
        assert_eq!(operator.done("end_sessions", "alice").await["live_sessions"], 0);
        service.get("/auth/me", &token).await.assert_error(40103);
    }
    // For readers of the table.
    let open = "people.user_session WHERE logout_time IS NULL";
    assert_eq!(service.database.count(open).await, 1, "bob's");
    assert_eq!(service.get("/auth/me", &bob).await.status, 200);
    let token = service.log_in("alice", PASSWORD).await.access_token();
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
}

#[tokio::test]
async fn roles_are_replaced_as_a_whole_and_count_at_once() {
    let (service, operator) = start().await;
    let token = service.token_of_new_user("alice").await;
    for (roles, expected) in [
        (
            json!(["teacher", "a-1_x", "teacher"]),
            json!(["teacher", "a-1_x"]),
        ),
        (json!(["teacher", "a-1_x"]), json!(["teacher", "a-1_x"])),
        (json!([]), json!([])),
        (json!(vec!["b"; 17]), json!(["b"])),
    ] {
        let answer = operator
            .call(json!({ "action": "set_roles", "userid": "alice", "roles": roles }))
            .await;
        assert_eq!(answer["users"][0]["roles"], expected);
        let me = service.get("/auth/me", &token).await.json();
        assert_eq!(me["data"]["user_info"]["roles"], expected);
    }
    let seventeen: Vec<String> = (0..17).map(|n| format!("role-{n}")).collect();
    for refused in [
        json!(seventeen),
        json!(["A"]),
        json!([""]),
        json!(["a".repeat(33)]),
        json!(["a,b"]),
        json!(["é"]),
        json!([1]),
        json!("a"),
        json!(null),
    ] {
        let answer = operator
            .call(json!({ "action": "set_roles", "userid": "alice", "roles": refused }))
            .await;
        let expected = "roles must be an array of at most 16 texts of 1 to 32 of a-z, 0-9, _ and -";
        assert_eq!(answer, error(expected), "{refused}");
    }
    assert_eq!(operator.done("find", "alice").await["roles"], json!(["b"]));
}

#[tokio::test]
async fn a_new_address_is_unverified_and_the_former_one_is_told() {
    let (service, operator) = start().await;
    service.register("alice").await;
    let set = async |email: &str| {
        operator
            .call(json!({ "action": "set_email", "userid": "alice", "new_email": email }))
            .await
    };
    // The first one, the same in another case, and twice another.
    for email in [
        "old@example.com",
        "Old@example.com",
        "new@example.com",
        " new@example.com ",
    ] {
        let verify = "UPDATE people.\"user\" SET email_verified_at = now()";
        service.database.execute(verify).await;
        let answer = set(email).await;
        let user = &answer["users"][0];
        assert_eq!(
            (&user["email"], &user["email_verified"]),
            (&json!(email.trim()), &json!(false))
        );
    }
    let version = service
        .database
        .text("SELECT email_version FROM people.\"user\"")
        .await;
    assert_eq!(version.as_deref(), Some("4"));
    let outbox = service.database.text(OUTBOX).await;
    assert_eq!(outbox.as_deref(), Some("email_changed Old@example.com"));
    let expected = "new_email must be an e-mail address of at most 254 characters";
    for refused in ["", "example.com", "a@b", "a b@example.com"] {
        assert_eq!(set(refused).await, error(expected), "{refused}");
    }
    assert_eq!(operator.done("find", "alice").await["email"], "new@example.com");
}

#[tokio::test]
async fn a_mail_with_a_link_is_asked_for_unless_it_could_not_be_sent() {
    let (service, operator) = start().await;
    service
        .register_with(json!({ "email": "alice@example.com" }))
        .await;
    service.register("bob").await;
    let ask = async |operator: &Operator, userid: &str| {
        operator
            .call(json!({ "action": "ask_reset", "userid": userid }))
            .await
    };
    assert_eq!(
        ask(&operator, "bob").await,
        error("the user has no e-mail address")
    );
    let without_mail = Operator::with(&service.database, &[]);
    assert_eq!(
        ask(&without_mail, "alice").await,
        error("no mail is set up: MAIL_FROM is missing")
    );
    operator.done("disable", "alice").await;
    assert_eq!(ask(&operator, "alice").await, error("the user is disabled"));
    operator.done("enable", "alice").await;
    assert_eq!(service.database.count("people.outbox").await, 0);
    for asked in 1..=2 {
        assert_eq!(ask(&operator, "alice").await["users"][0]["userid"], "alice");
        let asked_for = "people.outbox JOIN people.\"user\" USING (user_id) WHERE kind = 'reset'";
        assert_eq!(service.database.count(asked_for).await, asked);
    }
}

#[tokio::test]
async fn keys_that_are_no_users_are_told_in_their_order() {
    let (service, operator) = start().await;
    let alice = service.register("alice").await.json()["data"]["user_info"]["user_id"].clone();
    let gone: Vec<Uuid> = (0..3).map(|_| Uuid::new_v4()).collect();
    let missing = async |user_ids: Value| {
        operator
            .call(json!({ "action": "missing", "user_ids": user_ids }))
            .await
    };
    let given = json!([gone[1], alice, gone[0], gone[1], gone[2]]);
    assert_eq!(
        missing(given).await,
        json!({ "missing": [gone[1], gone[0], gone[2]] })
    );
    assert_eq!(missing(json!([alice])).await, json!({ "missing": [] }));
    assert_eq!(missing(json!([])).await, json!({ "missing": [] }));
    let many: Vec<Uuid> = (0..1_001).map(|_| Uuid::new_v4()).collect();
    assert_eq!(missing(json!(many[1..])).await, json!({ "missing": many[1..] }));
    assert_eq!(
        missing(json!(many)).await,
        error("user_ids must have at most 1000 elements")
    );
    assert_eq!(
        missing(json!([alice, "x"])).await,
        error("user_ids[1] must be a UUID")
    );
    assert_eq!(
        missing(json!(alice)).await,
        error("user_ids must be an array of UUIDs")
    );
}

#[tokio::test]
async fn a_deleted_user_is_gone_with_all_sessions_and_others_are_told() {
    let (service, operator) = start().await;
    service
        .register_with(json!({ "email": "alice@example.com" }))
        .await;
    let token = service.log_in("alice", PASSWORD).await.access_token();
    let bob = service.token_of_new_user("bob").await;
    let before = operator.done("find", "alice").await;
    // As it was.
    assert_eq!(operator.done("delete", "alice").await, before);
    let again = json!({ "action": "delete", "userid": "alice" });
    assert_eq!(operator.call(again).await, error("there is no such user"));
    service.get("/auth/me", &token).await.assert_error(40103);
    service.log_in("alice", PASSWORD).await.assert_error(40101);
    assert_eq!(service.get("/auth/me", &bob).await.status, 200);
    assert_eq!(service.database.count("people.user_session").await, 1);
    assert_eq!(service.database.count("people.known_network").await, 1);
    let outbox = service.database.text(OUTBOX).await;
    assert_eq!(outbox.as_deref(), Some("user_deleted alice@example.com"));
    let user_id = service.database.text("SELECT user_id FROM people.outbox").await;
    assert_eq!(user_id.as_deref(), before["user_id"].as_str());
    assert_eq!(service.register("alice").await.status, 200);
}

#[tokio::test]
async fn an_invited_user_has_no_password_and_a_mail_to_come() {
    let (service, operator) = start().await;
    let invite = json!({ "action": "invite", "userid": "Ａlice", "email": "alice@example.com" });
    let without_mail = Operator::with(&service.database, &[]);
    let refused = without_mail.call(invite.clone()).await;
    assert_eq!(refused, error("no mail is set up: MAIL_FROM is missing"));
    let answer = operator.call(invite.clone()).await;
    let user = &answer["users"][0];
    assert_eq!(
        (&user["userid"], &user["user_name"]),
        (&json!("alice"), &json!("Ａlice"))
    );
    assert_eq!(
        (&user["email"], &user["email_verified"]),
        (&json!("alice@example.com"), &json!(false))
    );
    assert_eq!(operator.call(invite).await, error("the userid is taken"));
    let rows = service
        .database
        .text("SELECT json_agg(json_build_array(kind, user_id)) FROM people.outbox")
        .await;
    let rows: Value = serde_json::from_str(&rows.expect("rows")).expect("JSON");
    assert_eq!(rows, json!([["invite", user["user_id"]]]));
    service.log_in("alice", PASSWORD).await.assert_error(40101);
    for (userid, email, expected) in [
        ("", "a@example.com", "userid must have 1 to 64 characters"),
        (
            "a b",
            "a@example.com",
            "userid must not have white space, control or invisible characters",
        ),
        (
            "bob",
            "bob",
            "email must be an e-mail address of at most 254 characters",
        ),
    ] {
        let refused = operator
            .call(json!({ "action": "invite", "userid": userid, "email": email }))
            .await;
        assert_eq!(refused, error(expected));
    }
    assert_eq!(service.database.count("people.\"user\"").await, 1);
}

#[tokio::test]
async fn the_links_that_operators_ask_for_set_a_password() {
    let (service, operator) = start().await;
    let invite = json!({ "action": "invite", "userid": "alice", "email": "alice@example.com" });
    operator.call(invite).await;
    let first = "six candles under the bridge";
    let link = service.mailed_token().await;
    service.reset(&link, first).await.assert_success(&Value::Null);
    let reply = service.log_in("alice", first).await;
    assert_eq!(reply.json()["data"]["user_info"]["email_verified"], true);
    service.mails().await;
    // A new address, the end of all sessions and another new password end a link.
    let set_email = json!({ "action": "set_email", "userid": "alice", "new_email": "new@example.com" });
    for event in [json!({ "action": "end_sessions", "userid": "alice" }), set_email] {
        operator.done("ask_reset", "alice").await;
        let link = service.mailed_token().await;
        assert!(operator.call(event).await["users"].is_array());
        service.reset(&link, PASSWORD).await.assert_error(41001);
        service.mails().await;
    }
    operator.done("ask_reset", "alice").await;
    let link = service.mailed_token().await;
    service.reset(&link, PASSWORD).await.assert_success(&Value::Null);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
    service.reset(&link, first).await.assert_error(41001);
}

#[tokio::test]
async fn a_user_of_another_system_keeps_what_is_given_and_logs_in() {
    let (service, operator) = start().await;
    let user_id = Uuid::new_v4();
    let hash = bcrypt::hash(PASSWORD, 4).expect("a hash");
    let all = json!({
        "userid": "ＡLICE", "user_id": user_id, "user_name": "Alice L.", "country": " DE ", "job": "reader", "phone": "+49 1",
        "email": "alice@example.com", "email_verified_at": "2025-02-03T04:05:06+01:00", "init_cn_level": "HSK 2",
        "roles": ["teacher", "teacher"], "reg_time": "2020-01-01T00:00:00.123456789Z", "disabled_at": null,
        "password_hash": hash,
    });
    let least = json!({ "userid": "Bob", "job": " ", "email": "", "password_hash": null });
    let answer = operator.import(&json!([all, least])).await;
    let made = answer["made"].as_array().expect("made").clone();
    assert_eq!(
        answer,
        json!({ "made": [user_id, made[1]], "present": [], "refused": [] })
    );
    let mut expected = json!({
        "userid": "alice", "user_id": user_id, "user_name": "Alice L.", "country": "DE", "job": "reader", "phone": "+49 1",
        "email": "alice@example.com", "email_verified": true, "init_cn_level": "HSK 2", "roles": ["teacher"],
        "reg_time": "2020-01-01T00:00:00.123457Z", "disabled_at": null, "last_log_in": null, "live_sessions": 0,
    });
    assert_eq!(operator.done("find", "alice").await, expected);
    assert_eq!(service.log_in("Alice", PASSWORD).await.status, 200);
    expected = operator.done("find", "bob").await;
    assert_eq!(
        (&expected["user_id"], &expected["user_name"]),
        (&made[1], &json!("Bob"))
    );
    assert_eq!(
        (&expected["job"], &expected["email"], &expected["roles"]),
        (&Value::Null, &Value::Null, &json!([]))
    );
    service.log_in("bob", PASSWORD).await.assert_error(40101);
    // Again: they are passed over, and stay what they are.
    let before = service.database.text(EVERYTHING).await;
    let other =
        json!([{ "userid": "alice", "country": "FR" }, { "userid": "BOB", "user_id": Uuid::new_v4() }]);
    assert_eq!(
        operator.import(&other).await,
        json!({ "made": [], "present": [0, 1], "refused": [] })
    );
    assert_eq!(service.database.text(EVERYTHING).await, before);
}

#[tokio::test]
async fn a_user_that_cannot_be_imported_is_named_with_every_reason_and_nobody_is_made() {
    const ARGON2: &str =
        "$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog";
    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG";
    let (service, operator) = start().await;
    let bob = service.register("bob").await.json()["data"]["user_info"]["user_id"].clone();
    let hash = "password_hash must be a hash of Argon2id or bcrypt within the limits";
    let time = "must be a time like 2026-11-25T08:30:00Z";
    let same = Uuid::new_v4();
    let table = [
        (json!({ "userid": "good", "password_hash": ARGON2 }), None),
        (json!({ "userid": "good-too", "password_hash": BCRYPT.replace("$2b", "$2y") }), None),
        (json!(["canary"]), Some("must be an object".to_owned())),
        (json!({}), Some("userid is required".to_owned())),
        (json!({ "userid": 7 }), Some("userid must be a string".to_owned())),
        (json!({ "userid": "canary", "user_name": "\u{7}" , "email": "canary", "phone": "canary", "roles": ["Canary"], "job": 7 }),
         Some("user_name must not have control characters; job must be a string; phone must have only digits and + ( ) - . and \
               spaces; email must be an e-mail address of at most 254 characters; roles must be an array of at most 16 texts of \
               1 to 32 of a-z, 0-9, _ and -".to_owned())),
        (json!({ "userid": "a", "password": "canary" }), Some("\"password\" is not a known member".to_owned())),
        (json!({ "userid": "GOOD" }), Some("userid is that of another user before".to_owned())),
        (json!({ "userid": "b", "user_id": same }), None),
        (json!({ "userid": "c", "user_id": same }), Some("user_id is that of another user before".to_owned())),
        (json!({ "userid": "d", "user_id": bob }), Some("user_id is that of another account".to_owned())),
        (json!({ "userid": "e", "user_id": "canary" }), Some("user_id must be a UUID".to_owned())),
        (json!({ "userid": "f", "email_verified_at": "2026-01-01T00:00:00Z" }),
         Some("email_verified_at needs an email".to_owned())),
        (json!({ "userid": "g", "reg_time": "2026-01-01" }), Some(format!("reg_time {time}"))),
        (json!({ "userid": "h", "disabled_at": "0000-01-01T00:00:00Z" }), Some(format!("disabled_at {time}"))),
        (json!({ "userid": "i", "password_hash": "canary" }), Some(hash.to_owned())),
        (json!({ "userid": "j", "password_hash": BCRYPT.replace("$04$", "$15$") }), Some(hash.to_owned())),
        (json!({ "userid": "k", "password_hash": BCRYPT.replace("uu7E", "uv7E") }), Some(hash.to_owned())),
        (json!({ "userid": "l", "password_hash": ARGON2.replace("m=64", "m=262145") }), Some(hash.to_owned())),
        (json!({ "userid": "m", "password_hash": ARGON2.replace("argon2id", "argon2i") }), Some(hash.to_owned())),
        (json!({ "userid": "Bob" }), None),
    ];
    let before = service.database.text(EVERYTHING).await;
    let given: Vec<&Value> = table.iter().map(|(user, _)| user).collect();
    let refused: Vec<Value> = table
        .iter()
        .enumerate()
        .filter_map(|(index, (_, message))| Some(json!({ "index": index, "message": message.as_ref()? })))
        .collect();
    let answer = operator.import(&json!(given)).await;
    assert_eq!(answer, json!({ "made": [], "present": [20], "refused": refused }));
    // The same alone, if only the database can tell.
    let answer = operator
        .import(&json!([{ "userid": "new" }, { "userid": "d", "user_id": bob }, { "userid": "bob" }]))
        .await;
    let refused = json!([{ "index": 1, "message": "user_id is that of another account" }]);
    assert_eq!(answer, json!({ "made": [], "present": [2], "refused": refused }));
    assert_eq!(service.database.text(EVERYTHING).await, before);
    // Without those, and first without making anybody.
    let good: Vec<&Value> = table
        .iter()
        .filter(|(_, message)| message.is_none())
        .map(|(user, _)| user)
        .collect();
    for dry_run in [true, true, false] {
        let event = json!({ "action": "import", "users": good, "dry_run": dry_run });
        let answer = operator.call(event).await;
        assert_eq!(
            answer["made"].as_array().map(Vec::len),
            Some(if dry_run { 0 } else { 3 })
        );
        assert_eq!(
            (&answer["present"], &answer["refused"]),
            (&json!([3]), &json!([]))
        );
        if dry_run {
            assert_eq!(service.database.text(EVERYTHING).await, before);
        }
    }
    assert_eq!(service.database.count("people.\"user\"").await, 4);
}

#[tokio::test]
async fn five_thousand_users_are_imported_at_once_and_log_in() {
    let (service, operator) = start().await;
    let hash = bcrypt::hash(PASSWORD, 4).expect("a hash");
    let users: Vec<Value> = (0..5_000)
        .map(|n| {
            json!({
                "userid": format!("User-{n}"), "user_id": Uuid::new_v4(), "user_name": format!("User {n}"), "country": "DE",
                "job": "engineer", "phone": "+49 30 123456", "email": format!("user-{n}@example.com"),
                "email_verified_at": "2025-01-01T00:00:00Z", "init_cn_level": "HSK 2", "roles": ["learner"],
                "reg_time": "2020-01-01T00:00:00Z", "password_hash": hash,
            })
        })
        .collect();
    let started = Instant::now();
    let answer = operator.import(&json!(users)).await;
    println!("importing 5,000 users took {:?}", started.elapsed());
    let user_ids: Vec<&Value> = users.iter().map(|user| &user["user_id"]).collect();
    assert_eq!(answer["made"], json!(user_ids));
    assert_eq!((&answer["present"], &answer["refused"]), (&json!([]), &json!([])));
    for n in (0..5_000).step_by(100) {
        let reply = service
            .log_in_from("198.51.100.7", &format!("user-{n}"), PASSWORD)
            .await;
        let token = reply.access_token();
        assert_eq!(reply.json()["data"]["user_info"]["user_id"], users[n]["user_id"]);
        assert_eq!(service.get("/auth/me", &token).await.status, 200);
    }
    let too_many = json!({ "userid": "x" });
    let expected = "users must be an array of 1 to 5000 objects";
    assert_eq!(
        operator.import(&json!(vec![too_many; 5_001])).await,
        error(expected)
    );
    assert_eq!(operator.import(&json!([])).await, error(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_imports_of_the_same_users_make_each_once() {
    let service = Service::start_with(&FAST).await;
    for with_keys in [false, true] {
        let users: Vec<Value> = (0..300)
            .map(|n| {
                let mut user = json!({ "userid": format!("{with_keys}-{n}") });
                if with_keys {
                    user["user_id"] = json!(Uuid::new_v4());
                }
                user
            })
            .collect();
        let mut tasks = JoinSet::new();
        for n in 0..6 {
            let operator = Operator::of(&service.database);
            let mut users = users.clone();
            if n % 2 == 1 {
                users.reverse();
            }
            tasks.spawn(async move { operator.import(&json!(users)).await });
        }
        let mut made = BTreeSet::new();
        for answer in tasks.join_all().await {
            let these = answer["made"].as_array().expect("made");
            let present = answer["present"].as_array().expect("present");
            assert_eq!(
                (these.len() + present.len(), &answer["refused"]),
                (300, &json!([]))
            );
            for user_id in these {
                assert!(made.insert(user_id.to_string()), "made twice");
            }
        }
        assert_eq!(made.len(), 300);
    }
    assert_eq!(service.database.count("people.\"user\"").await, 600);
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test]
async fn a_key_that_another_import_is_taking_meanwhile_is_refused() {
    for pooler in ["none", "transaction"] {
        let service = Service::start().await;
        let operator = Operator::with(&service.database, &[("DATABASE_POOLER", pooler)]);
        let user_id = Uuid::new_v4();
        let mut other = service.database.connect().await;
        let insert = format!(
            "BEGIN; INSERT INTO people.\"user\" (user_id, userid, user_name) VALUES ('{user_id}', 'zoe', 'Zoe')"
        );
        other.execute(&*insert).await.expect("inserted");
        let users = json!([{ "userid": "alice", "user_id": user_id }, { "userid": "bob" }]);
        let import = tokio::spawn(async move { operator.import(&users).await });
        let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while service.database.count(waiting).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        other.execute("COMMIT").await.expect("committed");
        let refused = json!([{ "index": 0, "message": "user_id is that of another account" }]);
        let expected = json!({ "made": [], "present": [], "refused": refused });
        assert_eq!(import.await.expect("an answer"), expected, "{pooler}");
        assert_eq!(service.database.count("people.\"user\"").await, 1);
    }
}

#[test]
fn any_text_is_imported_or_refused_and_looked_for_without_an_error_of_the_database() {
    const COLUMNS: [&str; 11] = [
        "userid",
        "user_id",
        "user_name",
        "country",
        "job",
        "phone",
        "email",
        "init_cn_level",
        "reg_time",
        "password_hash",
        "roles",
    ];
    let strategy = prop::collection::vec((select(COLUMNS.to_vec()), text()), 20);
    holds_for(30, &strategy, |service, texts| async move {
        let operator = Operator::of(&service.database);
        let users = texts.iter().map(|(column, text)| {
            let mut user = json!({ "userid": format!("user-{}", Uuid::new_v4()) });
            user[column] = if *column == "roles" {
                json!([text])
            } else {
                json!(text)
            };
            user
        });
        let mut users: Vec<Value> = users.collect();
        let answer = operator.import(&json!(users)).await;
        for refused in answer["refused"].as_array().expect("refused").iter().rev() {
            let index = refused["index"]
                .as_u64()
                .and_then(|index| usize::try_from(index).ok());
            users.remove(index.expect("a place"));
        }
        if !users.is_empty() {
            let answer = operator.import(&json!(users)).await;
            let outcomes = ["made", "present"].map(|name| answer[name].as_array().map_or(0, Vec::len));
            prop_assert_eq!(outcomes.iter().sum::<usize>(), users.len(), "{}", answer);
        }
        let (_, text) = &texts[0];
        for wanted in ["userid", "email"] {
            let answer = operator.call(json!({ "action": "find", wanted: text })).await;
            prop_assert!(
                answer["users"].is_array() || answer["error"].is_string(),
                "{}",
                answer
            );
        }
        Ok(())
    });
}

/// Events that are refused, and why. `@delete` stands for the members that every event of this action has.
const REFUSED: [(&str, &str); 28] = [
    ("", WHOLE),
    ("null", WHOLE),
    ("[]", WHOLE),
    (r#"{"action": "delete""#, WHOLE),
    (r#"{@delete, "userid": "alice", "userid": "bob"}"#, WHOLE),
    ("{}", "action is required"),
    (r#"{"action": 7}"#, "action must be a string"),
    (r#"{"action": "delete"}"#, "by is required"),
    (r#"{"action": "delete", "by": null}"#, "by must be a string"),
    (
        r#"{"action": "delete", "by": ""}"#,
        "by must have 1 to 200 characters",
    ),
    (
        r#"{"action": "delete", "by": "Mei", "userid": "alice"}"#,
        "reason is required",
    ),
    (
        r#"{"action": "delete", "by": "Mei", "reason": "LONG", "userid": "alice"}"#,
        "reason must have 1 to 200 characters",
    ),
    (
        r#"{"action": "drop", "by": "Mei", "reason": "r", "userid": "alice"}"#,
        "action must be one of find, disable, enable, end_sessions, set_roles, set_email, ask_reset, missing, delete, invite, \
         import",
    ),
    ("{@delete}", "one of user_id, userid and email is required"),
    (
        r#"{@delete, "userid": "alice", "email": "alice@example.com"}"#,
        "only one of user_id, userid and email may be given",
    ),
    (r#"{@delete, "userid": ["alice"]}"#, "userid must be a string"),
    (
        r#"{@delete, "userid": "a\u0000"}"#,
        "userid must not have a NUL character",
    ),
    (
        r#"{@delete, "email": ""}"#,
        "email must have 1 to 1000 characters",
    ),
    (r#"{@delete, "user_id": "alice"}"#, "user_id must be a UUID"),
    (
        r#"{@delete, "userid": "alice", "dry_run": true}"#,
        r#""dry_run" is not a known member"#,
    ),
    (
        r#"{@delete, "userid": "alice", "a\nb": true}"#,
        r#""a\nb" is not a known member"#,
    ),
    (r#"{@set_roles, "userid": "alice"}"#, "roles is required"),
    (r#"{@set_email, "userid": "alice"}"#, "new_email is required"),
    (r#"{@invite, "userid": "bob"}"#, "email is required"),
    ("{@missing}", "user_ids is required"),
    ("{@import}", "users is required"),
    (
        r#"{@import, "users": [{"userid": "bob"}], "dry_run": "no"}"#,
        "dry_run must be true or false",
    ),
    (
        r#"{@import, "userid": "x", "users": [{"userid": "bob"}]}"#,
        r#""userid" is not a known member"#,
    ),
];
const WHOLE: &str = "the event must be one JSON object without repeated members";

#[tokio::test]
async fn an_event_with_anything_missing_unknown_or_of_the_wrong_type_does_nothing() {
    let (service, operator) = start().await;
    service
        .register_with(json!({ "email": "alice@example.com" }))
        .await;
    let before = service.database.text(EVERYTHING).await;
    for (event, expected) in REFUSED {
        let mut event = event.replace("LONG", &"我".repeat(201));
        for action in ["delete", "set_roles", "set_email", "invite", "missing", "import"] {
            let members = format!(r#""action": "{action}", "by": "Mei", "reason": "r""#);
            event = event.replace(&format!("@{action}"), &members);
        }
        let answer = handle(&operator.admin, &event).await.expect("an answer");
        assert_eq!(answer, error(expected), "{event}");
    }
    assert_eq!(service.database.text(EVERYTHING).await, before);
    // The longest that are allowed.
    let longest = "我".repeat(200);
    let event = json!({ "action": "find", "by": longest, "reason": longest, "userid": "alice" });
    let answer = operator.invoke(&event).await.expect("an answer");
    assert_eq!(answer["users"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn each_invocation_is_one_line_of_the_log_without_personal_data() {
    let (service, operator) = start().await;
    let canary = json!({ "userid": "canary", "email": "canary@example.com", "user_name": "Canary" });
    let registered = service.register_with(canary).await.json();
    let user_id = registered["data"]["user_info"]["user_id"].clone();
    let lines = Lines::default();
    let writer = lines.clone();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(move || writer.clone()));
    let by = "Mei \"\n{}";
    let logged = async |members: Value| {
        let mut event = json!({ "by": by, "reason": "because\r\n\u{1b}[31m" });
        event
            .as_object_mut()
            .expect("an object")
            .extend(members.as_object().cloned().expect("an object"));
        let answer = operator.invoke(&event).await;
        let lines = lines.take();
        let text = json!(lines).to_string().to_lowercase();
        for secret in ["canary", "argon2", "$2b$"] {
            assert!(!text.contains(secret), "{text}");
        }
        let events = lines.into_iter().map(|mut line| {
            assert_eq!(line["message"], "security");
            let line = line.as_object_mut().expect("an object");
            for common in ["timestamp", "level", "message"] {
                line.remove(common).expect(common);
            }
            json!(line)
        });
        (answer.expect("an answer"), events.collect::<Vec<_>>())
    };
    let line = |action: &str, outcome: &str| json!({ "event": "authz_admin", "by": by, "reason": "because\r\n\u{1b}[31m", "action": action, "outcome": outcome });
    let about = |action: &str, outcome: &str| {
        let mut line = line(action, outcome);
        line["user_id"] = user_id.clone();
        line
    };
    let counted = |mut line: Value, users: u64| {
        line["users"] = json!(users);
        line
    };
    let (_, found) = logged(json!({ "action": "find", "email": "canary@example.com" })).await;
    assert_eq!(found, [counted(about("find", "done"), 1)]);
    for action in ["disable", "enable", "end_sessions", "ask_reset"] {
        let (_, done) = logged(json!({ "action": action, "userid": "canary" })).await;
        assert_eq!(done, [about(action, "done")]);
    }
    let roles = json!({ "action": "set_roles", "userid": "canary", "roles": ["teacher"] });
    let change = json!({ "event": "authz_change", "user_id": user_id });
    assert_eq!(
        logged(roles.clone()).await.1,
        [about("set_roles", "done"), change]
    );
    assert_eq!(
        logged(roles).await.1,
        [about("set_roles", "done")],
        "they are the same"
    );
    let email = json!({ "action": "set_email", "userid": "canary", "new_email": "Canary@example.com" });
    assert_eq!(logged(email).await.1, [about("set_email", "done")]);
    let (_, refused) =
        logged(json!({ "action": "set_email", "userid": "canary", "new_email": "canary" })).await;
    assert_eq!(refused, [line("set_email", "refused")]);
    let invite = json!({ "action": "invite", "userid": "canary-2", "email": "canary@example.com" });
    let (answer, invited) = logged(invite.clone()).await;
    let second = &answer["users"][0]["user_id"];
    let mut expected = line("invite", "done");
    expected["user_id"] = second.clone();
    assert_eq!(
        invited,
        [expected, json!({ "event": "user_created", "user_id": second })]
    );
    assert_eq!(logged(invite).await.1, [line("invite", "refused")]);
    // By an address of several.
    let (_, refused) = logged(json!({ "action": "disable", "email": "canary@example.com" })).await;
    assert_eq!(refused, [counted(line("disable", "refused"), 2)]);
    let users = json!([{ "userid": "canary-3", "password_hash": bcrypt::hash(PASSWORD, 4).expect("a hash") }, { "userid": "canary-4" }]);
    let (_, dry) = logged(json!({ "action": "import", "users": users, "dry_run": true })).await;
    assert_eq!(dry, [counted(line("import", "dry_run"), 0)]);
    let (_, refused) = logged(json!({ "action": "import", "users": [{ "userid": "bob" }, {}] })).await;
    assert_eq!(refused, [counted(line("import", "refused"), 0)]);
    let (_, made) = logged(json!({ "action": "import", "users": users })).await;
    assert_eq!(made, [counted(line("import", "done"), 2)]);
    let (_, missing) = logged(json!({ "action": "missing", "user_ids": [user_id] })).await;
    assert_eq!(missing, [line("missing", "done")]);
    let (_, deleted) = logged(json!({ "action": "delete", "userid": "canary" })).await;
    assert_eq!(
        deleted,
        [
            about("delete", "done"),
            json!({ "event": "user_deleted", "user_id": user_id })
        ]
    );
    let (_, nobody) = logged(json!({ "action": "delete", "userid": "canary" })).await;
    assert_eq!(nobody, [line("delete", "not_found")]);
    let (_, nobody) = logged(json!({ "action": "find", "userid": "canary" })).await;
    assert_eq!(nobody, [counted(line("find", "done"), 0)]);
    // What of the event cannot be used is left out.
    let (_, refused) = logged(json!({ "action": "canary", "by": 7 })).await;
    assert_eq!(
        refused,
        [json!({ "event": "authz_admin", "reason": "because\r\n\u{1b}[31m", "outcome": "refused" })]
    );
}

#[tokio::test]
async fn a_failing_database_fails_the_invocation_and_is_logged() {
    let mut database = Database::migrated().await;
    database.url = database.url.replace(database.name(), "there_is_none");
    let operator = Operator::of(&database);
    let lines = Lines::default();
    let writer = lines.clone();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(move || writer.clone()));
    let wanted = [
        json!({ "action": "find", "userid": "alice" }),
        json!({ "action": "disable", "userid": "alice" }),
        json!({ "action": "missing", "user_ids": [Uuid::nil()] }),
        json!({ "action": "invite", "userid": "alice", "email": "alice@example.com" }),
        json!({ "action": "import", "users": [{ "userid": "alice" }] }),
    ];
    for mut event in wanted {
        event["by"] = json!("Mei");
        event["reason"] = json!("r");
        let error = operator.invoke(&event).await.expect_err("there is no database");
        assert_eq!(error.to_string(), "database unavailable: SQLSTATE 3D000");
        let line = lines.only();
        assert_eq!(
            (&line["event"], &line["outcome"]),
            (&json!("authz_admin"), &json!("failed"))
        );
        assert_eq!(line["action"], event["action"]);
    }
}

#[tokio::test]
async fn an_unusable_setting_is_named() {
    let error = |settings: &[(&str, &str)]| {
        let environment: Environment = settings.iter().copied().collect();
        Admin::from_environment(&environment)
            .err()
            .expect("an error")
            .to_string()
    };
    assert_eq!(error(&[]), "DATABASE_URL is missing");
    let url = ("DATABASE_URL", "postgres://a@b/c");
    let expected = "SESSION_IDLE_MINUTES must be 0, or from 60 to 525600";
    assert_eq!(error(&[url, ("SESSION_IDLE_MINUTES", "59")]), expected);
}
