//! Privileges that the owner needs, checked before anything is changed.

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use super::schema;

/// Missing privileges of the owner, each with the statement that grants it.
pub(super) async fn missing(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let old = [
        "user",
        "users",
        "user_session",
        "users_session",
        "_sqlx_migrations",
    ];
    let tables: Vec<String> = old
        .into_iter()
        .map(str::to_owned)
        .chain(schema::names("table"))
        .collect();
    sqlx::query_scalar!(
        r#"
        SELECT format('the role %s cannot create a schema in the database: GRANT CREATE ON DATABASE %I TO %1$I',
                      current_user, current_database()) AS "line!"
        WHERE to_regnamespace('people') IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')
        UNION ALL
        SELECT format('the role %s cannot use the schema people and create objects in it: GRANT USAGE, CREATE ON SCHEMA people TO %1$I',
                      current_user)
        FROM pg_namespace
        WHERE nspname = 'people' AND NOT (has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))
        UNION ALL
        SELECT format('the role %s does not own the table people.%I: ALTER TABLE people.%2$I OWNER TO %1$I', current_user, relname)
        FROM pg_class
        WHERE relnamespace = to_regnamespace('people') AND relkind = 'r' AND NOT pg_has_role(relowner, 'USAGE')
          AND relname = ANY ($1)
        UNION ALL
        SELECT format('the role %s cannot create functions: GRANT USAGE ON LANGUAGE plpgsql TO %1$I', current_user)
        WHERE NOT EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql' AND has_language_privilege(oid, 'USAGE'))
        UNION ALL
        SELECT format('the database has the encoding %s, which does not hold every name: it has to be UTF8',
                      current_setting('server_encoding'))
        WHERE current_setting('server_encoding') <> 'UTF8'
        UNION ALL
        SELECT format('%s is not the table of migrations that the driver makes: remove or rename it',
                      pg_describe_object('pg_class'::regclass, c.oid, 0))
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace('people') AND c.relname = '_sqlx_migrations' AND (
            c.relkind <> 'r' OR c.relhastriggers OR c.relhasrules OR c.relrowsecurity
            OR NOT ARRAY['version', 'description', 'installed_on', 'success', 'checksum', 'execution_time']
                   <@ ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)
        )
        "#,
        &tables
    )
    .fetch_all(connection)
    .await
}

/// Existing objects with names that the migrations need, except the tables `adopted` and their parts.
pub(super) async fn taken(
    connection: &mut PgConnection,
    adopted: &[Oid],
) -> Result<Vec<String>, sqlx::Error> {
    let functions = schema::names("function");
    let mut types = schema::names("table");
    types.extend(schema::names("view"));
    let mut relations = types.clone();
    relations.extend(schema::names("index"));
    sqlx::query_scalar!(
        r#"
        SELECT format('%s%s belongs to another program and has a name of ours: rename it',
                      pg_describe_object('pg_class'::regclass, c.oid, 0),
                      ' (' || nullif((
                          SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
                          FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND c.relkind <> 'i'
                      ), '') || ')') AS "line!"
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace('people') AND c.relname = ANY ($1) AND c.oid <> ALL ($3)
          AND NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = c.oid AND indrelid = ANY ($3))
        UNION ALL
        SELECT format('%s belongs to another program and has a name of ours: rename it',
                      pg_describe_object('pg_proc'::regclass, p.oid, 0))
        FROM pg_proc p
        WHERE p.pronamespace = to_regnamespace('people') AND p.proname = ANY ($2)
        UNION ALL
        SELECT format('%s belongs to another program and has a name of ours: rename it',
                      pg_describe_object('pg_type'::regclass, t.oid, 0))
        FROM pg_type t
        WHERE t.typnamespace = to_regnamespace('people') AND t.typname = ANY ($4) AND t.typrelid = 0 AND t.typelem = 0
        "#,
        &relations,
        &functions,
        adopted,
        &types
    )
    .fetch_all(connection)
    .await
}
