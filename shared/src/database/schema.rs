//! The contents of the schema `people`, and whether a database has all of it.

use sqlx::postgres::types::Oid;
use sqlx::{Executor as _, PgConnection};

use super::adoption;

/// The result of [`lines`] for a database that was empty before the migrations. A test keeps the file current.
static EXPECTED: &str = include_str!("../../../migrations/schema.txt");

/// Every table, view, column, constraint, index and function of the schema `people`, sorted, one line each.
///
/// # Errors
/// The driver's.
pub async fn lines(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let found = sqlx::query_file_scalar!("src/database/schema.sql")
        .fetch_all(connection)
        .await?;
    // The server breaks some definitions into several lines.
    let mut lines: Vec<String> = found
        .iter()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort_unstable();
    Ok(lines)
}

/// What this code needs and the database lacks, or defines differently.
pub(super) async fn missing(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let found = lines(connection).await?;
    let missing = EXPECTED
        .lines()
        .filter(|line| !found.iter().any(|found| found == line))
        .map(|line| {
            let same = |found: &&String| subject(found) == subject(line);
            match found.iter().find(same) {
                Some(found) => format!("{found}, which should be: {line}"),
                None => format!("missing: {line}"),
            }
        });
    Ok(missing.collect())
}

/// The names of all objects of a kind: `table`, `view`, `index`, `function`, or `column` (prefixed with its table).
pub(super) fn names(kind: &str) -> Vec<String> {
    let subjects = EXPECTED.lines().map(subject);
    subjects
        .filter(|(found, _)| *found == kind)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Kind and name.
fn subject(line: &str) -> (&str, &str) {
    let mut words = line.splitn(3, ' ');
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// Our existing tables, as SQL.
pub(super) async fn tables(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    Ok(ours(connection)
        .await?
        .into_iter()
        .map(|(_, label)| label)
        .collect())
}

/// What may reject or change rows that the service writes into our tables.
pub(super) async fn refusing(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let columns = names("column");
    let mut refusing = Vec::new();
    for (oid, label) in ours(connection).await? {
        let ours: Vec<String> = columns
            .iter()
            .filter_map(|column| column.split_once('.'))
            .filter(|(table, _)| label == format!("people.{table}") || label == format!("people.\"{table}\""))
            .map(|(_, column)| column.to_owned())
            .collect();
        refusing.extend(adoption::refusing(connection, oid, &label, &ours).await?);
    }
    Ok(refusing)
}

async fn ours(connection: &mut PgConnection) -> Result<Vec<(Oid, String)>, sqlx::Error> {
    let found = sqlx::query!(
        r#"
        SELECT oid AS "oid!", format('people.%I', relname) AS "label!" FROM pg_class
        WHERE relnamespace = to_regnamespace('people') AND relkind = 'r' AND relname = ANY ($1)
        ORDER BY relname
        "#,
        &names("table")
    )
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|table| (table.oid, table.label)).collect())
}

/// Sets a safe search path for `functions` of the schema `people`, and revokes the execute privilege of PUBLIC.
///
/// # Errors
/// The driver's.
pub async fn secure_functions(
    connection: &mut PgConnection,
    functions: &[String],
) -> Result<(), sqlx::Error> {
    let statements = sqlx::query_scalar!(
        r#"
        SELECT format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', p.oid::regprocedure) AS "line!"
        FROM pg_proc p
        WHERE p.pronamespace = to_regnamespace('people') AND p.proname = ANY ($1)
          AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}'))
        UNION ALL
        SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
        FROM pg_proc p
        WHERE p.pronamespace = to_regnamespace('people') AND p.proname = ANY ($1)
          AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee = 0)
        "#,
        functions
    )
    .fetch_all(&mut *connection)
    .await?;
    for statement in statements {
        connection.execute(&*statement).await?;
    }
    Ok(())
}
