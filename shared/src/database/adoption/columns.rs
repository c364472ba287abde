//! The columns of an earlier back end's tables, and how each becomes ours.

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

/// What the values of a column are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Hash,
    Uuid,
    Time,
}

/// The columns that an earlier back end's table must have.
pub(super) fn needed(table: &str) -> &'static [(&'static str, Kind)] {
    match table {
        "user" => &[
            ("user_id", Kind::Uuid),
            ("user_name", Kind::Text),
            ("country", Kind::Text),
            ("job", Kind::Text),
            ("phone", Kind::Text),
            ("email", Kind::Text),
            ("init_cn_level", Kind::Text),
            ("reg_time", Kind::Time),
            ("password_hash", Kind::Hash),
        ],
        _ => &[
            ("session_id", Kind::Uuid),
            ("user_id", Kind::Uuid),
            ("token", Kind::Text),
            ("login_time", Kind::Time),
            ("logout_time", Kind::Time),
        ],
    }
}

/// A column as the catalogue has it.
pub(super) struct Column {
    pub name: String,
    /// As SQL writes it.
    pub type_name: String,
    /// The name of the type, of a domain that of the type below it: `enum`, one of `pg_catalog`, `citext`; else empty.
    pub base: String,
    /// Neither a domain, nor with a length, precision or collation of its own.
    pub plain: bool,
    /// The server computes its values.
    pub generated: bool,
}

/// How the values of a column become ours.
pub(super) struct Plan {
    /// The new value as an expression; `None` when the column is right as it is.
    pub using: Option<String>,
    /// Which rows have no new value, and what to say about them.
    pub refused: Option<(String, &'static str)>,
}

/// The columns of a table, in their order.
pub(super) async fn read(connection: &mut PgConnection, table: Oid) -> Result<Vec<Column>, sqlx::Error> {
    sqlx::query_as!(
        Column,
        r#"
        SELECT a.attname::text AS "name!", format_type(a.atttypid, a.atttypmod) AS "type_name!",
               (
                   WITH RECURSIVE b AS (
                       SELECT t.oid, t.typtype, t.typbasetype, t.typname, t.typnamespace
                       UNION ALL
                       SELECT n.oid, n.typtype, n.typbasetype, n.typname, n.typnamespace
                       FROM b JOIN pg_type n ON n.oid = b.typbasetype
                   )
                   SELECT CASE WHEN typtype = 'e' THEN 'enum'
                               WHEN typnamespace = 'pg_catalog'::regnamespace OR typname = 'citext' THEN typname::text
                               ELSE '' END
                   FROM b WHERE typtype <> 'd'
               ) AS "base!",
               t.typtype <> 'd' AND a.atttypmod = -1 AND a.attcollation = t.typcollation AS "plain!",
               a.attgenerated <> '' OR a.attidentity <> '' AS "generated!"
        FROM pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        "#,
        table
    )
    .fetch_all(connection)
    .await
}

/// A time that Python or the server writes: ISO 8601, of a day that there is. Without an offset it is in UTC.
const TIME: &str = r"'^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.]\d{1,6})?)?( ?(Z|[+-](0\d|1[0-4])(:?[0-5]\d)?))?)?$'";
/// All that the server takes for a UUID.
const UUID: &str = r"'^(([0-9a-f]{4}-?){7}[0-9a-f]{4}|[{]([0-9a-f]{4}-?){7}[0-9a-f]{4}[}])$'";
/// Which hashes do not verify (`Stored::parse` in shared/src/password), as an expression. A row without a hash is none of
/// them. Regular expressions that count take 70 µs a row.
fn unknown_hash(hash: &str) -> String {
    format!(
        "NOT ({hash} = '' OR {hash} LIKE '$argon2id$%' OR {hash} LIKE '$2_$__$%' AND length({hash}) = 60 \
         AND substr({hash}, 3, 1) IN ('a', 'b', 'y') AND translate(substr({hash}, 5, 2), '0123456789', '') = '' \
         AND substr({hash}, 5, 2) BETWEEN '04' AND '14' AND substr({hash}, 8) !~ '[^./A-Za-z0-9]')"
    )
}

/// Which texts are no UUIDs, as an expression. The usual notation is told apart without a regular expression.
fn no_uuid(text: &str) -> String {
    format!(
        "CASE WHEN {text} LIKE '________-____-____-____-____________' \
              AND length(replace({text}, '-', '')) = 32 AND replace({text}, '-', '') !~ '[^0-9a-fA-F]' THEN false ELSE {text} !~* {UUID} END"
    )
}

impl Column {
    /// How its values become those of `kind`.
    ///
    /// # Errors
    /// What they should be, when they cannot.
    pub fn plan(&self, kind: Kind) -> Result<Plan, &'static str> {
        let column = quoted(&self.name);
        let is = |names: &[&str]| names.contains(&&*self.base);
        let text = is(&["text", "varchar", "bpchar", "name", "citext"]);
        // Compared by bytes, whatever the collation of the column.
        let as_text = format!("({column}::text COLLATE \"C\")");
        let (right, using, refused) = match kind {
            Kind::Text if text || is(TEXT_LIKE) => ("text", format!("{column}::text"), None),
            Kind::Hash if text => {
                let problem =
                    "a hash of a kind that does not verify here: set it to null (the user cannot log in)";
                (
                    "text",
                    format!("{column}::text"),
                    Some((unknown_hash(&as_text), problem)),
                )
            }
            Kind::Hash if is(&["bytea"]) => {
                let problem = "bytes that are no hash of a kind that verifies here: set them to null (the user cannot log in)";
                let refused = unknown_hash(&format!("(encode({column}, 'escape') COLLATE \"C\")"));
                (
                    "text",
                    format!("convert_from({column}, 'UTF8')"),
                    Some((refused, problem)),
                )
            }
            Kind::Uuid if is(&["uuid"]) => ("uuid", format!("{column}::uuid"), None),
            Kind::Uuid if text => {
                let refused = no_uuid(&as_text);
                (
                    "uuid",
                    format!("{column}::text::uuid"),
                    Some((refused, "no UUID: correct or remove it")),
                )
            }
            Kind::Time if is(&["timestamptz"]) => (
                "timestamptz",
                format!("{column}::timestamptz"),
                Some((out_of_range(&column), UNUSABLE_TIME)),
            ),
            Kind::Time if is(&["timestamp", "date"]) => {
                let using = format!("{column}::timestamp AT TIME ZONE 'UTC'");
                ("timestamptz", using, Some((out_of_range(&column), UNUSABLE_TIME)))
            }
            Kind::Time if text => {
                let refused = format!(
                    "CASE WHEN {as_text} !~ {TIME} THEN true \
                     ELSE substr({column}::text, 9, 2)::int > extract(day FROM make_date( \
                     substr({column}::text, 1, 4)::int, substr({column}::text, 6, 2)::int, 1) + interval '1 month -1 day') END"
                );
                (
                    "timestamptz",
                    format!("{column}::text::timestamptz"),
                    Some((refused, UNUSABLE_TIME)),
                )
            }
            Kind::Text => return Err("text"),
            Kind::Hash => return Err("text or bytea"),
            Kind::Uuid => return Err("uuid, or text that holds UUIDs"),
            Kind::Time => return Err("a timestamp, a date, or text that holds them in ISO 8601"),
        };
        Ok(Plan {
            using: (self.base != right || !self.plain).then_some(using),
            refused,
        })
    }
}

/// What becomes text by its usual notation.
const TEXT_LIKE: &[&str] = &[
    "enum", "char", "bool", "uuid", "int2", "int4", "int8", "numeric", "float4", "float8",
];

const UNUSABLE_TIME: &str = "no time of the years 1 to 9999 in ISO 8601: correct it or set it to null";

/// RFC 3339 has four digits for the year.
fn out_of_range(column: &str) -> String {
    format!("NOT ({column} >= '0001-01-02' AND {column} < '9999-12-31')")
}

/// An identifier in SQL.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
