//! Adopting an earlier back end's database, and interrupting the wait for its locks.

use std::thread;

use crate::project::{Database, Project, eventually, signal};

const OLD_TABLES: &str = r#"
    CREATE SCHEMA people;
    CREATE TABLE people."user" (user_id uuid PRIMARY KEY, user_name varchar(80), country text, job text, phone text, email text,
        init_cn_level integer, reg_time timestamp, password_hash text);
    CREATE TABLE people.user_session (session_id uuid PRIMARY KEY, user_id uuid, token text, login_time timestamp,
        logout_time timestamp);
    INSERT INTO people."user" (user_id, user_name) VALUES (gen_random_uuid(), 'Alice');
"#;

#[test]
fn old_rows_are_adopted_only_on_request() {
    let project = Project::new();
    let database = Database::new();
    database.sql(OLD_TABLES);
    let port = ("PORT", "0");
    let url = ("DATABASE_URL", &*database.url);
    let refusal = project.refusal(&[url, port]);
    assert!(
        refusal.ends_with(
            "nothing was changed: the database has 1 users and 0 sessions of an earlier back end. To adopt them, which changes their \
             tables for good and logs everybody out (sessions end, their tokens are erased), set ADOPT=true or pass --adopt"
        ),
        "{refusal}"
    );
    let local = project.start(&[url, port, ("ADOPT", "true")]);
    assert!(
        local
            .stderr()
            .contains("local: people.\"user\", init_cn_level: integer became text\n"),
        "{}",
        local.stderr()
    );
    assert_eq!(database.sql(r#"SELECT userid FROM people."user""#), "alice");
}

#[test]
fn a_signal_ends_the_wait_for_a_lock() {
    let project = Project::new();
    let database = Database::new();
    database.sql(OLD_TABLES);
    let url = database.url.clone();
    let holder = thread::spawn(move || {
        let database = Database { url };
        std::panic::catch_unwind(|| {
            database.sql(r#"BEGIN; SELECT 1 FROM people."user"; SELECT pg_sleep(600)"#)
        })
    });
    eventually("the lock is held", || {
        database.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; SELECT 1 FROM people.%' AND datname = current_database()") == "1"
    });
    for name in ["INT", "TERM"] {
        let local = project.begin(project.command(&[
            ("DATABASE_URL", &*database.url),
            ("PORT", "0"),
            ("ADOPT", "true"),
        ]));
        eventually("it waits", || {
            database.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == "1"
        });
        signal(name, &local.id().to_string());
        // Not 1, as after a lock timeout.
        let (status, stdout, stderr) = local.wait();
        assert_eq!((status, &*stdout), (Some(0), ""), "{stderr}");
        // The server cancels the waiting statement.
        eventually("nothing waits", || {
            database.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == "0"
        });
    }
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; SELECT 1 FROM people.%' AND pid <> pg_backend_pid() AND datname = current_database()");
    let _ = holder.join();
    assert_eq!(
        database.sql("SELECT count(*) FROM pg_attribute WHERE attname = 'userid'"),
        "0"
    );
}
