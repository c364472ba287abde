//! The command `admin`, alone and beside a running `local`.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::project::{Database, PASSWORD, Project};

impl Project {
    /// Runs the command. Returns the exit status, the answer and standard error.
    #[track_caller]
    fn admin(&self, members: &Value, variables: &[(&str, &str)]) -> (Option<i32>, Value, String) {
        let mut event = json!({ "by": "Mei", "reason": "a test" });
        for (name, value) in members.as_object().expect("an object") {
            event[name] = value.clone();
        }
        let mut command = self.command(variables);
        command.arg("admin").arg(event.to_string());
        let (status, stdout, stderr) = self.begin(command).wait();
        // Nothing else than the answer, in one line.
        let answer = stdout
            .strip_suffix('\n')
            .unwrap_or_else(|| panic!("{stdout}{stderr}"));
        let answer = serde_json::from_str(answer).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        (status, answer, stderr)
    }
}

#[test]
fn it_does_the_same_alone_and_beside_a_running_program() {
    let project = Project::new();
    // The first one makes the database.
    let nobody = project.admin(&json!({ "action": "find", "userid": "alice" }), &[]);
    assert_eq!((nobody.0, nobody.1), (Some(0), json!({ "users": [] })));
    let log: Value = serde_json::from_str(nobody.2.trim()).expect("one line");
    assert_eq!(
        (&log["event"], &log["by"]),
        (&json!("authz_admin"), &json!("Mei"))
    );
    assert_eq!(project.database_processes(), [""; 0]);

    let local = project.start(&[("PORT", "0")]);
    assert_eq!(local.register("alice").outcome(), (200, 1));
    let token = local.log_in("alice").token();
    let (status, answer, _) = project.admin(&json!({ "action": "disable", "userid": "alice" }), &[]);
    assert_eq!(
        (status, &answer["users"][0]["live_sessions"]),
        (Some(0), &json!(0))
    );
    assert_eq!(
        local.with_token("GET", "/auth/me", &token).outcome(),
        (401, 40103)
    );
    assert_eq!(local.log_in("alice").outcome(), (403, 40302));
    let (status, answer, _) = project.admin(&json!({ "action": "enable", "userid": "alice" }), &[]);
    assert_eq!(
        (status, &answer["users"][0]["disabled_at"]),
        (Some(0), &Value::Null)
    );
    assert_eq!(local.with_token("GET", "/auth/me", &token).outcome(), (200, 1));
    local.stop();

    let (status, answer, _) = project.admin(&json!({ "action": "delete", "userid": "alice" }), &[]);
    assert_eq!(
        (status, &answer["users"][0]["userid"]),
        (Some(0), &json!("alice"))
    );
    let (status, answer, _) = project.admin(&json!({ "action": "delete", "userid": "alice" }), &[]);
    assert_eq!(
        (status, answer),
        (Some(1), json!({ "error": "there is no such user" }))
    );
    assert_eq!(project.database_processes(), [""; 0]);
}

#[test]
fn several_at_once_take_turns() {
    let project = Project::new();
    let invitations: Vec<_> = (0..4)
        .map(|n| {
            let event = json!({ "action": "invite", "userid": format!("user-{n}"), "email": "a@example.com",
                "by": "Mei", "reason": "a test" });
            let mut command = project.command(&[]);
            command.arg("admin").arg(event.to_string());
            project.begin(command)
        })
        .collect();
    for invitation in invitations {
        let (status, _, stderr) = invitation.wait();
        assert_eq!(status, Some(0), "{stderr}");
    }
    let (_, answer, _) = project.admin(&json!({ "action": "find", "email": "A@example.com" }), &[]);
    assert_eq!(answer["users"].as_array().map(Vec::len), Some(4));
    assert_eq!(project.database_processes(), [""; 0]);
}

#[test]
fn an_event_can_be_longer_than_an_argument_and_the_users_log_in() {
    let project = Project::new();
    let database = Database::new();
    // Of PASSWORD, with cost 4.
    let hash = "$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG";
    let users: Vec<Value> = (0..2_000)
        .map(|n| json!({ "userid": format!("user-{n}"), "password_hash": hash }))
        .collect();
    let event = json!({ "action": "import", "users": users, "by": "Mei", "reason": "a test" }).to_string();
    assert!(event.len() > 128 * 1024);
    project.write("users.json", &event);
    let file = std::fs::File::open(project.directory.join("users.json")).expect("a file");
    let mut command = project.command(&[("DATABASE_URL", &database.url)]);
    command.args(["admin", "-"]).stdin(Stdio::from(file));
    let (status, stdout, stderr) = project.begin(command).wait();
    assert_eq!(status, Some(0), "{stdout}{stderr}");
    let local = project.start(&[("PORT", "0"), ("DATABASE_URL", &database.url)]);
    assert_eq!(local.log_in("user-1999").outcome(), (200, 1), "{PASSWORD}");
    assert!(!project.directory.join(".local/admin.lock").exists());
}
