//! Constraints, indexes and other objects that depend on an earlier back end's tables: kept, dropped, or an obstacle.

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use crate::database::schema;

/// What to drop before the columns change: it concerns only our columns and no longer applies.
#[derive(Default)]
pub(super) struct Dropped {
    pub constraints: Vec<String>,
    pub indexes: Vec<String>,
    /// The present name of the primary key.
    pub primary_key: Option<String>,
}

/// A table whose dependent objects are examined.
pub(super) struct Subject<'a> {
    pub oid: Oid,
    /// Its name in SQL.
    pub label: &'a str,
    /// Columns that the service writes.
    pub ours: &'a [&'a str],
    /// Columns whose type changes or that are overwritten.
    pub changed: &'a [String],
    /// Column that must be the primary key.
    pub key: &'a str,
}

/// Determines what to drop, and adds everything else that prevents adoption to `obstacles`.
pub(super) async fn read(
    connection: &mut PgConnection,
    subject: &Subject<'_>,
    obstacles: &mut Vec<String>,
) -> Result<Dropped, sqlx::Error> {
    let mut dropped = Dropped::default();
    constraints(connection, subject, &mut dropped, obstacles).await?;
    indexes(connection, subject, &mut dropped, obstacles).await?;
    references(connection, subject, &dropped, obstacles).await?;
    dependents(connection, subject, obstacles).await?;
    Ok(dropped)
}

/// Constraints of the table itself, except those with an index.
async fn constraints(
    connection: &mut PgConnection,
    &Subject {
        oid,
        label,
        ours,
        key,
        ..
    }: &Subject<'_>,
    dropped: &mut Dropped,
    obstacles: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let constraints = sqlx::query!(
        r#"
        SELECT c.conname::text AS "name!", c.contype::text AS "kind!", pg_get_constraintdef(c.oid) AS "definition!",
               c.condeferrable AS "deferrable!",
               ARRAY(
                   SELECT a.attname::text FROM pg_attribute a
                   WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) ORDER BY 1
               ) AS "columns!",
               coalesce(c.confrelid IN (to_regclass('people."user"'), to_regclass('people.users')), false) AS "to_users!"
        FROM pg_constraint c
        WHERE c.conrelid = $1 AND c.contype IN ('p', 'c', 'f', 'x')
        ORDER BY c.conname
        "#,
        oid
    )
    .fetch_all(connection)
    .await?;
    let mut has_key = false;
    for constraint in constraints {
        let columns = &constraint.columns;
        let any = columns.iter().any(|column| ours.contains(&&**column));
        let all = !columns.is_empty() && columns.iter().all(|column| ours.contains(&&**column));
        let described = format!(
            "constraint {} of {label}, {}",
            constraint.name, constraint.definition
        );
        match &*constraint.kind {
            "p" if *columns == [key] && !constraint.deferrable => {
                has_key = true;
                dropped.primary_key = Some(constraint.name);
            }
            "p" => {
                has_key = true;
                obstacles.push(format!(
                    "{described}: the primary key must be ({key}), not deferrable"
                ));
            }
            "c" if all => dropped.constraints.push(constraint.name),
            "f" if constraint.to_users && key == "session_id" && *columns == ["user_id"] => {
                dropped.constraints.push(constraint.name);
            }
            _ if any => obstacles.push(format!(
                "{described}: it may refuse what the service writes; drop it"
            )),
            _ => {}
        }
    }
    if !has_key {
        obstacles.push(format!("{label} has no primary key: add one on ({key})"));
    }
    Ok(())
}

/// Unique indexes with their constraints, and indexes whose name we need.
async fn indexes(
    connection: &mut PgConnection,
    &Subject { oid, ours, key, .. }: &Subject<'_>,
    dropped: &mut Dropped,
    obstacles: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let indexes = sqlx::query!(
        r#"
        SELECT i.relname::text AS "name!", i.oid::regclass::text AS "qualified!", pg_get_indexdef(i.oid) AS "definition!",
               x.indisunique AS "unique!", k.conname::text AS "constraint?",
               ARRAY(
                   SELECT a.attname::text FROM pg_attribute a
                   WHERE a.attrelid = x.indrelid AND (
                       a.attnum = ANY (x.indkey::int2[]) OR a.attnum IN (
                           SELECT d.refobjsubid FROM pg_depend d
                           WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid AND d.refobjid = x.indrelid
                       )
                   ) ORDER BY 1
               ) AS "columns!"
        FROM pg_index x
        JOIN pg_class i ON i.oid = x.indexrelid
        LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.conrelid = x.indrelid AND k.contype IN ('u', 'x')
        WHERE x.indrelid = $1 AND NOT x.indisprimary
        ORDER BY i.relname
        "#,
        oid
    )
    .fetch_all(connection)
    .await?;
    let names = schema::names("index");
    for index in indexes {
        let all = index.columns.iter().all(|column| ours.contains(&&**column));
        let any = index.columns.iter().any(|column| ours.contains(&&**column));
        let has_key = index.columns.iter().any(|column| column == key);
        if all && index.unique {
            match index.constraint {
                Some(constraint) => dropped.constraints.push(constraint),
                None => dropped.indexes.push(index.qualified),
            }
        } else if names.contains(&index.name) {
            if all {
                dropped.indexes.push(index.qualified);
            } else {
                obstacles.push(format!(
                    "{}: its name is one of ours; rename it",
                    index.definition
                ));
            }
        } else if index.unique && any && !has_key {
            obstacles.push(format!(
                "{}: it may refuse what the service writes; drop it",
                index.definition
            ));
        }
    }
    Ok(())
}

/// Foreign keys of other tables that refer to a column that changes, or depend on a constraint that is dropped.
async fn references(
    connection: &mut PgConnection,
    &Subject { oid, changed, .. }: &Subject<'_>,
    dropped: &Dropped,
    obstacles: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let references = sqlx::query!(
        r#"
        SELECT c.conname::text AS "name!", c.conrelid::regclass::text AS "from!",
               pg_get_constraintdef(c.oid) AS "definition!", i.relname::text AS "index!",
               i.oid::regclass::text AS "qualified!",
               ARRAY(
                   SELECT a.attname::text FROM pg_attribute a
                   WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey)
               ) AS "columns!",
               -- The one that ours takes the place of.
               coalesce(c.conrelid IN (to_regclass('people.user_session'), to_regclass('people.users_session')), false)
                   AND cardinality(c.conkey) = 1 AND EXISTS (
                       SELECT FROM pg_attribute a
                       WHERE a.attrelid = c.conrelid AND a.attnum = c.conkey[1] AND a.attname = 'user_id'
                   ) AS "replaced!"
        FROM pg_constraint c
        JOIN pg_class i ON i.oid = c.conindid
        WHERE c.confrelid = $1 AND c.contype = 'f'
        ORDER BY 2, 1
        "#,
        oid
    )
    .fetch_all(connection)
    .await?;
    for reference in references {
        let changes = reference.columns.iter().any(|column| changed.contains(column));
        let is_dropped =
            dropped.constraints.contains(&reference.index) || dropped.indexes.contains(&reference.qualified);
        if !reference.replaced && (changes || is_dropped) {
            obstacles.push(format!(
                "constraint {} of {}, {}: what it refers to changes; drop it and make it again afterwards",
                reference.name, reference.from, reference.definition
            ));
        }
    }
    Ok(())
}

/// Views, generated columns and similar objects that use a column that changes.
async fn dependents(
    connection: &mut PgConnection,
    &Subject {
        oid, label, changed, ..
    }: &Subject<'_>,
    obstacles: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let dependents = sqlx::query!(
        r#"
        SELECT coalesce(
                   (SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0) FROM pg_rewrite r
                    WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid),
                   (SELECT pg_describe_object('pg_class'::regclass, g.adrelid, g.adnum) || ' (generated)'
                    FROM pg_attrdef g WHERE d.classid = 'pg_attrdef'::regclass AND g.oid = d.objid),
                   pg_describe_object(d.classid, d.objid, d.objsubid)
               ) AS "object!",
               string_agg(DISTINCT a.attname::text, ', ') AS "columns!"
        FROM pg_depend d
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND a.attname = ANY ($2)
          -- These follow the column by themselves.
          AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_statistic_ext'::regclass)
          -- Indexes and sequences; up to PostgreSQL 14, a generated column depends as a column.
          AND NOT (d.classid = 'pg_class'::regclass AND d.objsubid = 0)
          AND NOT EXISTS (
              SELECT FROM pg_attrdef g JOIN pg_attribute o ON o.attrelid = g.adrelid AND o.attnum = g.adnum
              WHERE d.classid = 'pg_attrdef'::regclass AND g.oid = d.objid AND o.attgenerated = ''
          )
        GROUP BY 1
        ORDER BY 1
        "#,
        oid,
        changed
    )
    .fetch_all(connection)
    .await?;
    for dependent in dependents {
        obstacles.push(format!(
            "{} uses {label} ({}), which changes: drop it and make it again afterwards",
            dependent.object, dependent.columns
        ));
    }
    Ok(())
}

/// What may reject or change rows that the service writes: triggers, rules, row security, and mandatory columns other
/// than `ours`. `label` is the name of `table` in SQL.
pub(in crate::database) async fn refusing(
    connection: &mut PgConnection,
    table: Oid,
    label: &str,
    ours: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        SELECT format('trigger %s on %s: %s; drop or disable it', tgname, $2::text, pg_get_triggerdef(oid)) AS "line!"
        FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled <> 'D'
        UNION ALL
        SELECT format('rule %s on %s: drop it', rulename, $2) FROM pg_rewrite WHERE ev_class = $1 AND ev_type <> '1'
        UNION ALL
        SELECT format('row security of %s (policies: %s): disable it', $2,
                      coalesce((SELECT string_agg(polname, ', ' ORDER BY polname) FROM pg_policy WHERE polrelid = $1), 'none'))
        FROM pg_class WHERE oid = $1 AND (relrowsecurity OR relforcerowsecurity)
        UNION ALL
        SELECT format('column %s of %s (%s) must not be null and has no default: new rows will not have it; give it a default',
                      attname, $2, format_type(atttypid, atttypmod))
        FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
        WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attname <> ALL ($3) AND (attnotnull OR typnotnull)
          AND NOT atthasdef AND attidentity = '' AND typdefault IS NULL
        "#,
        table,
        label,
        ours
    )
    .fetch_all(connection)
    .await
}
