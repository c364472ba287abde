//! Adoption: converts the tables of an earlier back end to ours, before the migrations create what is still missing.
//!
//! With the tables locked, the catalogue and the rows are checked for everything that could prevent it. Only if nothing
//! is found is anything changed.

mod apply;
mod columns;
mod objects;
mod rows;

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

pub(super) use self::apply::{adopt, try_to_write};
use self::columns::{Column, Kind, quoted};
pub(super) use self::objects::refusing;
use self::objects::{Dropped, Subject};
use self::rows::Check;
pub use self::rows::canonical;
use super::schema;

/// A table of an earlier back end.
pub(super) struct OldTable {
    pub oid: Oid,
    /// Its name in SQL.
    pub label: String,
    /// Its new name.
    name: &'static str,
    /// Its present name.
    found: String,
    /// Why it cannot be adopted, regardless of its columns.
    unusable: Option<String>,
}

impl OldTable {
    /// Whether its rows are users; otherwise they are sessions.
    pub(super) fn is_of_users(&self) -> bool {
        self.name == "user"
    }
}

/// How a table is converted.
pub(super) struct Plan {
    table: OldTable,
    changes: Vec<Change>,
    dropped: Dropped,
    /// The SQL expression for the userid of a user.
    userid: String,
}

/// A column whose type changes.
struct Change {
    column: &'static str,
    from: String,
    to: &'static str,
    using: String,
}

/// The tables of the earlier back end, under either of their names, and what prevents their adoption.
pub(super) async fn find(connection: &mut PgConnection) -> Result<(Vec<OldTable>, Vec<String>), sqlx::Error> {
    let found = sqlx::query!(
        r#"
        SELECT c.oid AS "oid!", c.relname::text AS "name!", format('people.%I', c.relname) AS "label!",
               pg_describe_object('pg_class'::regclass, c.oid, 0) AS "description!",
               c.relkind = 'r' AND NOT c.relispartition AND c.reloftype = 0 AND c.relpersistence = 'p'
                   AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid OR inhparent = c.oid) AS "ordinary!"
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace('people')
          AND c.relname IN ('user', 'users', 'user_session', 'users_session')
        ORDER BY c.relname
        "#
    )
    .fetch_all(connection)
    .await?;
    let mut tables: Vec<OldTable> = found
        .into_iter()
        .map(|table| OldTable {
            oid: table.oid,
            label: table.label,
            name: if table.name.ends_with("session") { "user_session" } else { "user" },
            found: table.name,
            unusable: (!table.ordinary).then(|| {
                format!(
                    "{} is no ordinary table (a view, partitioned, inherited, unlogged or of a type): make it one",
                    table.description
                )
            }),
        })
        .collect();
    // Users first: sessions refer to them.
    tables.sort_by_key(|table| table.name);
    let mut obstacles: Vec<String> = Vec::new();
    for (name, both) in [
        ("user", "people.\"user\" and people.users"),
        ("user_session", "people.user_session and people.users_session"),
    ] {
        if tables.iter().filter(|table| table.name == name).count() > 1 {
            obstacles.push(format!(
                "{both} are both there: remove or rename the one that is not used"
            ));
        }
    }
    if tables.iter().all(|table| !table.is_of_users()) && !tables.is_empty() {
        obstacles
            .push("a table of sessions is there without people.\"user\": remove or rename it".to_owned());
    }
    obstacles.extend(tables.iter().filter_map(|table| table.unusable.clone()));
    Ok((tables, obstacles))
}

/// The number of rows of a table.
pub(super) async fn rows_of(connection: &mut PgConnection, table: &OldTable) -> Result<i64, sqlx::Error> {
    let sql = format!("SELECT count(*) FROM {}", table.label);
    sqlx::query_scalar(&sql).fetch_one(connection).await
}

/// Plans the conversion of a table, and adds what prevents it to `obstacles`.
pub(super) async fn plan(
    connection: &mut PgConnection,
    table: OldTable,
    obstacles: &mut Vec<String>,
) -> Result<Plan, sqlx::Error> {
    let known = obstacles.len();
    let label = &table.label;
    let needed = columns::needed(table.name);
    let (key, _) = needed[0];
    let found = columns::read(connection, table.oid).await?;
    let ours: Vec<&str> = needed.iter().map(|(name, _)| *name).collect();

    let mut changes = Vec::new();
    let mut checks = Vec::new();
    for &(name, kind) in needed {
        let Some(column) = found.iter().find(|column| column.name == name) else {
            obstacles.push(format!(
                "{label} has no column {name}: add it, of type {}",
                sql_type(kind)
            ));
            continue;
        };
        match column.plan(kind) {
            _ if column.generated => {
                obstacles.push(format!(
                    "{label}, {name} ({}): its values are generated",
                    column.type_name
                ));
            }
            Err(expected) => obstacles.push(format!(
                "{label}, {name} ({}): has to be {expected}",
                column.type_name
            )),
            Ok(plan) => {
                checks.extend(plan.refused.map(|(refused, problem)| Check {
                    subject: format!("{name} ({})", column.type_name),
                    refused,
                    problem,
                    shown: (kind != Kind::Hash && name != key).then(|| quoted(name)),
                }));
                changes.extend(plan.using.map(|using| Change {
                    column: name,
                    from: column.type_name.clone(),
                    to: sql_type(kind),
                    using,
                }));
            }
        }
    }
    obstacles.extend(reserved(&table, &ours, &found));

    let mut changed: Vec<String> = changes.iter().map(|change| change.column.to_owned()).collect();
    if !table.is_of_users() {
        changed.extend(apply::ENDED.map(str::to_owned));
    }
    let subject = Subject {
        oid: table.oid,
        label,
        ours: &ours,
        changed: &changed,
        key,
    };
    let dropped = objects::read(connection, &subject, obstacles).await?;
    let all: Vec<String> = ours.iter().map(|&name| name.to_owned()).collect();
    obstacles.extend(refusing(connection, table.oid, label, &all).await?);

    let mut userid = String::new();
    if obstacles.len() == known {
        let using = |column: &str| {
            let change = changes.iter().find(|change| change.column == column);
            change.map_or_else(|| quoted(column), |change| format!("({})", change.using))
        };
        if table.is_of_users() {
            let name = using("user_name");
            userid = rows::userid(
                &name,
                &using("user_id"),
                needs_icu(connection, label, &name, obstacles).await?,
            );
            checks.push(Check {
                subject: "user_name".to_owned(),
                refused: rows::too_long(&name, &userid),
                problem: "a name too long for a userid: shorten it",
                shown: Some(name.clone()),
            });
        }
        rows::check(connection, label, key, &checks, obstacles).await?;
        if obstacles.len() == known {
            if using(key) != quoted(key) {
                rows::repeated_keys(connection, label, key, &using(key), obstacles).await?;
            }
            if table.is_of_users() {
                rows::clashes(connection, label, &using("user_name"), &userid, obstacles).await?;
                // It is evaluated when the columns have their new types.
                userid = rows::userid("user_name", "user_id", userid.contains("icu"));
            }
        }
    }
    Ok(Plan {
        table,
        changes,
        dropped,
        userid,
    })
}

fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Hash => "text",
        Kind::Uuid => "uuid",
        Kind::Time => "timestamptz",
    }
}

/// Columns with the names of those that we add.
fn reserved(table: &OldTable, ours: &[&str], found: &[Column]) -> Vec<String> {
    let added = schema::names("column");
    let added = added
        .iter()
        .filter_map(|name| name.strip_prefix(table.name)?.strip_prefix('.'))
        .filter(|name| !ours.contains(name));
    added
        .filter_map(|name| found.iter().find(|column| column.name == name))
        .map(|column| {
            format!(
                "{}, {} ({}): the service adds a column of that name; rename this one",
                table.label, column.name, column.type_name
            )
        })
        .collect()
}

/// Whether there are names beyond ASCII, which PostgreSQL lower-cases as we do only with ICU.
async fn needs_icu(
    connection: &mut PgConnection,
    table: &str,
    name: &str,
    obstacles: &mut Vec<String>,
) -> Result<bool, sqlx::Error> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {table} WHERE octet_length({name}) <> char_length({name})),
                EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu')"
    );
    let (beyond_ascii, icu): (bool, bool) = sqlx::query_as(&sql).fetch_one(connection).await?;
    if beyond_ascii && !icu {
        obstacles.push(format!(
            "{table}, user_name: has names beyond ASCII, and this PostgreSQL is built without ICU, which lower-cases them"
        ));
    }
    Ok(beyond_ascii && icu)
}
