//! Values in an earlier back end's tables that cannot be converted.

use std::fmt::Write as _;

use sqlx::PgConnection;

/// Maximum examples of one problem.
const EXAMPLES: usize = 5;
/// Maximum number of ambiguous userids that are listed.
const CLASHES: usize = 20;
/// Characters after which a quoted value is cut.
const QUOTED: usize = 64;
/// Bytes of the longest userid that fits into its unique index.
const MAX_USERID: usize = 2600;

/// A condition to check, together with others in one pass over the table.
pub(super) struct Check {
    /// Column and type, for the message.
    pub subject: String,
    /// The condition for bad rows, in SQL.
    pub refused: String,
    /// What is wrong with them, and what to do.
    pub problem: &'static str,
    /// The SQL expression for the value to show; `None` if it must not be shown.
    pub shown: Option<String>,
}

/// Adds what `checks` find in `table` to `obstacles`. All names and expressions are trusted SQL.
pub(super) async fn check(
    connection: &mut PgConnection,
    table: &str,
    key: &str,
    checks: &[Check],
    obstacles: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    // Each condition is evaluated once per row, though used for both the count and the examples.
    let (mut refused, mut counts, mut examples) = (String::new(), Vec::new(), Vec::new());
    for (number, check) in checks.iter().enumerate() {
        let _ = write!(refused, ", {} AS r{number}", check.refused);
        let shown = check.shown.as_ref().map_or(String::new(), |shown| {
            let _ = write!(refused, ", {shown}::text AS v{number}");
            format!(" || ' has ' || quote_literal(left(v{number}, {QUOTED}))")
        });
        counts.push(format!("count(*) FILTER (WHERE r{number})"));
        examples.push(format!(
            "array_to_string((array_agg('{key} ' || quote_literal(left(key, {QUOTED})){shown} ORDER BY key)
                FILTER (WHERE r{number}))[1:{EXAMPLES}], ', ')"
        ));
    }
    let sql = format!(
        "SELECT ARRAY[{}]::int8[], ARRAY[{}]::text[] FROM (SELECT {key}::text AS key{refused} FROM {table} OFFSET 0) r",
        counts.join(", "),
        examples.join(", ")
    );
    let (counts, examples): (Vec<i64>, Vec<Option<String>>) =
        sqlx::query_as(&sql).fetch_one(connection).await?;
    for ((check, count), examples) in checks.iter().zip(counts).zip(examples) {
        if count > 0 {
            obstacles.push(format!(
                "{table}, {}: {count} rows have {}: {}",
                check.subject,
                check.problem,
                examples.unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// Adds keys that are equal as UUIDs to `obstacles`. `key` is the SQL expression that converts them.
pub(super) async fn repeated_keys(
    connection: &mut PgConnection,
    table: &str,
    column: &str,
    key: &str,
    obstacles: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "SELECT string_agg(key::text, ', ') FROM
            (SELECT {key} AS key FROM {table} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT {CLASHES}) k"
    );
    let repeated: Option<String> = sqlx::query_scalar(&sql).fetch_one(connection).await?;
    if let Some(repeated) = repeated {
        obstacles.push(format!(
            "{table}, {column}: several rows have one key, written differently: {repeated}"
        ));
    }
    Ok(())
}

/// The SQL expression that converts a user name to a userid: NFKC, lower case, NFKC, like
/// [`crate::users::UserId::canonical`]; a test compares the two for every character. `icu`: whether to handle
/// characters beyond ASCII, for which the server needs ICU.
#[must_use]
pub fn canonical(name: &str, icu: bool) -> String {
    let ascii = format!("lower({name} COLLATE \"C\") COLLATE \"C\"");
    if !icu {
        return ascii;
    }
    format!(
        "CASE WHEN octet_length({name}) = char_length({name}) THEN {ascii} \
         ELSE normalize(lower(normalize({name}, NFKC) COLLATE \"und-x-icu\"), NFKC) COLLATE \"C\" END"
    )
}

/// The SQL expression for the userid of a user: from the name or, if there is none, the key. Both are expressions.
pub(super) fn userid(name: &str, key: &str, icu: bool) -> String {
    format!("coalesce(nullif({}, ''), {key}::text)", canonical(name, icu))
}

/// The SQL condition for users whose userid does not fit into its index. Few names are long enough to be converted.
pub(super) fn too_long(name: &str, userid: &str) -> String {
    format!("octet_length({name}) > 200 AND octet_length({userid}) > {MAX_USERID}")
}

/// Adds users who would get the same userid to `obstacles`. `name` and `userid` are expressions.
pub(super) async fn clashes(
    connection: &mut PgConnection,
    table: &str,
    name: &str,
    userid: &str,
    obstacles: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let users = format!("(SELECT {userid} AS userid, coalesce({name}, '') AS user_name FROM {table}) u");
    let repeated = format!("SELECT userid FROM {users} GROUP BY userid HAVING count(*) > 1");
    let count: i64 = sqlx::query_scalar(&format!("SELECT count(*) FROM ({repeated}) r"))
        .fetch_one(&mut *connection)
        .await?;
    if count == 0 {
        return Ok(());
    }
    let sql = format!(
        "SELECT string_agg(
             format('%L (%s users: %s)', left(userid, {QUOTED}), users, array_to_string(names[1:{EXAMPLES}], ', ')),
             '; ' ORDER BY userid)
         FROM (
             SELECT userid, count(*) AS users,
                    array_agg(quote_literal(left(user_name, {QUOTED})) ORDER BY user_name COLLATE \"C\") AS names
             FROM {users}
             WHERE userid IN ({repeated} ORDER BY userid LIMIT {CLASHES})
             GROUP BY userid
         ) c"
    );
    let clashes: Option<String> = sqlx::query_scalar(&sql).fetch_one(connection).await?;
    obstacles.push(format!(
        "{table}, user_name: {count} names are one userid of several users now, rename all but one of each: {}",
        clashes.unwrap_or_default()
    ));
    Ok(())
}
