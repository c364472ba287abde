//! Attempts: failed log-ins, registrations and requests for mails, counted in PostgreSQL so that neither a cold start
//! nor a second instance forgets. Counts forget by themselves, one attempt after each interval of theirs. An attempt to
//! log in is counted before the password is hashed and given back after a success, so that parallel guesses cannot
//! outrun the count.

mod counts;
mod own;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

pub use self::counts::{Count, LoginCounts};
pub use self::own::OwnAttempts;
use crate::database::interval;
use crate::token::VerifiedToken;
use crate::users::{Credentials, User, UserId};

/// Most kinds of stored hashes that are looked for. A service has one, and another after each change of its parameters.
const MAX_HASH_KINDS: i32 = 16;

/// What became of an attempt to log in.
#[expect(
    clippy::large_enum_variant,
    reason = "one a request, and nearly always the large one"
)]
pub enum Attempt {
    /// Counted; may go on.
    Reserved(Reservation, Option<Box<Credentials>>),
    /// Not counted: attempts in flight occupy the places. In a moment there may be one.
    Busy {
        /// The account that was tried, where there is one.
        user_id: Option<Uuid>,
    },
    /// Not counted: too many have failed.
    TooMany {
        /// Whole seconds, 1 to 900.
        retry_after: u32,
        /// The account that was tried, where there is one.
        user_id: Option<Uuid>,
    },
}

/// An attempt that occupies its places.
#[derive(Clone, Debug)]
pub struct Reservation {
    counts: LoginCounts,
    /// By the database's clock. It tells this attempt from others on the same counts.
    reserved_at: DateTime<Utc>,
    /// The userid was counted on wherever it is tried from, since its user is not known at this network.
    from_unknown_network: bool,
    /// How often this userid had failed before. Attempts of other instances within the last 10 s are left out: it is
    /// not known yet whether they fail.
    pub failures: u32,
    /// What the stored hashes of all users are made with, for [`crate::password::Passwords::verify`]; none where it is
    /// known whose password is tried, and the work may tell.
    pub hash_kinds: Vec<String>,
}

/// Counts an attempt to log in and reads the user who is tried, in one round trip and by the same work whether there is
/// one or not. `failed`: see [`OwnAttempts::reserve`].
///
/// # Errors
/// The driver's.
pub async fn reserve_login(
    executor: impl PgExecutor<'_>,
    counts: &LoginCounts,
    userid: &UserId,
    failed: &[DateTime<Utc>],
) -> Result<Attempt, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        WITH tried AS MATERIALIZED (
            SELECT u.*, EXISTS (
                SELECT FROM people.known_network k
                WHERE k.user_id = coalesce(u.user_id, '00000000-0000-0000-0000-000000000000')
                  AND k.network = $5::text::cidr AND k.last_login > now() - interval '30 days'
            ) AS known
            FROM (SELECT) AS always LEFT JOIN people."user" u ON u.userid = $4
        )
        SELECT r.retry_after, r.only_in_flight AS "only_in_flight?", r.failures AS "failures!",
               r.reserved_at AS "reserved_at!", t.known AS "known!",
               t.user_id AS "user_id?", t.userid AS "userid?", coalesce(t.user_name, t.userid) AS user_name,
               t.country, t.job, t.phone, t.email, t.email_verified_at IS NOT NULL AS "email_verified!", t.init_cn_level,
               t.roles AS "roles?", t.reg_time AS "reg_time?", t.password_hash, t.password_version AS "password_version?",
               t.disabled_at IS NOT NULL AS "disabled!", people.hash_kinds($7) AS "hash_kinds!"
        FROM tried t, people.reserve_attempt($1, $2, $3, ARRAY[true, NOT t.known, true], $6) r
        "#,
        &counts.keys(),
        &counts.places(),
        &counts.forget_after(),
        userid.as_str(),
        counts.network,
        failed,
        MAX_HASH_KINDS,
    )
    .fetch_one(executor)
    .await?;
    let user_id = row.user_id;
    if let Some(retry_after) = row.retry_after {
        return Ok(refused(retry_after, row.only_in_flight, user_id));
    }
    let credentials = match (row.user_id, row.userid, row.user_name, row.reg_time) {
        (Some(user_id), Some(userid), Some(user_name), Some(reg_time)) => Some(Box::new(Credentials {
            user: User {
                user_id,
                userid,
                user_name,
                country: row.country,
                job: row.job,
                phone: row.phone,
                email: row.email,
                email_verified: row.email_verified,
                init_cn_level: row.init_cn_level,
                roles: row.roles.unwrap_or_default(),
                reg_time,
            },
            password_hash: row.password_hash,
            password_version: row.password_version.unwrap_or_default(),
            disabled: row.disabled,
        })),
        _ => None,
    };
    let reservation = Reservation {
        counts: counts.clone(),
        reserved_at: row.reserved_at,
        from_unknown_network: !row.known,
        failures: u32::try_from(row.failures).unwrap_or(0),
        hash_kinds: row.hash_kinds,
    };
    Ok(Attempt::Reserved(reservation, credentials))
}

/// As [`reserve_login`], for a logged-in user who confirms the account's password. `None` when the session
/// that `token` belongs to is not live: then nothing is counted.
///
/// # Errors
/// The driver's.
pub async fn reserve_own(
    executor: impl PgExecutor<'_>,
    counts: &LoginCounts,
    token: &VerifiedToken,
    failed: &[DateTime<Utc>],
) -> Result<Option<Attempt>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        WITH tried AS MATERIALIZED (
            SELECT u.*, EXISTS (
                SELECT FROM people.known_network k
                WHERE k.user_id = u.user_id AND k.network = $4::text::cidr AND k.last_login > now() - interval '30 days'
            ) AS known
            FROM people.live_session l
            JOIN people."user" u ON u.user_id = l.user_id
            WHERE l.session_id = $6 AND l.user_id IS NOT DISTINCT FROM $7 AND l.token = $8
              AND ($9::interval IS NULL OR l.last_seen > now() - $9)
        )
        SELECT r.retry_after, r.only_in_flight AS "only_in_flight?", r.failures AS "failures!",
               r.reserved_at AS "reserved_at!", t.known AS "known!",
               t.user_id, t.userid, coalesce(t.user_name, t.userid) AS "user_name!", t.country, t.job, t.phone, t.email,
               t.email_verified_at IS NOT NULL AS "email_verified!", t.init_cn_level, t.roles, t.reg_time,
               t.password_hash, t.password_version
        FROM tried t, people.reserve_attempt($1, $2, $3, ARRAY[true, NOT t.known, true], $5) r
        "#,
        &counts.keys(),
        &counts.places(),
        &counts.forget_after(),
        counts.network,
        failed,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| {
        if let Some(retry_after) = row.retry_after {
            return refused(retry_after, row.only_in_flight, Some(row.user_id));
        }
        let reservation = Reservation {
            counts: counts.clone(),
            reserved_at: row.reserved_at,
            from_unknown_network: !row.known,
            failures: u32::try_from(row.failures).unwrap_or(0),
            hash_kinds: Vec::new(),
        };
        let credentials = Credentials {
            user: User {
                user_id: row.user_id,
                userid: row.userid,
                user_name: row.user_name,
                country: row.country,
                job: row.job,
                phone: row.phone,
                email: row.email,
                email_verified: row.email_verified,
                init_cn_level: row.init_cn_level,
                roles: row.roles,
                reg_time: row.reg_time,
            },
            password_hash: row.password_hash,
            password_version: row.password_version,
            disabled: false,
        };
        Attempt::Reserved(reservation, Some(Box::new(credentials)))
    }))
}

/// Gives an attempt back after a success that writes nothing else.
///
/// # Errors
/// The driver's.
pub async fn give_back(executor: impl PgExecutor<'_>, reservation: &Reservation) -> Result<(), sqlx::Error> {
    let attempt = reservation.give_back();
    sqlx::query!(
        "SELECT people.give_back_attempt($1, $2, $3, $4)",
        &attempt.keys,
        &attempt.forget_after,
        &attempt.cleared,
        attempt.reserved_at,
    )
    .execute(executor)
    .await?;
    Ok(())
}

fn refused(retry_after: i32, only_in_flight: Option<bool>, user_id: Option<Uuid>) -> Attempt {
    if only_in_flight == Some(true) {
        Attempt::Busy { user_id }
    } else {
        Attempt::TooMany {
            retry_after: u32::try_from(retry_after).unwrap_or(1),
            user_id,
        }
    }
}

/// What `people.give_back_attempt` takes.
pub(crate) struct GiveBack {
    pub keys: Vec<Vec<u8>>,
    pub forget_after: Vec<PgInterval>,
    pub cleared: Vec<bool>,
    pub reserved_at: DateTime<Utc>,
}

impl Reservation {
    /// For the statement of a success: it clears the counts of its userid, and gives its attempt back on that of the
    /// address, where others may have failed.
    pub(crate) fn give_back(&self) -> GiveBack {
        GiveBack {
            keys: self.counts.keys(),
            forget_after: self.counts.forget_after(),
            cleared: vec![true, self.from_unknown_network, false],
            reserved_at: self.reserved_at,
        }
    }

    /// Where the attempt came from, as the database writes a network.
    pub(crate) fn network(&self) -> Option<&str> {
        self.counts.network.as_deref()
    }
}

/// What became of an attempt to register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Counted; may go on.
    Reserved,
    /// The userid is taken. Counted all the same: a client may be trying names.
    Taken,
    /// Not counted, since there were too many.
    TooMany {
        /// Whole seconds until one is forgotten, at least 1.
        retry_after: u32,
    },
}

/// Counts a registration, if there is a `count`, and looks whether its userid is free, in one round trip: a hash is not
/// worth its while otherwise.
///
/// # Errors
/// The driver's.
pub async fn reserve_registration(
    executor: impl PgExecutor<'_>,
    count: Option<&Count>,
    userid: &UserId,
) -> Result<Registration, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        SELECT CASE WHEN $1::bytea IS NOT NULL THEN people.reserve_place($1, $2, $3) END AS retry_after,
               EXISTS (SELECT FROM people."user" WHERE userid = $4) AS "taken!"
        "#,
        count.map(|count| count.key.as_slice()),
        count.map(|count| count.places),
        count.map(|count| count.forget_after),
        userid.as_str()
    )
    .fetch_one(executor)
    .await?;
    Ok(match row.retry_after {
        Some(retry_after) => Registration::TooMany {
            retry_after: u32::try_from(retry_after).unwrap_or(1),
        },
        None if row.taken => Registration::Taken,
        None => Registration::Reserved,
    })
}

/// Removes at most `most` of the rows that count nothing any more. How many it removed: fewer than `most` when no
/// others are left, except those that are being counted on.
///
/// # Errors
/// The driver's.
pub async fn purge(executor: impl PgExecutor<'_>, most: u32) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        r#"
        DELETE FROM people.attempt
        WHERE key = ANY (ARRAY(
            SELECT key FROM people.attempt
            WHERE forgotten_at < now()
            ORDER BY forgotten_at
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        ))
        "#,
        i64::from(most),
    )
    .execute(executor)
    .await?;
    Ok(removed.rows_affected())
}

/// Removes at most `most` of the networks from which their user has not logged in for 30 days. How many it removed, as
/// [`purge`].
///
/// # Errors
/// The driver's.
pub async fn purge_known_networks(executor: impl PgExecutor<'_>, most: u32) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        r#"
        DELETE FROM people.known_network
        WHERE (user_id, network) IN (
            SELECT user_id, network FROM people.known_network
            WHERE last_login < now() - interval '30 days'
            ORDER BY last_login
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        )
        "#,
        i64::from(most),
    )
    .execute(executor)
    .await?;
    Ok(removed.rows_affected())
}
