//! Adoption of an earlier back end's database: either it succeeds completely, or the run fails, reports the obstacles
//! and changes nothing. One test for each row of the table in docs/operations.md, and random shapes.

use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use shared::database::{Migrated, Migration, MigrationError};
use sqlx::{ConnectOptions as _, Executor as _};

use crate::harness::{Database, Service};

/// The earlier back end's tables as its ORM creates them; tests replace parts of this.
pub const TABLES: &str = r#"
    CREATE SCHEMA IF NOT EXISTS people;
    CREATE TABLE people."user" (
        user_id UUID NOT NULL,
        user_name TEXT,
        country TEXT,
        job TEXT,
        phone TEXT,
        email TEXT,
        init_cn_level TEXT,
        reg_time TIMESTAMP WITH TIME ZONE,
        password_hash TEXT,
        PRIMARY KEY (user_id)
    );
    CREATE TABLE people.user_session (
        session_id UUID NOT NULL,
        user_id UUID,
        token TEXT,
        login_time TIMESTAMP WITH TIME ZONE,
        logout_time TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (session_id),
        FOREIGN KEY(user_id) REFERENCES people."user" (user_id)
    );
"#;

/// Values that are valid for every type in the tests. The hash is bcrypt of `short`.
const ROWS: &str = r#"
    INSERT INTO people."user" VALUES
        ('00000000-0000-4000-8000-000000000001', 'Alice', 'DE', 'baker', '1', 'a@b.c', '2', '2024-02-29 23:59:59',
         '$2b$04$stJWwrRvo0uDHWe/1YLUv.q9R1I2zRjRNLvw8OpkIYzCS.O/qYk4a'),
        ('00000000-0000-4000-8000-000000000002', 'Bob', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO people.user_session VALUES
        ('00000000-0000-4000-9000-000000000001', '00000000-0000-4000-8000-000000000001', 'raw', '2024-03-01 12:00:00', NULL);
"#;

const ALICE: &str = "00000000-0000-4000-8000-000000000001";
const PASSWORD: &str = "short";

/// A database with these tables after applying `changes` to their text, then their rows, then `after`.
async fn old(changes: &[(&str, &str)], after: &str) -> Database {
    let mut tables = TABLES.to_owned();
    let mut rows = ROWS.to_owned();
    for (from, to) in changes {
        assert!(tables.contains(from), "{from}");
        tables = tables.replace(from, to);
        if from.starts_with("people.") {
            rows = rows.replace(from, to);
        }
    }
    let database = Database::empty().await;
    database.execute(&tables).await;
    database.execute(&rows).await;
    database.execute(after).await;
    database
}

/// A run that may adopt.
async fn adopt(database: &Database) -> Result<Migrated, MigrationError> {
    Migration {
        adopt: true,
        ..Migration::default()
    }
    .run(&database.options())
    .await
}

/// The whole catalogue and all rows, with the transactions that wrote them, so that even reverted changes are detected.
async fn dump(database: &Database) -> String {
    let mut connection = database.connect().await;
    let mut dump = String::new();
    for table in [
        "SELECT c.xmin, oid, relname, relnamespace, relfilenode, relowner, relacl::text FROM pg_class c",
        "SELECT c.xmin, c.* FROM pg_attribute c",
        "SELECT c.xmin, c.* FROM pg_constraint c",
        "SELECT c.xmin, c.* FROM pg_index c",
        "SELECT c.xmin, c.* FROM pg_trigger c",
        "SELECT c.xmin, c.* FROM pg_proc c",
        "SELECT c.xmin, c.* FROM pg_type c",
        "SELECT c.xmin, c.* FROM pg_rewrite c",
        "SELECT c.xmin, c.* FROM pg_namespace c",
        "SELECT c.xmin, c.* FROM pg_depend c",
    ] {
        let sql = format!("SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM ({table}) t");
        let sum: String = sqlx::query_scalar(&sql)
            .fetch_one(&mut connection)
            .await
            .expect(table);
        let _ = writeln!(dump, "{table}: {sum}");
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE relkind = 'r' AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .expect("tables");
    for table in tables {
        let sql = format!(
            "SELECT coalesce(string_agg(r, '\n' ORDER BY r), '') FROM (SELECT xmin || t::text AS r FROM {table} t) t"
        );
        let rows: String = sqlx::query_scalar(&sql)
            .fetch_one(&mut connection)
            .await
            .expect(&table);
        let _ = writeln!(dump, "{table}:\n{rows}");
    }
    dump
}

/// The run fails with exactly this message and has changed nothing; after `remedy` it succeeds.
async fn stops(database: &Database, lines: &[&str], remedy: &str) {
    let before = dump(database).await;
    let error = adopt(database).await.expect_err("it stops");
    let MigrationError::Blocked(found) = &error else {
        panic!("{error}")
    };
    assert_eq!(found, lines);
    assert!(error.to_string().contains(lines[0]), "{error}");
    assert_eq!(dump(database).await, before);
    if !remedy.is_empty() {
        database.execute(remedy).await;
        if let Err(error) = adopt(database).await {
            panic!("{error}");
        }
        is_right(database).await;
    }
}

/// All users exist, the old password logs in, new users can register, and health is ok.
async fn is_right(database: &Database) -> Value {
    let service = Service::on(database.clone(), &[("ARGON2_MEMORY_KIB", "64")]);
    let health = service.get("/health", "").await;
    assert_eq!(health.json()["data"]["schema"], "current", "{}", health.text);
    let reply = service.log_in("ALICE", PASSWORD).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let user_info = reply.json()["data"]["user_info"].clone();
    assert_eq!(user_info["user_id"], ALICE);
    assert_eq!(service.log_out(&reply.access_token()).await.status, 200);
    for userid in ["first-of-ours", "second-of-ours"] {
        let token = service.token_of_new_user(userid).await;
        assert_eq!(service.get("/auth/me", &token).await.status, 200);
    }
    let left = database
        .text(
            "SELECT count(*) FROM people.user_session WHERE token IS NOT NULL AND token !~ '^[0-9a-f]{64}$'",
        )
        .await;
    assert_eq!(left.as_deref(), Some("0"));
    assert_eq!(
        database
            .count(r#"people."user" WHERE userid IN ('alice', 'bob')"#)
            .await,
        2
    );
    user_info
}

/// Adopts, and checks the result. Returns alice's `user_info`.
async fn adopts(database: &Database) -> Value {
    if let Err(error) = adopt(database).await {
        panic!("{error}");
    }
    is_right(database).await
}

// Text-like columns of another type.

#[tokio::test]
async fn text_like_columns_become_text_with_the_same_values() {
    for (column_type, shown) in [
        ("VARCHAR(32)", "2"),
        ("CHAR(8)", "2"),
        ("\"char\"", "2"),
        ("NAME", "2"),
        ("INTEGER", "2"),
        ("SMALLINT", "2"),
        ("BIGINT DEFAULT 1", "2"),
        ("NUMERIC(4, 2)", "2.00"),
        ("DOUBLE PRECISION", "2"),
        ("public.level DEFAULT '1'", "2"),
        ("public.short_text NOT NULL DEFAULT ''", "2"),
        ("TEXT COLLATE public.any_case", "2"),
        ("TEXT CHECK (init_cn_level IN ('1', '2'))", "2"),
    ] {
        let database = Database::empty().await;
        database
            .execute(
                "CREATE TYPE public.level AS ENUM ('1', '2');
                 CREATE DOMAIN public.short_text AS varchar(40) CHECK (char_length(VALUE) < 9);
                 CREATE COLLATION public.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);",
            )
            .await;
        let tables = TABLES.replace("init_cn_level TEXT", &format!("init_cn_level {column_type}"));
        database.execute(&tables).await;
        let rows = ROWS.replace(
            "NULL, NULL, NULL, NULL, NULL, NULL, NULL",
            "NULL, NULL, NULL, NULL, '1', NULL, NULL",
        );
        database.execute(&rows).await;
        assert_eq!(adopts(&database).await["init_cn_level"], shown, "{column_type}");
    }
}

#[tokio::test]
async fn a_text_column_of_another_type_fails() {
    for (column_type, named) in [
        ("JSONB", "jsonb"),
        ("TEXT[]", "text[]"),
        ("TIMESTAMP", "timestamp without time zone"),
        ("MONEY", "money"),
    ] {
        let database = Database::empty().await;
        let changed = TABLES.replace("job TEXT", &format!("job {column_type}"));
        database.execute(&changed).await;
        let line = format!("people.\"user\", job ({named}): has to be text");
        stops(&database, &[&line], "").await;
    }
}

// Keys.

#[tokio::test]
async fn keys_in_text_become_uuids() {
    for column_type in ["VARCHAR(36)", "TEXT", "CHAR(40)", "VARCHAR(64) COLLATE \"C\""] {
        let database = old(
            &[
                ("user_id UUID NOT NULL", &format!("user_id {column_type} NOT NULL")),
                ("user_id UUID,", &format!("user_id {column_type},")),
                ("session_id UUID NOT NULL", &format!("session_id {column_type} NOT NULL")),
            ],
            r#"UPDATE people."user" SET user_id = 'ABCDEFABCDEF4000A000ABCDEFABCDEF' WHERE user_name = 'Bob'"#,
        )
        .await;
        adopts(&database).await;
        let bob = database
            .text(r#"SELECT user_id FROM people."user" WHERE userid = 'bob'"#)
            .await;
        assert_eq!(bob.as_deref(), Some("abcdefab-cdef-4000-a000-abcdefabcdef"));
    }
}

#[tokio::test]
async fn a_key_that_is_not_a_uuid_fails() {
    let database = old(
        &[("user_id UUID NOT NULL", "user_id TEXT NOT NULL"), ("user_id UUID,", "user_id TEXT,")],
        r#"INSERT INTO people."user" (user_id, user_name) VALUES ('7', 'seven'), ('0000000-00000-4000-8000-000000000009', 'nine')"#,
    )
    .await;
    stops(
        &database,
        &[
            "people.\"user\", user_id (text): 2 rows have no UUID: correct or remove it: \
           user_id '0000000-00000-4000-8000-000000000009', user_id '7'",
        ],
        r#"DELETE FROM people."user" WHERE user_name IN ('seven', 'nine')"#,
    )
    .await;
}

#[tokio::test]
async fn numeric_keys_fail() {
    let database = Database::empty().await;
    let tables = TABLES
        .replace("user_id UUID NOT NULL", "user_id SERIAL NOT NULL")
        .replace("user_id UUID,", "user_id INTEGER,");
    database.execute(&tables).await;
    stops(
        &database,
        &[
            "people.\"user\", user_id (integer): has to be uuid, or text that holds UUIDs",
            "people.user_session, user_id (integer): has to be uuid, or text that holds UUIDs",
        ],
        "",
    )
    .await;
}

#[tokio::test]
async fn two_keys_that_are_the_same_uuid_fail() {
    let database = old(
        &[("user_id UUID NOT NULL", "user_id TEXT NOT NULL"), ("user_id UUID,", "user_id TEXT,")],
        r#"INSERT INTO people."user" (user_id, user_name) VALUES ('{00000000-0000-4000-8000-000000000002}', 'again')"#,
    )
    .await;
    stops(
        &database,
        &["people.\"user\", user_id: several rows have one key, written differently: 00000000-0000-4000-8000-000000000002"],
        r#"DELETE FROM people."user" WHERE user_name = 'again'"#,
    )
    .await;
}

#[tokio::test]
async fn a_table_with_another_primary_key_fails() {
    let database = old(
        &[
            ("user_id UUID NOT NULL", "user_id UUID NOT NULL UNIQUE"),
            ("PRIMARY KEY (user_id)", "PRIMARY KEY (user_name)"),
        ],
        "",
    )
    .await;
    stops(
        &database,
        &["constraint user_pkey of people.\"user\", PRIMARY KEY (user_name): the primary key must be (user_id), not deferrable"],
        "",
    )
    .await;
}

// Times.

#[tokio::test]
async fn dates_naive_times_and_texts_become_times_in_utc() {
    for (column_type, value, shown) in [
        ("DATE", "2024-02-29", "2024-02-29T00:00:00Z"),
        ("TIMESTAMP", "2024-02-29 23:59:59.5", "2024-02-29T23:59:59.500Z"),
        (
            "TIMESTAMP(0) WITH TIME ZONE",
            "2024-02-29 23:59:59+01",
            "2024-02-29T22:59:59Z",
        ),
        (
            "TEXT",
            "2024-02-29T23:59:59.678901",
            "2024-02-29T23:59:59.678901Z",
        ),
        ("VARCHAR(40)", "2024-02-29 23:59:59+02:00", "2024-02-29T21:59:59Z"),
        ("CHAR(40)", "2024-02-29T23:59Z", "2024-02-29T23:59:00Z"),
        ("TEXT", "2024-02-29", "2024-02-29T00:00:00Z"),
    ] {
        let database = old(
            &[("reg_time TIMESTAMP WITH TIME ZONE", &format!("reg_time {column_type}"))],
            &format!(r#"SET timezone = 'UTC'; UPDATE people."user" SET reg_time = '{value}' WHERE user_name = 'Alice'"#),
        )
        .await;
        // Whatever the time zone of the database.
        database
            .execute(&format!(
                "ALTER DATABASE {name} SET timezone = 'Asia/Shanghai'; ALTER DATABASE {name} SET datestyle = 'German, DMY'",
                name = database.name()
            ))
            .await;
        assert_eq!(
            adopts(&database).await["reg_time"],
            shown,
            "{column_type} {value}"
        );
    }
}

#[tokio::test]
async fn an_invalid_time_fails() {
    for (column_type, named, value) in [
        ("TIMESTAMP", "timestamp without time zone", "infinity"),
        (
            "TIMESTAMP WITH TIME ZONE",
            "timestamp with time zone",
            "-infinity",
        ),
        ("DATE", "date", "infinity"),
        ("TIMESTAMP", "timestamp without time zone", "20000-01-01"),
        ("TEXT", "text", "yesterday"),
        ("TEXT", "text", "01/02/2024"),
        ("TEXT", "text", "2023-02-29T00:00:00"),
        ("VARCHAR(40)", "character varying(40)", ""),
    ] {
        let database = old(
            &[(
                "login_time TIMESTAMP WITH TIME ZONE",
                &format!("login_time {column_type}"),
            )],
            &format!("UPDATE people.user_session SET login_time = '{value}'"),
        )
        .await;
        let shown = database.text("SELECT login_time FROM people.user_session").await;
        let line = format!(
            "people.user_session, login_time ({named}): 1 rows have no time of the years 1 to 9999 in ISO 8601: correct it or set \
             it to null: session_id '00000000-0000-4000-9000-000000000001' has '{}'",
            shown.expect("a value")
        );
        stops(
            &database,
            &[&line],
            "UPDATE people.user_session SET login_time = NULL",
        )
        .await;
    }
}

// Hashes.

#[tokio::test]
async fn hashes_as_bytes_become_text() {
    let database = old(&[("password_hash TEXT", "password_hash BYTEA")], "").await;
    adopts(&database).await;
}

#[tokio::test]
async fn hashes_that_would_never_verify_fail_and_are_not_shown() {
    for (column_type, named, value) in [
        ("TEXT", "text", "pbkdf2:sha256:260000$salt$0011"),
        (
            "TEXT",
            "text",
            "$2b$15$stJWwrRvo0uDHWe/1YLUv.q9R1I2zRjRNLvw8OpkIYzCS.O/qYk4a",
        ),
        ("VARCHAR(90)", "character varying(90)", "correct horse"),
    ] {
        let database = old(
            &[("password_hash TEXT", &format!("password_hash {column_type}"))],
            &format!(r#"UPDATE people."user" SET password_hash = '{value}' WHERE user_name = 'Bob'"#),
        )
        .await;
        let line = format!(
            "people.\"user\", password_hash ({named}): 1 rows have a hash of a kind that does not verify here: set it to null (the \
             user cannot log in): user_id '00000000-0000-4000-8000-000000000002'"
        );
        stops(
            &database,
            &[&line],
            r#"UPDATE people."user" SET password_hash = NULL WHERE user_name = 'Bob'"#,
        )
        .await;
    }
    let database = old(
        &[("password_hash TEXT", "password_hash BYTEA")],
        r#"UPDATE people."user" SET password_hash = '\x00ff' WHERE user_name = 'Bob'"#,
    )
    .await;
    stops(
        &database,
        &["people.\"user\", password_hash (bytea): 1 rows have bytes that are no hash of a kind that verifies here: set them to \
           null (the user cannot log in): user_id '00000000-0000-4000-8000-000000000002'"],
        r#"UPDATE people."user" SET password_hash = '' WHERE user_name = 'Bob'"#,
    )
    .await;
}

// Tables with plural names.

#[tokio::test]
async fn tables_with_plural_names_are_adopted() {
    let users = ("people.\"user\"", "people.users");
    let sessions = ("people.user_session", "people.users_session");
    for changes in [&[users, sessions][..], &[users], &[sessions]] {
        let database = old(changes, "CREATE VIEW public.names AS SELECT 1").await;
        adopts(&database).await;
        assert_eq!(database.text("to_regclass('people.users')").await, None);
        assert_eq!(database.text("to_regclass('people.users_session')").await, None);
    }
}

#[tokio::test]
async fn tables_with_both_names_fail() {
    let database = old(
        &[],
        "CREATE TABLE people.users (id int); CREATE TABLE people.users_session (id int)",
    )
    .await;
    stops(
        &database,
        &[
            "people.\"user\" and people.users are both there: remove or rename the one that is not used",
            "people.user_session and people.users_session are both there: remove or rename the one that is not used",
        ],
        "DROP TABLE people.users, people.users_session",
    )
    .await;
}

// Other columns.

#[tokio::test]
async fn another_not_null_column_without_a_default_fails() {
    let database = old(
        &[],
        r#"ALTER TABLE people."user" ADD COLUMN is_active BOOLEAN NOT NULL DEFAULT true;
           ALTER TABLE people."user" ALTER COLUMN is_active DROP DEFAULT;
           CREATE DOMAIN public.required AS text NOT NULL;
           ALTER TABLE people.user_session ADD COLUMN device public.required DEFAULT 'x';
           ALTER TABLE people.user_session ALTER COLUMN device DROP DEFAULT;"#,
    )
    .await;
    stops(
        &database,
        &[
            "column is_active of people.\"user\" (boolean) must not be null and has no default: new rows will not have it; give it a default",
            "column device of people.user_session (public.required) must not be null and has no default: new rows will not have it; give it a default",
        ],
        r#"ALTER TABLE people."user" ALTER COLUMN is_active SET DEFAULT true;
           ALTER TABLE people.user_session ALTER COLUMN device DROP NOT NULL, ALTER COLUMN device SET DEFAULT 'none'"#,
    )
    .await;
}

#[tokio::test]
async fn other_columns_with_their_constraints_and_indexes_are_kept() {
    let database = old(
        &[],
        r#"ALTER TABLE people."user"
               ADD COLUMN wechat_openid TEXT UNIQUE,
               ADD COLUMN number SERIAL,
               ADD COLUMN points INTEGER NOT NULL DEFAULT 7 CHECK (points > 0),
               ADD COLUMN upper_name TEXT GENERATED ALWAYS AS (upper(user_name)) STORED,
               ADD COLUMN invited_by UUID REFERENCES people."user" (user_id);
           CREATE UNIQUE INDEX ix_number ON people."user" (number);
           CREATE INDEX ix_country ON people."user" (country);
           UPDATE people."user" SET wechat_openid = 'w-' || user_name, invited_by = user_id;
           CREATE TABLE people.lesson (id serial primary key, user_id uuid REFERENCES people."user" ON DELETE CASCADE);
           CREATE VIEW public.names AS SELECT user_name, email FROM people."user";"#,
    )
    .await;
    adopts(&database).await;
    let row = database
        .text(
            r#"SELECT jsonb_build_array(wechat_openid, number, points, upper_name, invited_by)
               FROM people."user" WHERE userid = 'alice'"#,
        )
        .await;
    let row: Value = serde_json::from_str(&row.expect("a row")).expect("JSON");
    assert_eq!(row, json!(["w-Alice", 1, 7, "ALICE", ALICE]));
    let indexes = database
        .text(
            "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
               WHERE relname IN ('ix_country', 'ix_number', 'user_wechat_openid_key', 'names')",
        )
        .await;
    assert_eq!(
        indexes.as_deref(),
        Some("ix_country ix_number names user_wechat_openid_key")
    );
}

#[tokio::test]
async fn a_column_with_the_name_of_an_added_one_fails() {
    let database = old(&[], r#"ALTER TABLE people."user" ADD COLUMN userid INTEGER"#).await;
    stops(
        &database,
        &["people.\"user\", userid (integer): the service adds a column of that name; rename this one"],
        r#"ALTER TABLE people."user" RENAME COLUMN userid TO number"#,
    )
    .await;
}

#[tokio::test]
async fn a_missing_column_fails() {
    let database = old(
        &[],
        r#"ALTER TABLE people."user" RENAME COLUMN password_hash TO hashed_password"#,
    )
    .await;
    stops(
        &database,
        &["people.\"user\" has no column password_hash: add it, of type text"],
        r#"ALTER TABLE people."user" RENAME COLUMN hashed_password TO password_hash"#,
    )
    .await;
}

// Dependent objects.

#[tokio::test]
async fn views_and_similar_objects_on_a_changing_column_fail_and_are_named() {
    let database = old(
        &[("user_name TEXT", "user_name VARCHAR(80)")],
        r#"UPDATE people."user" SET email = 'x';
           CREATE VIEW public.names AS SELECT user_name FROM people."user";
           CREATE MATERIALIZED VIEW public.online AS SELECT user_id FROM people.user_session WHERE logout_time IS NULL;
           ALTER TABLE people."user" ADD COLUMN upper_name TEXT GENERATED ALWAYS AS (upper(user_name)) STORED;
           CREATE POLICY own ON people."user" USING (user_name = current_user);"#,
    )
    .await;
    stops(
        &database,
        &[
            "column upper_name of table people.\"user\" (generated) uses people.\"user\" (user_name), which changes: drop it and make it again afterwards",
            "policy own on table people.\"user\" uses people.\"user\" (user_name), which changes: drop it and make it again afterwards",
            "view public.names uses people.\"user\" (user_name), which changes: drop it and make it again afterwards",
            "materialized view public.online uses people.user_session (logout_time), which changes: drop it and make it again afterwards",
        ],
        r#"DROP VIEW public.names; DROP MATERIALIZED VIEW public.online; DROP POLICY own ON people."user";
           ALTER TABLE people."user" DROP COLUMN upper_name"#,
    )
    .await;
}

#[tokio::test]
async fn triggers_rules_and_row_security_fail_and_are_named() {
    let database = old(
        &[],
        r#"CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
           CREATE TRIGGER touch BEFORE UPDATE ON people."user" FOR EACH ROW EXECUTE FUNCTION public.touch();
           CREATE TRIGGER off BEFORE UPDATE ON people."user" FOR EACH ROW EXECUTE FUNCTION public.touch();
           ALTER TABLE people."user" DISABLE TRIGGER off;
           CREATE RULE quiet AS ON DELETE TO people.user_session DO INSTEAD NOTHING;
           CREATE POLICY own ON people.user_session USING (true);
           ALTER TABLE people.user_session ENABLE ROW LEVEL SECURITY;"#,
    )
    .await;
    stops(
        &database,
        &[
            "trigger touch on people.\"user\": CREATE TRIGGER touch BEFORE UPDATE ON people.\"user\" FOR EACH ROW EXECUTE FUNCTION public.touch(); drop or disable it",
            "rule quiet on people.user_session: drop it",
            "row security of people.user_session (policies: own): disable it",
        ],
        r#"DROP TRIGGER touch ON people."user"; DROP RULE quiet ON people.user_session;
           ALTER TABLE people.user_session DISABLE ROW LEVEL SECURITY"#,
    )
    .await;
}

#[tokio::test]
async fn foreign_keys_that_change_or_would_reject_rows_fail_and_are_named() {
    let database = old(
        &[
            ("user_id UUID NOT NULL", "user_id VARCHAR(36) NOT NULL"),
            ("user_id UUID,", "user_id VARCHAR(36),"),
        ],
        r#"CREATE TABLE public.country (code text primary key);
           INSERT INTO public.country VALUES ('DE');
           ALTER TABLE people."user" ADD CONSTRAINT known FOREIGN KEY (country) REFERENCES public.country;
           CREATE TABLE public.lesson (user_id VARCHAR(36) REFERENCES people."user");"#,
    )
    .await;
    stops(
        &database,
        &[
            "constraint known of people.\"user\", FOREIGN KEY (country) REFERENCES public.country(code): it may refuse what the service writes; drop it",
            "constraint lesson_user_id_fkey of public.lesson, FOREIGN KEY (user_id) REFERENCES people.\"user\"(user_id): what it refers to changes; drop it and make it again afterwards",
        ],
        r#"ALTER TABLE people."user" DROP CONSTRAINT known; DROP TABLE public.lesson"#,
    )
    .await;
}

#[tokio::test]
async fn a_constraint_found_only_by_inserting_fails() {
    let database = old(
        &[],
        r#"ALTER TABLE people."user" ADD COLUMN tag TEXT DEFAULT 'none';
           UPDATE people."user" SET tag = user_name;
           ALTER TABLE people."user" ADD CONSTRAINT one_tag UNIQUE (tag);"#,
    )
    .await;
    let before = dump(&database).await;
    let error = adopt(&database).await.expect_err("it stops").to_string();
    assert_eq!(
        error,
        "nothing was changed: people.\"user\" and people.user_session would refuse what the service writes: error returned from database: duplicate key value \
         violates unique constraint \"one_tag\"; Key (tag)=(none) already exists."
    );
    assert_eq!(dump(&database).await, before);
}

#[tokio::test]
async fn a_view_instead_of_a_table_fails() {
    let database = old(&[], r#"ALTER TABLE people."user" RENAME TO account; CREATE VIEW people."user" AS SELECT * FROM people.account"#).await;
    stops(
        &database,
        &["index people.user_pkey belongs to another program and has a name of ours: rename it",
          "view people.\"user\" is no ordinary table (a view, partitioned, inherited, unlogged or of a type): make it one"],
        r#"DROP VIEW people."user"; ALTER TABLE people.account RENAME TO "user""#,
    )
    .await;
}

// Sessions of missing users.

#[tokio::test]
async fn sessions_of_missing_users_are_kept_without_a_user() {
    let database = old(
        &[(",\n        FOREIGN KEY(user_id) REFERENCES people.\"user\" (user_id)", "")],
        "INSERT INTO people.user_session VALUES ('00000000-0000-4000-9000-000000000002', '00000000-0000-4000-8000-000000000009', 'raw')",
    )
    .await;
    adopts(&database).await;
    let sessions = database
        .text("SELECT string_agg(coalesce(user_id::text, 'nobody'), ' ' ORDER BY session_id) FROM people.user_session WHERE token IS NULL")
        .await;
    assert_eq!(sessions.as_deref(), Some(&*format!("{ALICE} nobody")));
}

// Other programs.

#[tokio::test]
async fn a_table_type_or_function_of_another_program_with_one_of_our_names_fails() {
    let database = old(
        &[],
        "CREATE TABLE people.attempt (id serial, score int);
         CREATE FUNCTION people.reserve_place(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
         CREATE INDEX user_session_ended_idx ON people.attempt (score);",
    )
    .await;
    stops(
        &database,
        &[
            "table people.attempt (id integer, score integer) belongs to another program and has a name of ours: rename it",
            "index people.user_session_ended_idx belongs to another program and has a name of ours: rename it",
            "function people.reserve_place(integer) belongs to another program and has a name of ours: rename it",
        ],
        "DROP FUNCTION people.reserve_place(integer); DROP TABLE people.attempt",
    )
    .await;
    let database = old(&[], "CREATE TYPE people.attempt AS ENUM ('first')").await;
    stops(
        &database,
        &["type people.attempt belongs to another program and has a name of ours: rename it"],
        "DROP TYPE people.attempt",
    )
    .await;
}

#[tokio::test]
async fn a_migration_table_of_another_program_does_not_matter() {
    let database = old(
        &[],
        "CREATE TABLE public._sqlx_migrations (version bigint primary key, anything text);
         INSERT INTO public._sqlx_migrations VALUES (1, 'theirs');
         CREATE FUNCTION public.boom() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$ran$$; END';
         CREATE TRIGGER boom BEFORE INSERT ON public._sqlx_migrations EXECUTE FUNCTION public.boom();",
    )
    .await;
    adopts(&database).await;
    assert_eq!(database.count("public._sqlx_migrations").await, 1);
}

#[tokio::test]
async fn the_search_path_of_database_and_url_does_not_matter() {
    let mut database = old(&[], "").await;
    database
        .execute(&format!(
            "ALTER DATABASE {} SET search_path = nowhere, people",
            database.name()
        ))
        .await;
    let separator = if database.url.contains('?') { '&' } else { '?' };
    database.url = format!("{}{separator}options=-c%20search_path%3Dpeople", database.url);
    adopts(&database).await;
    assert_eq!(
        database.text("to_regclass('public._sqlx_migrations')").await,
        None
    );
}

// Names.

#[tokio::test]
async fn names_with_the_same_userid_fail_and_twenty_are_listed_truncated() {
    let database = old(
        &[],
        r#"INSERT INTO people."user" (user_id, user_name)
           SELECT gen_random_uuid(), CASE n % 2 WHEN 0 THEN 'NAME ' ELSE 'name ' END || lpad((n / 2)::text, 3, '0') || repeat('é', 90)
           FROM generate_series(0, 59) n"#,
    )
    .await;
    let error = adopt(&database).await.expect_err("it stops").to_string();
    assert!(
        error.contains(
            "30 names are one userid of several users now, rename all but one of each: 'name 000éé"
        ),
        "{error}"
    );
    assert!(
        error.contains("'name 019é") && !error.contains("'name 020é"),
        "{error}"
    );
    assert!(!error.contains(&"é".repeat(65)), "{error}");
}

#[tokio::test]
async fn a_name_too_long_for_a_userid_fails() {
    let database = old(
        &[],
        r#"UPDATE people."user" SET user_name = repeat('长', 900) WHERE user_name = 'Bob'"#,
    )
    .await;
    let line = format!(
        "people.\"user\", user_name: 1 rows have a name too long for a userid: shorten it: user_id '00000000-0000-4000-8000-000000000002' has '{}'",
        "长".repeat(64)
    );
    stops(
        &database,
        &[&line],
        r#"UPDATE people."user" SET user_name = 'Bob' WHERE user_name <> 'Alice'"#,
    )
    .await;
}

// All together.

#[tokio::test]
async fn all_obstacles_are_listed_together() {
    let database = Database::empty().await;
    database.execute(&TABLES.replace("job TEXT", "job JSONB")).await;
    database.execute(&ROWS.replace("'baker'", "'{}'")).await;
    database
        .execute(
            r#"ALTER TABLE people."user" ADD COLUMN is_active BOOLEAN NOT NULL DEFAULT true;
           ALTER TABLE people."user" ALTER COLUMN is_active DROP DEFAULT;
               CREATE TABLE people.attempt (id int);
               UPDATE people.user_session SET login_time = 'infinity';"#,
        )
        .await;
    stops(
        &database,
        &[
            "table people.attempt (id integer) belongs to another program and has a name of ours: rename it",
            "people.\"user\", job (jsonb): has to be text",
            "column is_active of people.\"user\" (boolean) must not be null and has no default: new rows will not have it; give it a default",
            "people.user_session, login_time (timestamp with time zone): 1 rows have no time of the years 1 to 9999 in ISO 8601: correct it or set it to null: session_id '00000000-0000-4000-9000-000000000001' has 'infinity'",
        ],
        "",
    )
    .await;
}

// Consent.

#[tokio::test]
async fn without_permission_rows_are_not_adopted_and_empty_tables_are() {
    let database = old(&[], "").await;
    let before = dump(&database).await;
    let error = shared::database::migrate(&database.options())
        .await
        .expect_err("nobody said so");
    assert!(
        matches!(
            error,
            MigrationError::NotAllowedToAdopt {
                users: 2,
                sessions: 1
            }
        ),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "nothing was changed: the database has 2 users and 1 sessions of an earlier back end. To adopt them, which changes their \
         tables for good and logs everybody out (sessions end, their tokens are erased), set ADOPT=true or pass --adopt"
    );
    assert_eq!(dump(&database).await, before);
    database
        .execute(r#"TRUNCATE people."user", people.user_session"#)
        .await;
    shared::database::migrate(&database.options())
        .await
        .expect("there are no rows");
}

#[tokio::test]
async fn the_changes_are_reported() {
    let database = old(&[("user_name TEXT", "user_name VARCHAR(80) UNIQUE")], "").await;
    let migrated = adopt(&database).await.expect("adopts");
    assert_eq!(
        migrated.adopted,
        [
            "people.user_session: user_session_user_id_fkey dropped, which no longer has to hold or is made anew",
            "people.\"user\": user_user_name_key dropped, which no longer has to hold or is made anew",
            "people.\"user\", user_name: character varying(80) became text",
            "people.user_session: every session ended, every token erased",
        ]
    );
    assert_eq!(migrated.left_to_do, [""; 0]);
}

#[tokio::test]
async fn no_raw_token_is_left_in_the_table() {
    let database = old(&[], "").await;
    let file = "pg_read_binary_file(pg_relation_filepath('people.user_session'))";
    let contains = format!("SELECT position('raw-token-of-alice'::bytea IN {file}) > 0");
    database
        .execute("UPDATE people.user_session SET token = 'raw-token-of-alice'; CHECKPOINT")
        .await;
    assert_eq!(database.text(&contains).await.as_deref(), Some("true"));
    adopt(&database).await.expect("adopts");
    database.execute("CHECKPOINT").await;
    assert_eq!(database.text(&contains).await.as_deref(), Some("false"));
}

// Locks.

#[tokio::test]
async fn a_lock_held_by_others_fails_with_their_names_and_changes_nothing() {
    let database = old(&[], "").await;
    let mut other = database
        .options()
        .application_name("old back end")
        .connect()
        .await
        .expect("connects");
    other
        .execute(r#"BEGIN; SELECT 1 FROM people."user""#)
        .await
        .expect("reads");
    let (pid,): (i32,) = sqlx::query_as("SELECT pg_backend_pid()")
        .fetch_one(&mut other)
        .await
        .expect("a pid");
    let before = dump(&database).await;
    let migration = Migration {
        adopt: true,
        lock_wait: Duration::from_millis(300),
        ..Migration::default()
    };
    let error = migration
        .run(&database.options())
        .await
        .expect_err("it is locked")
        .to_string();
    assert!(
        error.starts_with(&format!(
            "nothing was changed; timed out waiting for locks held by others:\n\
             - process {pid} (application \"old back end\", role "
        )),
        "{error}"
    );
    assert!(
        error.contains(r#") on people."user", its transaction is 00:0"#),
        "{error}"
    );
    assert_eq!(dump(&database).await, before);
    other.execute("COMMIT").await.expect("ends");
    adopts(&database).await;
}

#[tokio::test]
async fn a_run_waits_five_seconds_for_a_lock_and_can_be_cancelled() {
    let database = old(&[], "").await;
    let mut other = database.connect().await;
    other
        .execute("BEGIN; LOCK TABLE people.user_session IN ACCESS SHARE MODE")
        .await
        .expect("locks");
    assert_eq!(Migration::default().lock_wait, Duration::from_secs(5));
    // A signal drops the run, which leaves nothing behind. One that went on would wait for good.
    let migration = Migration {
        adopt: true,
        lock_wait: Duration::from_hours(24),
        ..Migration::default()
    };
    let options = database.options();
    let run = migration.run(&options);
    let abandoned = tokio::time::timeout(Duration::from_millis(200), run).await;
    assert!(abandoned.is_err());
    other.execute("COMMIT").await.expect("ends");
    drop(other);
    adopts(&database).await;
}

// Random shapes.

#[derive(Clone, Debug)]
struct Shape {
    columns: Vec<(&'static str, &'static str)>,
    after: Vec<&'static str>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let text = || {
        select(vec![
            "TEXT",
            "VARCHAR(90)",
            "CHAR(90)",
            "VARCHAR(90) NOT NULL DEFAULT ''",
            "TEXT COLLATE \"C\"",
            "JSONB",
        ])
    };
    let level = select(vec![
        "TEXT",
        "INTEGER",
        "NUMERIC",
        "public.level",
        "VARCHAR(9) CHECK (init_cn_level <> '9')",
        "TEXT[]",
    ]);
    let key = || select(vec!["UUID", "VARCHAR(36)", "TEXT", "CHAR(36)"]);
    let time = || {
        select(vec![
            "TIMESTAMP",
            "TIMESTAMP WITH TIME ZONE",
            "TEXT",
            "DATE",
            "TIMESTAMP(3)",
            "TIME",
        ])
    };
    let hash = select(vec!["TEXT", "VARCHAR(255)", "BYTEA", "CHAR(60)"]);
    let after = select(vec![
        "SELECT 1",
        r#"ALTER TABLE people."user" ADD COLUMN x INT NOT NULL DEFAULT 1"#,
        r#"ALTER TABLE people."user" ADD COLUMN y TEXT UNIQUE"#,
        r#"ALTER TABLE people."user" ADD UNIQUE (email)"#,
        r#"CREATE VIEW public.v AS SELECT email, reg_time FROM people."user""#,
        "CREATE INDEX user_session_user_id_idx ON people.user_session (user_id)",
        "CREATE UNIQUE INDEX ON people.user_session (token)",
        r#"ALTER TABLE people."user" ADD COLUMN z INT NOT NULL DEFAULT 1; ALTER TABLE people."user" ALTER COLUMN z DROP DEFAULT"#,
        "CREATE TABLE public.attempt (id int)",
        r#"CREATE INDEX ON people."user" (lower(user_name))"#,
        "UPDATE people.user_session SET token = NULL",
    ]);
    let afters = proptest::collection::vec(after, 0..3);
    (text(), text(), level, key(), time(), time(), hash, afters).prop_map(
        |(name, email, level, key, time, logout, hash, mut after)| {
            after.dedup();
            Shape {
                columns: vec![
                    ("user_name TEXT", name),
                    ("email TEXT", email),
                    ("init_cn_level TEXT", level),
                    ("user_id UUID", key),
                    ("reg_time TIMESTAMP WITH TIME ZONE", time),
                    ("logout_time TIMESTAMP WITH TIME ZONE", logout),
                    ("password_hash TEXT", hash),
                ],
                after,
            }
        },
    )
}

#[test]
fn any_shape_is_adopted_completely_or_left_unchanged() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config = Config {
        cases: 12,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&shapes(), |shape| {
            runtime.block_on(async {
                let database = Database::empty().await;
                let mut tables = TABLES.to_owned();
                for (column, column_type) in &shape.columns {
                    let (name, _) = column.split_once(' ').expect("a name");
                    tables = tables.replace(column, &format!("{name} {column_type}"));
                }
                let mut connection = database.connect().await;
                connection
                    .execute("CREATE TYPE public.level AS ENUM ('2')")
                    .await
                    .expect("a type");
                connection.execute(&*tables).await.expect(&tables);
                // A database cannot contain values that are invalid for the type.
                let filled = connection.execute(ROWS).await.is_ok();
                for statement in &shape.after {
                    let _ = connection.execute(*statement).await;
                }
                drop(connection);
                let before = dump(&database).await;
                match adopt(&database).await {
                    Ok(_) if filled => {
                        let user_info = is_right(&database).await;
                        assert_eq!(user_info["init_cn_level"], "2", "{shape:?}");
                        assert_eq!(user_info["user_name"], "Alice");
                        assert_eq!(user_info["email"], "a@b.c");
                    }
                    Ok(_) => {
                        let service = Service::on(database, &[]);
                        service.token_of_new_user("new").await;
                    }
                    Err(MigrationError::Blocked(lines)) => {
                        assert!(!lines.is_empty());
                        assert_eq!(dump(&database).await, before, "{shape:?}: {lines:?}");
                    }
                    Err(error) => panic!("{shape:?}: {error}"),
                }
            });
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
