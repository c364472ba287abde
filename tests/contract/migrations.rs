//! The database of the Python back end is migrated to the same schema as an empty one.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};
use shared::database::{Migration, MigrationError, canonical_userid, migrate};
use shared::users::UserId;
use sqlx::ConnectOptions as _;
use uuid::Uuid;

use crate::harness::{Database, PASSWORD, SECRET_KEY, Service};
use crate::health::assert_healthy;

/// The Python back end's tables as its ORM (`SQLAlchemy`) writes them, for one way to declare its models.
struct Models {
    tables: &'static str,
    /// Every column except the keys is nullable.
    nullable: bool,
    /// Indexes that do not constrain the data: they are kept.
    kept_indexes: &'static [&'static str],
}

/// Only types and keys.
const PLAIN: Models = Models {
    tables: crate::adoption::TABLES,
    nullable: true,
    kept_indexes: &[],
};

/// Lengths, naive timestamps, `nullable=False`, `unique=True`.
const STRICT: Models = Models {
    tables: r#"
        CREATE SCHEMA people;
        CREATE TABLE people."user" (
            user_id UUID NOT NULL,
            user_name VARCHAR(80) NOT NULL,
            country VARCHAR(64) NOT NULL,
            job VARCHAR(64) NOT NULL,
            phone VARCHAR(32) NOT NULL,
            email VARCHAR(254) NOT NULL,
            init_cn_level VARCHAR(32) NOT NULL,
            reg_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
            password_hash CHAR(60) NOT NULL,
            PRIMARY KEY (user_id),
            UNIQUE (user_name)
        );
        CREATE TABLE people.user_session (
            session_id UUID NOT NULL,
            user_id UUID NOT NULL,
            token VARCHAR(512) NOT NULL,
            login_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
            logout_time TIMESTAMP WITHOUT TIME ZONE,
            PRIMARY KEY (session_id),
            FOREIGN KEY(user_id) REFERENCES people."user" (user_id),
            UNIQUE (token)
        );
    "#,
    nullable: false,
    kept_indexes: &[],
};

/// Constraints named by a `naming_convention`, columns in another order, server defaults.
const NAMED: Models = Models {
    tables: r#"
        CREATE SCHEMA people;
        CREATE TABLE people."user" (
            reg_time TIMESTAMP WITHOUT TIME ZONE DEFAULT timezone('utc', now()),
            password_hash VARCHAR(255) DEFAULT '',
            init_cn_level VARCHAR(32) DEFAULT 'HSK1',
            email VARCHAR,
            phone VARCHAR(20),
            job TEXT DEFAULT 'student',
            country TEXT,
            user_name VARCHAR(80),
            user_id UUID DEFAULT gen_random_uuid() NOT NULL,
            CONSTRAINT pk_user PRIMARY KEY (user_id),
            CONSTRAINT uq_user_user_name UNIQUE (user_name),
            CONSTRAINT uq_user_email UNIQUE (email)
        );
        CREATE TABLE people.user_session (
            logout_time TIMESTAMP WITHOUT TIME ZONE,
            login_time TIMESTAMP WITHOUT TIME ZONE DEFAULT timezone('utc', now()),
            token VARCHAR(1024),
            user_id UUID,
            session_id UUID DEFAULT gen_random_uuid() NOT NULL,
            CONSTRAINT pk_user_session PRIMARY KEY (session_id),
            CONSTRAINT fk_user_session_user_id_user FOREIGN KEY(user_id) REFERENCES people."user" (user_id)
                ON DELETE CASCADE ON UPDATE CASCADE
        );
    "#,
    nullable: true,
    kept_indexes: &[],
};

/// `unique=True, index=True` creates an index instead of a constraint.
const INDEXED: Models = Models {
    tables: r#"
        CREATE SCHEMA people;
        CREATE TABLE people."user" (
            user_id UUID NOT NULL,
            user_name TEXT,
            country TEXT,
            job TEXT,
            phone TEXT,
            email TEXT,
            init_cn_level TEXT,
            reg_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            password_hash TEXT,
            CONSTRAINT "user's key" PRIMARY KEY (user_id)
        );
        CREATE UNIQUE INDEX ix_people_user_user_name ON people."user" (user_name);
        CREATE UNIQUE INDEX "Email in lower case" ON people."user" (lower(email));
        CREATE INDEX ix_people_user_country ON people."user" (country);
        CREATE TABLE people.user_session (
            session_id UUID NOT NULL,
            user_id UUID NOT NULL,
            token TEXT,
            login_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            logout_time TIMESTAMP WITH TIME ZONE DEFAULT 'infinity',
            CONSTRAINT "session's key" PRIMARY KEY (session_id),
            CONSTRAINT "session of user" FOREIGN KEY(user_id) REFERENCES people."user" (user_id)
                ON DELETE SET NULL
        );
        CREATE UNIQUE INDEX ix_people_user_session_token ON people.user_session (token);
        CREATE INDEX user_session_user_id_idx ON people.user_session (user_id);
    "#,
    nullable: true,
    kept_indexes: &["CREATE INDEX ix_people_user_country ON people.\"user\" USING btree (country)"],
};

/// A row of the Python back end's `people."user"`.
struct OldUser {
    user_name: Option<&'static str>,
    /// `None`: the key.
    userid: Option<&'static str>,
    /// The password and its hash by Python.
    password: Option<(&'static str, &'static str)>,
}

const fn old_user(
    user_name: &'static str,
    userid: &'static str,
    password: (&'static str, &'static str),
) -> OldUser {
    OldUser {
        user_name: Some(user_name),
        userid: Some(userid),
        password: Some(password),
    }
}

/// Made by passlib 1.7.4 with bcrypt 4.0.1, like all of these.
const USUAL: (&str, &str) = (
    "wonderland in spring",
    "$2b$12$5kWDoy8dDDbRKw5HfObXMuz/O8PmuApzzHBoUIRtM4GltBF5e.alS",
);
/// 106 bytes; the 72nd is the first half of a letter.
const LONG: (&str, &str) = (
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaäöüäöüäöü and a tail beyond 72 bytes",
    "$2b$04$o2X927rWxudQED6h.AkE3.7es66SAHJlelMUYu0Hq1XJe6dKMcXGe",
);
const FOREIGN: (&str, &str) = (
    "Grüße aus Köln, 密码很长",
    "$2b$04$d3K86vTVjZ4MEevLdEbcguMkiUz0MgAZVR9jzfAgkah6/f3iKclVq",
);
const SPACED: (&str, &str) = (
    " kept as typed ",
    "$2b$04$sqJKYRm.H48.m2eVHb/EbO7f0LdD.JBtIrzWlEyh/wnPoqGX/9/5K",
);
/// Too short for a new password.
const SHORT: (&str, &str) = (
    "short",
    "$2b$04$stJWwrRvo0uDHWe/1YLUv.q9R1I2zRjRNLvw8OpkIYzCS.O/qYk4a",
);

static USERS: [OldUser; 17] = [
    old_user("alice", "alice", USUAL),
    old_user("Bob Smith", "bob smith", LONG),
    old_user("CAROL", "carol", FOREIGN),
    old_user("Ｄａｖｅ", "dave", SPACED),
    // The final sigma differs from the others.
    old_user("ΟΔΥΣΣΕΥΣ", "οδυσσευς", SHORT),
    old_user("Σ", "σ", SHORT),
    // A dotted capital I becomes an i with a dot above.
    old_user("İbrahim", "i\u{307}brahim", SHORT),
    old_user("小明", "小明", FOREIGN),
    // The same letter, composed and decomposed.
    old_user("Zoe\u{308}", "zoë", SHORT),
    old_user("ﬁona", "fiona", SHORT),
    // Lower-casing is not case folding: these are two users.
    old_user("Straße", "straße", SHORT),
    old_user("STRASSE", "strasse", SHORT),
    // Registration would reject all of these today.
    old_user("  ", "  ", SHORT),
    old_user(" tab\t", " tab\t", SHORT),
    old_user("zero\u{200b}width", "zero\u{200b}width", SHORT),
    old_user(
        "it's \"quoted\" \\ %s {} $1;--",
        "it's \"quoted\" \\ %s {} $1;--",
        SHORT,
    ),
    old_user(
        "a name of more than 64 characters, which nothing had refused at that time",
        "a name of more than 64 characters, which nothing had refused at that time",
        SHORT,
    ),
];

/// Those that a strict model would not have accepted.
static INCOMPLETE_USERS: [OldUser; 3] = [
    OldUser {
        user_name: Some("no password"),
        userid: Some("no password"),
        password: None,
    },
    OldUser {
        user_name: None,
        userid: None,
        password: Some(USUAL),
    },
    OldUser {
        user_name: Some(""),
        userid: None,
        password: Some(USUAL),
    },
];

/// A token for alice by `PyJWT` with [`SECRET_KEY`], valid until the year 2100.
const RAW_TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoiMGIyZjZjMWUtNWQxYy00ZjZhLTlkM2UtMWYyYTNiNGM1ZDZlIiwidXNlcmlkIjoiYWxpY2UiLCJleHAiOjQxMDI0NDQ4MDB9.RDYAkdKpRoHf4S7yC1u5Gh6kS4ug6_OCeSvAbtlXQQ8";

const REGISTERED: &str = "2024-02-29T23:59:59.678901Z";

fn user_id(number: usize) -> Uuid {
    Uuid::from_u128(0x0b2f_6c1e_5d1c_4f6a_9d3e_0000_0000_0000 + number as u128)
}

fn text(value: Option<&str>) -> String {
    value.map_or("NULL".to_owned(), |value| {
        format!("'{}'", value.replace('\'', "''"))
    })
}

/// A database of the Python back end. Returns its users with their numbers.
async fn old_database(models: &Models) -> (Database, Vec<&'static OldUser>) {
    let database = Database::empty().await;
    let mut users: Vec<&OldUser> = USERS.iter().collect();
    if models.nullable {
        users.extend(&INCOMPLETE_USERS);
    }
    let mut sql = models.tables.to_owned();
    for (number, user) in users.iter().enumerate() {
        writeln!(
            sql,
            r#"INSERT INTO people."user"
                (user_id, user_name, country, job, phone, email, init_cn_level, reg_time, password_hash)
            VALUES ('{}', {}, 'country {number}', '', '+{number}', 'e{number}', 'HSK{number}', '{REGISTERED}', {});"#,
            user_id(number),
            text(user.user_name),
            text(user.password.map(|(_, hash)| hash)),
        )
        .expect("a String");
    }
    // Online, online with another name, logged out.
    for (number, token, logout) in [
        (0, RAW_TOKEN, None),
        (1, "not even a token", None),
        (2, "another", Some("2024-03-02T00:00:00.5Z")),
    ] {
        writeln!(
            sql,
            "INSERT INTO people.user_session (session_id, user_id, token, login_time, logout_time)
            VALUES ('{0}', '{0}', '{token}', '2024-03-01T12:00:00Z', {1});",
            user_id(number),
            text(logout),
        )
        .expect("a String");
    }
    database.execute(&sql).await;
    (database, users)
}

/// A run that may adopt.
async fn adopt(database: &Database) -> Result<(), MigrationError> {
    let migration = Migration {
        adopt: true,
        ..Migration::default()
    };
    migration.run(&database.options()).await.map(drop)
}

/// Every column, constraint, unique index and function of the schema `people`, one per line.
async fn schema(database: &Database) -> Vec<String> {
    const SQL: &str = r#"
        SELECT format('%s.%s %s%s%s', table_name, column_name, data_type,
                      CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END,
                      ' default ' || column_default) AS line
        FROM information_schema.columns WHERE table_schema = 'people'
        UNION ALL
        -- PostgreSQL 18 also counts "not null" among the constraints.
        SELECT format('%s constraint %s %s%s', relname, conname, pg_get_constraintdef(pg_constraint.oid),
                      CASE WHEN convalidated THEN '' ELSE ' not validated' END)
        FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
        WHERE connamespace = 'people'::regnamespace AND contype <> 'n'
        UNION ALL
        SELECT pg_get_indexdef(indexrelid)
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE relnamespace = 'people'::regnamespace
        UNION ALL
        SELECT format('function %s(%s)', proname, pg_get_function_identity_arguments(oid))
        FROM pg_proc WHERE pronamespace = 'people'::regnamespace
    "#;
    // With an empty search path, so that every name in a definition is qualified.
    let options = database.options().options([("search_path", "")]);
    let mut lines: Vec<String> = sqlx::query_scalar(SQL)
        .fetch_all(&mut options.connect().await.expect("connects"))
        .await
        .expect("the catalogue");
    lines.sort_unstable();
    lines
}

/// Every row of the two tables, as text.
async fn data(database: &Database) -> Vec<String> {
    let mut connection = database.connect().await;
    let mut rows = Vec::new();
    for table in [r#"people."user""#, "people.user_session"] {
        let sql = format!("SELECT '{table} ' || to_jsonb(t)::text FROM {table} t ORDER BY 1");
        let found: Vec<String> = sqlx::query_scalar(&sql)
            .fetch_all(&mut connection)
            .await
            .expect("rows");
        rows.extend(found);
    }
    rows
}

#[tokio::test]
async fn an_empty_database_gets_the_schema_of_the_contract() {
    let lines = schema(&Database::migrated().await).await;
    let lines: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| {
            line.contains("user")
                && !["known_network", "live_session", "outbox"]
                    .iter()
                    .any(|other| line.contains(other))
        })
        .collect();
    assert_eq!(
        lines,
        [
            r#"CREATE INDEX user_email_idx ON people."user" USING btree (lower(email)) WHERE (email IS NOT NULL)"#,
            r#"CREATE INDEX user_hash_kind_idx ON people."user" USING btree ((
CASE
    WHEN (password_hash ~~ '$2_$__$%'::text) THEN "left"(password_hash, 6)
    WHEN (password_hash ~~ '$argon2id$v=__$%'::text) THEN ("left"(password_hash, 15) || "left"(split_part(password_hash, '$'::text, 4), 64))
    WHEN (password_hash ~~ '$argon2id$%'::text) THEN ("left"(password_hash, 10) || "left"(split_part(password_hash, '$'::text, 3), 64))
    ELSE NULL::text
END) COLLATE "C")"#,
            "CREATE INDEX user_session_ended_idx ON people.user_session USING btree (LEAST(logout_time, expires_at))",
            "CREATE INDEX user_session_open_idx ON people.user_session USING btree (user_id, expires_at) WHERE (logout_time IS NULL)",
            "CREATE INDEX user_session_user_id_idx ON people.user_session USING btree (user_id)",
            r#"CREATE UNIQUE INDEX user_pkey ON people."user" USING btree (user_id)"#,
            "CREATE UNIQUE INDEX user_session_pkey ON people.user_session USING btree (session_id)",
            r#"CREATE UNIQUE INDEX user_userid_key ON people."user" USING btree (userid)"#,
            "user constraint user_pkey PRIMARY KEY (user_id)",
            "user constraint user_roles_check CHECK ((cardinality(roles) <= 16))",
            "user constraint user_userid_key UNIQUE (userid)",
            "user.country text",
            "user.disabled_at timestamp with time zone",
            "user.email text",
            "user.email_verified_at timestamp with time zone",
            "user.email_version integer not null default 0",
            "user.init_cn_level text",
            "user.job text",
            "user.password_hash text",
            "user.password_version integer not null default 0",
            "user.phone text",
            "user.reg_time timestamp with time zone not null default now()",
            "user.roles ARRAY not null default '{}'::text[]",
            "user.user_id uuid not null default gen_random_uuid()",
            "user.user_name text",
            "user.userid text not null",
            "user_session constraint user_session_pkey PRIMARY KEY (session_id)",
            "user_session constraint user_session_token_check CHECK ((token ~ '^[0-9a-f]{64}$'::text))",
            "user_session constraint user_session_user_agent_check CHECK ((char_length(user_agent) <= 256))",
            r#"user_session constraint user_session_user_id_fkey FOREIGN KEY (user_id) REFERENCES people."user"(user_id) ON DELETE CASCADE"#,
            "user_session.address inet",
            "user_session.expires_at timestamp with time zone not null",
            "user_session.last_seen timestamp with time zone not null default now()",
            "user_session.login_time timestamp with time zone not null default now()",
            "user_session.logout_time timestamp with time zone",
            "user_session.password_version integer not null default 0",
            "user_session.session_id uuid not null",
            "user_session.token text",
            "user_session.user_agent text",
            "user_session.user_id uuid",
        ]
    );
}

/// Checks every adopted database.
async fn adopts(models: &Models) {
    let (database, users) = old_database(models).await;
    adopt(&database).await.expect("migrates");

    // Schema.
    let mut expected = schema(&Database::migrated().await).await;
    expected.extend(models.kept_indexes.iter().map(|&index| index.to_owned()));
    expected.sort_unstable();
    assert_eq!(schema(&database).await, expected);

    // Users: every row and value, and the new userid.
    let expected: Vec<Value> = users
        .iter()
        .enumerate()
        .map(|(number, user)| {
            let user_id = user_id(number).to_string();
            json!({
                "userid": user.userid.unwrap_or(&user_id),
                "user_id": user_id,
                "user_name": user.user_name,
                "country": format!("country {number}"),
                "job": "",
                "phone": format!("+{number}"),
                "email": format!("e{number}"),
                "init_cn_level": format!("HSK{number}"),
                "reg_time": REGISTERED.replace('Z', "+00:00"),
                "password_hash": user.password.map(|(_, hash)| hash),
                "password_version": 0,
                "email_version": 0,
                "email_verified_at": null,
                "disabled_at": null,
                "roles": [],
            })
        })
        .collect();
    let found = database
        .text(r#"SELECT jsonb_agg(to_jsonb(u) ORDER BY user_id) FROM people."user" u"#)
        .await;
    let found: Vec<Value> = serde_json::from_str(&found.expect("rows")).expect("JSON");
    assert_eq!(found, expected);

    // Sessions: every row, ended, without its token.
    let sessions = database
        .text(
            "SELECT jsonb_agg(to_jsonb(s) - 'expires_at' - 'logout_time' - 'last_seen' || jsonb_build_object(
                'expired', s.expires_at BETWEEN now() - interval '1 minute' AND now(),
                'ended', CASE WHEN s.logout_time > now() - interval '1 minute' AND s.logout_time <= now()
                              THEN 'now' ELSE to_jsonb(s) ->> 'logout_time' END) ORDER BY session_id)
            FROM people.user_session s",
        )
        .await;
    let sessions: Value = serde_json::from_str(&sessions.expect("rows")).expect("JSON");
    let session = |number, ended| {
        json!({
            "session_id": user_id(number).to_string(),
            "user_id": user_id(number).to_string(),
            "token": null,
            "login_time": "2024-03-01T12:00:00+00:00",
            "expired": true,
            "ended": ended,
            "password_version": 0,
            "user_agent": null,
            "address": null,
        })
    };
    let expected = [
        session(0, "now"),
        session(1, "now"),
        session(2, "2024-03-02T00:00:00.5+00:00"),
    ];
    assert_eq!(sessions, Value::from(expected.to_vec()));

    all_users_log_in(database, &users).await;
}

async fn all_users_log_in(database: Database, users: &[&OldUser]) {
    // Old hashes take their time; new ones are cheap here.
    let settings = [
        ("ARGON2_MEMORY_KIB", "64"),
        ("SECRET_KEY", SECRET_KEY),
        ("FAILURES_PER_ADDRESS", "0"),
    ];
    let service = Service::on(database, &settings);
    assert_eq!(service.get("/auth/me", RAW_TOKEN).await.status, 401);
    for (number, user) in users.iter().enumerate() {
        let user_id = user_id(number);
        let key = user_id.to_string();
        let Some((password, old_hash)) = user.password else {
            let reply = service.log_in(&key, "None").await;
            reply.assert_error(40101);
            continue;
        };
        // A user without a name is identified by the key.
        let userid = user.userid.unwrap_or(&key);
        for typed in [
            user.user_name.filter(|name| !name.is_empty()).unwrap_or(userid),
            userid,
        ] {
            let reply = service.log_in(typed, password).await;
            assert_eq!(reply.status, 200, "{typed}: {}", reply.text);
            let user_info = &reply.json()["data"]["user_info"];
            assert_eq!(
                *user_info,
                json!({
                    "user_id": key,
                    "userid": userid,
                    "user_name": user.user_name.unwrap_or(userid),
                    "country": format!("country {number}"),
                    "job": "",
                    "phone": format!("+{number}"),
                    "email": format!("e{number}"),
                    "email_verified": false,
                    "init_cn_level": format!("HSK{number}"),
                    "roles": [],
                    "reg_time": REGISTERED,
                })
            );
            let me = service.get("/auth/me", &reply.access_token()).await;
            assert_eq!(me.json()["data"]["user_info"], *user_info);
        }
        let hash = service
            .database
            .text(&format!(
                r#"SELECT password_hash FROM people."user" WHERE user_id = '{key}'"#
            ))
            .await
            .expect("a hash");
        assert!(
            hash.starts_with("$argon2id$v=19$m=64,t=2,p=1$"),
            "{old_hash}: {hash}"
        );
    }
    assert_eq!(
        service
            .database
            .count(r#"people."user" WHERE password_hash NOT LIKE '$argon2id$%'"#)
            .await,
        0
    );
}

#[tokio::test]
async fn plain_models_are_adopted() {
    adopts(&PLAIN).await;
}

#[tokio::test]
async fn models_with_lengths_naive_times_and_not_null_are_adopted() {
    adopts(&STRICT).await;
}

#[tokio::test]
async fn models_with_a_naming_convention_and_server_defaults_are_adopted() {
    adopts(&NAMED).await;
}

#[tokio::test]
async fn models_with_unique_indexes_and_quoted_names_are_adopted() {
    adopts(&INDEXED).await;
}

#[tokio::test]
async fn two_old_users_with_the_same_userid_fail_the_migration_which_changes_nothing() {
    let (database, _) = old_database(&PLAIN).await;
    let add = |number: usize, name: &str| {
        format!(
            r#"INSERT INTO people."user" (user_id, user_name) VALUES ('{}', {});"#,
            user_id(number),
            text(Some(name)),
        )
    };
    let twins = [
        add(90, "ＡＬＩＣＥ"),
        add(91, "Bob\nO'Brien"),
        add(92, "bob\no'brien"),
        add(93, "bob\no'brien"),
    ];
    database.execute(&twins.concat()).await;
    let before = (schema(&database).await, data(&database).await);

    for _ in 0..2 {
        let error = adopt(&database).await.expect_err("two are one");
        assert_eq!(
            error.to_string(),
            "nothing was changed; this has to be fixed first:\n\
             - people.\"user\", user_name: 2 names are one userid of several users now, rename all but one of each: \
             'alice' (2 users: 'alice', 'ＡＬＩＣＥ'); \
             'bob\no''brien' (3 users: 'Bob\nO''Brien', 'bob\no''brien', 'bob\no''brien')"
        );
        assert_eq!((schema(&database).await, data(&database).await), before);
    }

    database
        .execute(&format!(
            r#"UPDATE people."user" SET user_name = 'another ' || user_id WHERE user_id IN ('{}', '{}', '{}')"#,
            user_id(90),
            user_id(92),
            user_id(93),
        ))
        .await;
    adopt(&database).await.expect("they have other names now");
    assert_eq!(database.count(r#"people."user""#).await, 24);
    let reply = Service::on(database, &[]).log_in("alice", USUAL.0).await;
    assert_eq!(
        reply.json()["data"]["user_info"]["user_id"],
        user_id(0).to_string()
    );
}

#[tokio::test]
async fn names_in_ascii_are_compared_without_regard_to_case_too() {
    let database = Database::empty().await;
    database.execute(PLAIN.tables).await;
    database
        .execute(
            r#"INSERT INTO people."user" (user_id, user_name)
            VALUES (gen_random_uuid(), 'Carol'), (gen_random_uuid(), 'carol')"#,
        )
        .await;
    let error = adopt(&database).await.expect_err("two are one").to_string();
    assert!(
        error.ends_with(": 'carol' (2 users: 'Carol', 'carol')"),
        "{error}"
    );
}

#[tokio::test]
async fn the_display_name_may_repeat_where_the_old_database_forbade_it() {
    let (database, _) = old_database(&STRICT).await;
    adopt(&database).await.expect("migrates");
    let service = Service::on(database, &[]);
    for userid in ["first", "second"] {
        let body = json!({ "userid": userid, "user_name": "alice", "password": PASSWORD });
        assert_eq!(service.post("/user/register", &body).await.status, 200);
    }
    // The userid must be unique, whether adopted or registered.
    for userid in ["ALICE", "οδυσσευΣ", "second"] {
        let reply = service.register(userid).await;
        reply.assert_error(40901);
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let (old, _) = old_database(&STRICT).await;
    for database in [old, Database::empty().await] {
        adopt(&database).await.expect("migrates");
        let service = Service::on(database.clone(), &[]);
        let token = service.token_of_new_user("new").await;
        let before = (schema(&database).await, data(&database).await);
        for _ in 0..2 {
            migrate(&database.options()).await.expect("migrates again");
        }
        assert_eq!((schema(&database).await, data(&database).await), before);
        assert_eq!(service.get("/auth/me", &token).await.status, 200);
    }
}

#[tokio::test]
async fn migrations_at_the_same_time_wait_for_each_other() {
    let (old, _) = old_database(&PLAIN).await;
    for database in [old, Database::empty().await] {
        let options = database.options();
        // However slow the machine: they wait only for each other.
        let run = Migration {
            adopt: true,
            lock_wait: Duration::from_mins(1),
            ..Migration::default()
        };
        let migration = || run.run(&options);
        let outcomes = tokio::join!(migration(), migration(), migration(), migration());
        for outcome in [outcomes.0, outcomes.1, outcomes.2, outcomes.3] {
            outcome.expect("migrates");
        }
        assert_eq!(schema(&database).await, schema(&Database::migrated().await).await);
    }
}

#[tokio::test]
async fn the_service_needs_only_privileges_to_use_the_tables() {
    let (database, _) = old_database(&PLAIN).await;
    adopt(&database).await.expect("migrates");
    let role = format!("people_app_{}", Uuid::new_v4().simple());
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'application';
             GRANT USAGE ON SCHEMA people TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA people TO {role};
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA people TO {role};"
        ))
        .await;
    let (_, place) = database.url.rsplit_once('@').expect("a URL with a user");
    let url = format!("postgres://{role}:application@{place}");
    let service = Service::on(database.clone(), &[("DATABASE_URL", &url)]);

    let token = service.token_of_new_user("new").await;
    let reply = service.log_in("Bob Smith", LONG.0).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let wrong = service.log_in("new", "wrong").await;
    wrong.assert_error(40101);
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
    assert_eq!(service.log_out(&token).await.status, 200);
    assert_healthy(&service.get("/health", "").await);
    database
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role};"))
        .await;
}

/// Characters that the tests' oldest server (PostgreSQL 15: Unicode 14) does not know or knows otherwise, so that it
/// does not lower-case or decompose them, or takes another sigma beside them. No name of that time has one. A newer
/// server knows some of them; a newer Rust may know more, which then belong here.
#[rustfmt::skip]
static NEWER_THAN_THE_SERVER: [RangeInclusive<char>; 30] = [
    '\u{295}'..='\u{295}', '\u{2e4}'..='\u{2e4}', '\u{1171e}'..='\u{1171e}', // another category now
    '\u{558}'..='\u{558}', '\u{58b}'..='\u{58c}', '\u{897}'..='\u{897}', '\u{1acf}'..='\u{1aeb}',
    '\u{1c89}'..='\u{1c8a}', '\u{209d}'..='\u{209f}', '\u{a7cb}'..='\u{a7cf}', '\u{a7d2}'..='\u{a7d2}',
    '\u{a7d4}'..='\u{a7d4}', '\u{a7da}'..='\u{a7f1}', '\u{107bb}'..='\u{107bf}', '\u{10d4e}'..='\u{10d85}',
    '\u{10ec5}'..='\u{10efc}', '\u{113bb}'..='\u{113e2}', '\u{11b60}'..='\u{11b66}', '\u{11dd9}'..='\u{11dd9}',
    '\u{11f5a}'..='\u{11f5a}', '\u{1611e}'..='\u{1612f}', '\u{16d40}'..='\u{16d6c}', '\u{16ea0}'..='\u{16ed3}',
    '\u{16ff2}'..='\u{16ff3}', '\u{1b123}'..='\u{1b126}', '\u{1ccd6}'..='\u{1ccf9}', '\u{1d6a6}'..='\u{1d6a6}',
    '\u{1df95}'..='\u{1dfff}', '\u{1e030}'..='\u{1e06d}', '\u{1e5ee}'..='\u{1e6ff}',
];

/// Every character but NUL, which PostgreSQL does not store, and `between`; with the context that sigma depends on.
fn names(between: char) -> Vec<String> {
    let has_case = |c: char| c < '\u{20000}' || ('\u{e0000}'..'\u{e1000}').contains(&c);
    ('\u{1}'..=char::MAX)
        .filter(|&c| c != between)
        .flat_map(|c| {
            let beside_sigma = has_case(c).then(|| [format!("{c}Σ"), format!("AΣ{c}A")]);
            std::iter::once(c.to_string()).chain(beside_sigma.into_iter().flatten())
        })
        .collect()
}

#[tokio::test]
async fn the_migration_makes_the_userid_that_the_service_looks_up_of_every_character() {
    /// A separator between names that is not a letter and does not combine.
    const BETWEEN: char = '\u{1}';
    /// Number of names per row, for speed.
    const AT_ONCE: usize = 4096;

    let database = Database::empty().await;
    // Of the server itself, and of its ICU, which need not be that of the system: U+0870 is a letter of Unicode 14.
    let knows_unicode = "current_setting('server_version_num')::int >= 150000
        AND U&'\\0870' ~ '[[:alpha:]]' COLLATE \"und-x-icu\"";
    if database.text(knows_unicode).await.as_deref() != Some("true") {
        println!("not compared: this server knows an older Unicode than that of PostgreSQL 15 and ICU 70");
        return;
    }
    let sql = format!(
        "SELECT {} FROM unnest($1::text[]) WITH ORDINALITY AS r (user_name, n) ORDER BY n",
        canonical_userid("user_name", true)
    );
    let rows: Vec<String> = names(BETWEEN)
        .chunks(AT_ONCE)
        .map(|names| names.join(&BETWEEN.to_string()))
        .collect();
    let migrated: Vec<String> = sqlx::query_scalar(&sql)
        .bind(&rows)
        .fetch_all(&mut database.connect().await)
        .await
        .expect("userids");
    assert_eq!(migrated.len(), rows.len());

    let mut unexpected = Vec::new();
    for (row, migrated) in rows.iter().zip(&migrated) {
        if UserId::canonical(row).as_str() == migrated {
            continue;
        }
        let userids: Vec<&str> = migrated.split(BETWEEN).collect();
        assert_eq!(userids.len(), row.split(BETWEEN).count());
        for (name, migrated) in row.split(BETWEEN).zip(userids) {
            let newer = name
                .chars()
                .any(|c| NEWER_THAN_THE_SERVER.iter().any(|range| range.contains(&c)));
            // The server leaves unknown characters unchanged.
            let expected = newer && (name.chars().count() > 1 || migrated == name);
            if UserId::canonical(name).as_str() != migrated && !expected {
                unexpected.push(format!(
                    "{} → {}",
                    name.escape_unicode(),
                    migrated.escape_unicode()
                ));
            }
        }
    }
    assert_eq!(unexpected, [""; 0]);
}

/// During a deployment, the old code runs with the new schema. These are the statements of the release before
/// `0005_accounts.sql`.
#[tokio::test]
async fn the_statements_of_the_previous_release_run_with_the_schema() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service
        .database
        .execute(
            "INSERT INTO people.\"user\" (userid, user_name, country, job, phone, email, init_cn_level, password_hash)
             VALUES ('bob', 'Bob', NULL, NULL, NULL, NULL, NULL, NULL)
             ON CONFLICT ON CONSTRAINT user_userid_key DO NOTHING;
             WITH mine AS MATERIALIZED (SELECT user_id FROM people.\"user\" WHERE userid = 'alice' FOR NO KEY UPDATE)
             INSERT INTO people.user_session (session_id, user_id, token, expires_at)
             SELECT gen_random_uuid(), user_id, repeat('0', 64), now() + interval '1 hour' FROM mine
             ON CONFLICT ON CONSTRAINT user_session_pkey DO UPDATE SET token = excluded.token",
        )
        .await;
    let live = "people.user_session s JOIN people.\"user\" u ON u.user_id = s.user_id
        WHERE s.token = repeat('0', 64) AND s.logout_time IS NULL AND s.expires_at > now()";
    assert_eq!(service.database.count(live).await, 1);
    // The new code accepts a session written by the old code, and ends it.
    assert_eq!(service.database.count("people.live_session").await, 2);
    let ended = service.end_other_sessions(&token).await.json();
    assert_eq!(ended["data"], json!({ "ended": 1, "more": false }));
    assert_eq!(service.database.count(live).await, 0);
}
