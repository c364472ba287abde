//! The outbox: what is to be sent about accounts. Most of what writes into it is part of the statements that it tells
//! about.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::attempts::Count;
use crate::database::interval;
use crate::links::LinkState;
use crate::users::UserId;

/// What became of a request for a mail with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Counted. Whether a mail will be sent, nobody knows yet.
    Counted,
    /// Not counted, since there were too many from its source.
    TooMany {
        /// Whole seconds until one is forgotten, at least 1.
        retry_after: u32,
    },
}

/// Asks for a mail with a link that sets a new password, for whom `account` means: a userid, or an address. Nobody is
/// looked up, so the work is the same whoever that is. Counts the request on `source`, if there is a count; and of
/// those for the same typed account, sends at most three at once, then one per 20 minutes.
///
/// # Errors
/// The driver's.
pub async fn ask_reset(
    executor: impl PgExecutor<'_>,
    source: Option<&Count>,
    account: &UserId,
) -> Result<Asked, sqlx::Error> {
    let target = Count::of_mail_target(account);
    let retry_after = sqlx::query_scalar!(
        "SELECT people.ask_reset($1, $2, $3, $4, $5, $6, $7)",
        source.map(|count| count.key.as_slice()),
        source.map(|count| count.places),
        source.map(|count| count.forget_after),
        target.key,
        target.places,
        target.forget_after,
        account.as_str(),
    )
    .fetch_one(executor)
    .await?;
    Ok(match retry_after {
        Some(retry_after) => Asked::TooMany {
            retry_after: u32::try_from(retry_after).unwrap_or(1),
        },
        None => Asked::Counted,
    })
}

/// What a row of the outbox is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A link that sets a new password.
    Reset,
    /// A link that sets the first password.
    Invite,
    /// A link that confirms an address.
    Email,
    /// The password was changed.
    PasswordChanged,
    /// The address was changed; to the former one.
    EmailChanged,
    /// The account was deleted; also an event for other services.
    UserDeleted,
}

impl Kind {
    fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "reset" => Self::Reset,
            "invite" => Self::Invite,
            "email" => Self::Email,
            "password_changed" => Self::PasswordChanged,
            "email_changed" => Self::EmailChanged,
            "user_deleted" => Self::UserDeleted,
            _ => return None,
        })
    }
}

/// Something to be sent.
#[derive(Debug)]
pub struct Message {
    /// What it is about.
    pub kind: Kind,
    /// When it was asked for, by the database's clock.
    pub asked_at: DateTime<Utc>,
    /// The account, unless nobody is meant.
    pub user_id: Option<Uuid>,
    /// Where a mail goes to; none if no mail is to be sent.
    pub recipient: Option<String>,
    /// What its owner logs in as; none when the account is gone.
    pub userid: Option<String>,
    /// What its links depend on; none when the account is gone.
    pub state: Option<LinkState>,
}

/// What was taken out of the outbox.
#[derive(Debug, Default)]
pub struct Taken {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// How old the oldest row was, in seconds.
    pub oldest_seconds: i64,
    /// Rows that were looked at and stay for the next time.
    pub left: i64,
}

/// Takes the oldest rows out of the outbox: at most 1,000, of which at most 100 become mails. Two at once take
/// different rows. Whom a request for a new password means is found out now: the account of that userid, and at most
/// five of that address, verified ones first, then the oldest. Rows over a day old are dropped, except those of deleted
/// users.
///
/// A recipient whose address no account has verified gets at most 10 mails an hour. A mail that confirms an address
/// counts also if another account has verified it, since anybody can ask for those.
///
/// # Errors
/// The driver's.
pub async fn take(executor: impl PgExecutor<'_>) -> Result<Taken, sqlx::Error> {
    // The rows of the outbox are locked first, and skipped where they are locked: nobody waits for them. Then counts,
    // in the order of their keys. An address is looked up in the canonical form of what was typed, which the request
    // has stored: one that is stored in another form, beyond ASCII, is not found, and no mail could be sent to it
    // either.
    let rows = sqlx::query!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT outbox_id, kind, user_id, userid, address, asked_at
            FROM people.outbox ORDER BY asked_at, outbox_id LIMIT 1000 FOR UPDATE SKIP LOCKED
        ), mails AS MATERIALIZED (
            SELECT d.outbox_id, row_number() OVER () AS mail, u.*,
                   CASE WHEN d.kind IN ('reset', 'invite') THEN u.email ELSE d.address END AS recipient,
                   CASE
                       WHEN d.kind = 'email' THEN u.email_verified_at IS NOT NULL AND lower(u.email) = lower(d.address)
                       -- Not EXISTS, for which the server would read the whole table once.
                       ELSE coalesce((
                           SELECT true FROM people."user" v WHERE v.email_verified_at IS NOT NULL
                             AND lower(v.email) = lower(CASE WHEN d.kind IN ('reset', 'invite') THEN u.email ELSE d.address END)
                           LIMIT 1), false)
                   END AS verified
            FROM due d
            LEFT JOIN LATERAL (
                SELECT u.user_id, u.userid, u.password_hash, u.password_version, u.email, u.email_version, u.email_verified_at,
                       u.disabled_at
                FROM people."user" u WHERE u.user_id = d.user_id
                UNION ALL
                SELECT u.user_id, u.userid, u.password_hash, u.password_version, u.email, u.email_version, u.email_verified_at,
                       u.disabled_at
                FROM people."user" u WHERE d.kind = 'reset' AND u.userid = d.userid
                UNION ALL
                (SELECT u.user_id, u.userid, u.password_hash, u.password_version, u.email, u.email_version,
                        u.email_verified_at, u.disabled_at
                 FROM people."user" u
                 WHERE d.kind = 'reset' AND lower(u.email) = d.userid AND u.userid <> d.userid AND u.disabled_at IS NULL
                 ORDER BY u.email_verified_at IS NULL, u.reg_time, u.user_id LIMIT 5)
            ) AS u ON true
            WHERE (d.asked_at > now() - interval '1 day' OR d.kind = 'user_deleted')
              AND CASE d.kind
                      WHEN 'reset' THEN u.email <> '' AND u.disabled_at IS NULL
                      WHEN 'invite' THEN u.email <> '' AND u.disabled_at IS NULL AND u.password_hash IS NULL
                      WHEN 'email' THEN u.user_id IS NOT NULL AND u.disabled_at IS NULL
                      ELSE d.address <> ''
                  END
        ), sums AS MATERIALIZED (
            SELECT d.outbox_id, count(m.mail) AS mails,
                   sum(count(m.mail)) OVER (ORDER BY d.asked_at, d.outbox_id) AS mails_so_far
            FROM due d LEFT JOIN mails m ON m.outbox_id = d.outbox_id
            GROUP BY d.outbox_id, d.asked_at
        ), taken AS (
            DELETE FROM people.outbox o USING sums s
            WHERE o.outbox_id = s.outbox_id AND (s.mails = 0 OR s.mails_so_far <= 100)
            RETURNING o.outbox_id, o.kind, o.user_id, o.asked_at
        ), counted AS MATERIALIZED (
            SELECT c.mail, people.reserve_place(c.key, 10, interval '6 minutes') IS NULL AS allowed
            FROM (
                SELECT m.mail, sha256(E'recipient\\000'::bytea || convert_to(lower(m.recipient), 'UTF8')) AS key
                FROM mails m JOIN taken t ON t.outbox_id = m.outbox_id
                WHERE NOT m.verified
                ORDER BY key
            ) AS c
        )
        SELECT t.kind AS "kind!", t.asked_at AS "asked_at!", coalesce(m.user_id, t.user_id) AS user_id,
               CASE WHEN coalesce(c.allowed, true) THEN m.recipient END AS recipient,
               m.userid AS "userid?", m.password_hash AS "password_hash?", m.password_version AS "password_version?",
               m.email AS "email?", m.email_version AS "email_version?",
               (SELECT extract(epoch FROM now() - min(asked_at))::bigint FROM due) AS "oldest_seconds!",
               (SELECT count(*) FROM due) - (SELECT count(*) FROM taken) AS "left!"
        FROM taken t
        LEFT JOIN mails m ON m.outbox_id = t.outbox_id
        LEFT JOIN counted c ON c.mail = m.mail
        ORDER BY t.asked_at, t.outbox_id, m.mail
        "#
    )
    .fetch_all(executor)
    .await?;
    let mut taken = Taken::default();
    for row in rows {
        taken.oldest_seconds = row.oldest_seconds;
        taken.left = row.left;
        // The constraint of the column knows no others.
        let Some(kind) = Kind::of(&row.kind) else { continue };
        let state = row.user_id.zip(row.password_version).zip(row.email_version);
        taken.messages.push(Message {
            kind,
            asked_at: row.asked_at,
            user_id: row.user_id,
            recipient: row.recipient,
            userid: row.userid,
            state: state.map(|((user_id, password_version), email_version)| LinkState {
                user_id,
                password_hash: row.password_hash.map(SecretString::from),
                password_version,
                email: row.email,
                email_version,
            }),
        });
    }
    Ok(taken)
}

/// Removes at most `most` of the rows that were not taken within `retention`, oldest first. How many it removed: fewer
/// than `most` when no others are left, except those that are being taken.
///
/// # Errors
/// The driver's.
pub async fn purge(
    executor: impl PgExecutor<'_>,
    retention: TimeDelta,
    most: u32,
) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        r#"
        DELETE FROM people.outbox
        WHERE outbox_id = ANY (ARRAY(
            SELECT outbox_id FROM people.outbox
            WHERE asked_at < now() - $1::interval
            ORDER BY asked_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ))
        "#,
        interval(retention),
        i64::from(most),
    )
    .execute(executor)
    .await?;
    Ok(removed.rows_affected())
}
