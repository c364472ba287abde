//! Carries out the conversion of an earlier back end's tables.

use std::fmt::Write as _;

use sqlx::{Executor as _, PgConnection};

use super::columns::{self, quoted};
use super::{Change, Plan};

/// Columns that are overwritten in every session: raw tokens are erased, and all sessions end.
pub(super) const ENDED: [&str; 3] = ["token", "login_time", "logout_time"];

/// Carries out the plans, users first. Returns a human-readable report.
pub(in crate::database) async fn adopt(
    connection: &mut PgConnection,
    plans: &[Plan],
) -> Result<Vec<String>, sqlx::Error> {
    let mut report = Vec::new();
    // Sessions first: their foreign key depends on an index of the users.
    for plan in plans.iter().rev() {
        rename_and_drop(connection, plan, &mut report).await?;
    }
    for plan in plans {
        change_columns(connection, plan, &mut report).await?;
        if plan.table.is_of_users() {
            complete_users(connection, plan).await?;
        } else {
            connection.execute(COMPLETE_SESSIONS).await?;
            report.push("people.user_session: every session ended, every token erased".to_owned());
        }
    }
    Ok(report)
}

/// The new name of the table, in SQL.
fn name_of(plan: &Plan) -> &'static str {
    if plan.table.is_of_users() {
        "people.\"user\""
    } else {
        "people.user_session"
    }
}

async fn rename_and_drop(
    connection: &mut PgConnection,
    plan: &Plan,
    report: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let Plan { table, dropped, .. } = plan;
    let name = name_of(plan);
    if table.found != table.name {
        let rename = format!("ALTER TABLE {} RENAME TO {}", table.label, quoted(table.name));
        connection.execute(&*rename).await?;
        report.push(format!("{} became {name}", table.label));
    }
    for index in &dropped.indexes {
        connection.execute(&*format!("DROP INDEX {index}")).await?;
    }
    for constraint in &dropped.constraints {
        let drop = format!("ALTER TABLE {name} DROP CONSTRAINT {}", quoted(constraint));
        connection.execute(&*drop).await?;
    }
    for object in dropped.constraints.iter().chain(&dropped.indexes) {
        report.push(format!(
            "{name}: {object} dropped, which no longer has to hold or is made anew"
        ));
    }
    let key_name = format!("{}_pkey", table.name);
    if let Some(found) = dropped.primary_key.as_ref().filter(|found| **found != key_name) {
        let rename = format!(
            "ALTER TABLE {name} RENAME CONSTRAINT {} TO {key_name}",
            quoted(found)
        );
        connection.execute(&*rename).await?;
    }
    Ok(())
}

/// Changes types, defaults and nullability in one pass over the table.
async fn change_columns(
    connection: &mut PgConnection,
    plan: &Plan,
    report: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let name = name_of(plan);
    let needed = columns::needed(plan.table.name);
    let session = !plan.table.is_of_users();
    let mut actions = Vec::new();
    for (column, _) in needed {
        actions.push(format!("ALTER COLUMN {column} DROP DEFAULT"));
    }
    // Except the key, which comes first.
    for (column, _) in &needed[1..] {
        actions.push(format!("ALTER COLUMN {column} DROP NOT NULL"));
    }
    for Change {
        column,
        from,
        to,
        using,
    } in &plan.changes
    {
        if !(session && ENDED.contains(column)) {
            actions.push(format!("ALTER COLUMN {column} TYPE {to} USING {using}"));
        }
        report.push(format!("{name}, {column}: {from} became {to}"));
    }
    if session {
        let using = |column: &'static str| {
            let change = plan.changes.iter().find(|change| change.column == column);
            change.map_or(column, |change| &*change.using)
        };
        // Rewrites the table, so that no raw token is left in it.
        actions.push("ALTER COLUMN token TYPE text USING NULL::text".to_owned());
        for column in ["login_time", "logout_time"] {
            let using = using(column);
            actions.push(format!(
                "ALTER COLUMN {column} TYPE timestamptz USING coalesce({using}, now())"
            ));
        }
        actions.push("ADD COLUMN expires_at timestamptz NOT NULL DEFAULT now()".to_owned());
    } else {
        actions.push("ADD COLUMN userid text".to_owned());
    }
    let mut alter = String::new();
    let _ = write!(alter, "ALTER TABLE {name} {}", actions.join(", "));
    connection.execute(&*alter).await?;
    Ok(())
}

async fn complete_users(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let userid = &plan.userid;
    // Setting the type of a column rewrites the table once; an UPDATE would leave every row in it twice.
    let sql = format!(
        r#"
        UPDATE people."user" SET reg_time = now() WHERE reg_time IS NULL;
        ALTER TABLE people."user" ALTER COLUMN userid TYPE text USING {userid};
        ALTER TABLE people."user"
            ALTER COLUMN userid SET NOT NULL,
            ALTER COLUMN user_id SET DEFAULT gen_random_uuid(),
            ALTER COLUMN reg_time SET DEFAULT now(),
            ALTER COLUMN reg_time SET NOT NULL,
            ADD CONSTRAINT user_userid_key UNIQUE (userid)
        "#
    );
    connection.execute(&*sql).await?;
    Ok(())
}

/// Sessions of users who no longer exist are kept without a user.
const COMPLETE_SESSIONS: &str = r#"
    UPDATE people.user_session s SET user_id = NULL
    WHERE user_id IS NOT NULL AND NOT EXISTS (SELECT FROM people."user" u WHERE u.user_id = s.user_id);
    ALTER TABLE people.user_session
        ALTER COLUMN login_time SET DEFAULT now(),
        ALTER COLUMN login_time SET NOT NULL,
        ALTER COLUMN expires_at DROP DEFAULT,
        ADD CONSTRAINT user_session_token_check CHECK (token ~ '^[0-9a-f]{64}$'),
        ADD CONSTRAINT user_session_user_id_fkey FOREIGN KEY (user_id) REFERENCES people."user" (user_id)
            ON DELETE CASCADE"#;

/// Writes users and sessions as the service does, and rolls back: finds what the catalogue does not show.
pub(in crate::database) async fn try_to_write(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection
        .execute(
            r#"
            SAVEPOINT try_to_write;
            SET CONSTRAINTS ALL IMMEDIATE;
            INSERT INTO people."user" (userid)
            SELECT 'people-' || gen_random_uuid() FROM generate_series(1, 2);
            WITH u AS (
                INSERT INTO people."user"
                    (userid, user_name, country, job, phone, email, init_cn_level, password_hash)
                SELECT gen_random_uuid() || repeat('学', 28), repeat('学', 64), repeat('学', 64), repeat('学', 64),
                       repeat('1', 32), repeat('学', 254), repeat('学', 32), repeat('h', 128)
                FROM generate_series(1, 2)
                RETURNING user_id
            )
            SELECT set_config('people.tried', string_agg(user_id::text, ','), true) FROM u;
            INSERT INTO people.user_session (session_id, user_id, token, expires_at)
            SELECT gen_random_uuid(), u::uuid, encode(sha256((u || n)::bytea), 'hex'), now()
            FROM unnest(string_to_array(current_setting('people.tried'), ',')) u, generate_series(1, 2) n
            ON CONFLICT ON CONSTRAINT user_session_pkey DO UPDATE SET token = excluded.token;
            UPDATE people."user" SET password_hash = NULL, email = NULL
            WHERE user_id = ANY (string_to_array(current_setting('people.tried'), ',')::uuid[]);
            UPDATE people.user_session SET logout_time = now()
            WHERE user_id = ANY (string_to_array(current_setting('people.tried'), ',')::uuid[]);
            DELETE FROM people."user"
            WHERE user_id = ANY (string_to_array(current_setting('people.tried'), ',')::uuid[]);
            ROLLBACK TO SAVEPOINT try_to_write;
            RELEASE SAVEPOINT try_to_write"#,
        )
        .await?;
    Ok(())
}
