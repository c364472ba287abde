//! Attempts: how often somebody failed to log in, and how often somebody registered, counted in PostgreSQL so that
//! neither a cold start nor a second instance forgets. Counts forget by themselves, one attempt after each interval of
//! theirs. An attempt to log in is counted before the password is hashed and given back after a success, so that
//! parallel guesses cannot outrun the count.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ring::digest::{SHA256, digest};
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::users::{Credentials, User, UserId};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Most kinds of stored hashes that are looked for. A service has one, and another after each change of its parameters.
const MAX_HASH_KINDS: i32 = 16;
/// Attempts of one instance that are in flight at once: half as many as have a place in the smallest count, so that the
/// others wait for their turn here rather than for a place. A deployed instance has one request at a time.
const AT_ONCE: usize = 5;
/// Longest that an attempt waits for its turn; then it goes on all the same.
const MAX_QUEUEING: Duration = Duration::from_secs(2);
/// Longest that an attempt is in flight; `people.reserve_attempt` takes those that are older for failed.
const IN_FLIGHT: TimeDelta = TimeDelta::seconds(10);
/// Failures that an instance remembers. What it forgets too early is taken to be in flight for the rest of its 10 s.
const REMEMBERED: usize = 256;

/// A count: its key, how many attempts it has room for, and how soon it forgets one.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    key: Vec<u8>,
    places: i32,
    forget_after: PgInterval,
}

impl Count {
    /// The count of `parts`, the first of which names its kind. No part can hold the separator: what has NUL is refused
    /// before.
    fn new(parts: &[&str], places: u32, forget_after: Duration) -> Self {
        Self {
            key: digest(&SHA256, parts.join("\0").as_bytes()).as_ref().to_vec(),
            places: i32::try_from(places).unwrap_or(i32::MAX),
            // Months and days of an interval depend on the calendar, microseconds do not.
            forget_after: PgInterval {
                months: 0,
                days: 0,
                microseconds: i64::try_from(forget_after.as_micros()).unwrap_or(i64::MAX),
            },
        }
    }

    /// Registrations from `source`: `per_hour` of them, 0 stands for any number.
    #[must_use]
    pub fn of_registrations(source: Option<IpAddr>, per_hour: u32) -> Option<Self> {
        let network = network(source);
        (per_hour > 0).then(|| {
            Self::new(
                &["registration", name(network.as_ref())],
                per_hour,
                HOUR / per_hour,
            )
        })
    }
}

/// The counts that an attempt to log in belongs to.
#[derive(Clone, Debug)]
pub struct LoginCounts {
    userid_and_address: Count,
    /// Not counted on where the user has logged in lately.
    userid: Count,
    address: Option<Count>,
    network: Option<String>,
}

impl LoginCounts {
    /// The counts for `userid` from `source`. `failures_per_address` of one source are free, 0 stands for any number.
    #[must_use]
    pub fn new(userid: &UserId, source: Option<IpAddr>, failures_per_address: u32) -> Self {
        let network = network(source);
        let (userid, source) = (userid.as_str(), name(network.as_ref()));
        Self {
            userid_and_address: Count::new(&["userid and address", userid, source], 10, 15 * MINUTE),
            userid: Count::new(&["userid", userid], 100, 15 * MINUTE),
            address: (failures_per_address > 0)
                .then(|| Count::new(&["address", source], failures_per_address, MINUTE)),
            network,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Count> {
        [&self.userid_and_address, &self.userid]
            .into_iter()
            .chain(&self.address)
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        self.all().map(|count| count.key.clone()).collect()
    }

    fn forget_after(&self) -> Vec<PgInterval> {
        self.all().map(|count| count.forget_after).collect()
    }

    fn shares_a_count_with(&self, other: &Self) -> bool {
        self.all().any(|count| other.all().any(|other| count == other))
    }
}

/// The network of a source address: an IPv4 address, or of IPv6 the /64, which is what one subscriber has at least.
fn network(source: Option<IpAddr>) -> Option<String> {
    source.map(|address| match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX));
            format!("{network}/64")
        }
        IpAddr::V4(address) => format!("{address}/32"),
    })
}

fn name(network: Option<&String>) -> &str {
    network.map_or("unknown", String::as_str)
}

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
    /// How often this userid had failed before. Attempts of other instances within the last 10 s are left out: it is not
    /// known yet whether they fail.
    pub failures: u32,
    /// What the stored hashes of all users are made with, for [`crate::password::Passwords::verify`].
    pub hash_kinds: Vec<String>,
}

/// Counts an attempt to log in and reads the user who is tried, in one round trip and by the same work whether there is one
/// or not. `failed`: see [`OwnAttempts::failed_among`].
///
/// # Errors
/// The driver's.
pub async fn reserve_login(
    executor: impl PgExecutor<'_>,
    counts: &LoginCounts,
    userid: &UserId,
    failed: &[DateTime<Utc>],
) -> Result<Attempt, sqlx::Error> {
    let places: Vec<i32> = counts.all().map(|count| count.places).collect();
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
               t.country, t.job, t.phone, t.email, t.init_cn_level, t.reg_time AS "reg_time?", t.password_hash,
               people.hash_kinds($7) AS "hash_kinds!"
        FROM tried t, people.reserve_attempt($1, $2, $3, ARRAY[true, NOT t.known, true], $6) r
        "#,
        &counts.keys(),
        &places,
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
        return Ok(if row.only_in_flight == Some(true) {
            Attempt::Busy { user_id }
        } else {
            Attempt::TooMany {
                retry_after: u32::try_from(retry_after).unwrap_or(1),
                user_id,
            }
        });
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
                init_cn_level: row.init_cn_level,
                reg_time,
            },
            password_hash: row.password_hash,
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

/// What one instance knows of its own attempts to log in, and the database does not.
pub struct OwnAttempts {
    turns: Semaphore,
    failed: Mutex<VecDeque<Reservation>>,
}

impl Default for OwnAttempts {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            failed: Mutex::default(),
        }
    }
}

impl OwnAttempts {
    /// Waits for a turn, to be kept until the password is verified. `None` when that would take too long: a turn spares the
    /// others a wait and protects nothing.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = tokio::time::timeout(MAX_QUEUEING, self.turns.acquire()).await;
        turn.ok()?.ok()
    }

    /// Remembers that an attempt failed. To tell the database would be another round trip; the next attempt on one of its
    /// counts does.
    pub fn note_failure(&self, reservation: Reservation) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let over = reservation.reserved_at - IN_FLIGHT;
        while failed.len() >= REMEMBERED || failed.front().is_some_and(|first| first.reserved_at < over) {
            failed.pop_front();
        }
        failed.push_back(reservation);
    }

    /// When those were reserved that failed lately on any of `counts`.
    #[must_use]
    pub fn failed_among(&self, counts: &LoginCounts) -> Vec<DateTime<Utc>> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed
            .iter()
            .filter(|failed| failed.counts.shares_a_count_with(counts))
            .map(|failed| failed.reserved_at)
            .collect()
    }
}

/// What became of an attempt to register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Counted; may go on.
    Reserved,
    /// The userid is taken. Counted all the same: somebody may be trying names.
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

/// Removes at most `most` of the rows that count nothing any more. How many it removed: fewer than `most` when no others
/// are left, but for those that somebody is counting on at this moment.
///
/// # Errors
/// The driver's.
pub async fn purge(executor: impl PgExecutor<'_>, most: u32) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        r#"
        DELETE FROM people.attempt
        WHERE key IN (
            SELECT key FROM people.attempt
            WHERE forgotten_at < now()
            ORDER BY forgotten_at
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(userid: &str, source: &str) -> LoginCounts {
        LoginCounts::new(&UserId::canonical(userid), Some(source.parse().unwrap()), 50)
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source() {
        let [a, b, c] =
            ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"].map(|ip| counts("x", ip));
        assert_eq!(a.address, b.address);
        assert_eq!(a.userid_and_address, b.userid_and_address);
        assert_ne!(a.address, c.address);
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_ipv6_notation() {
        assert_eq!(
            counts("x", "203.0.113.7").address,
            counts("x", "::ffff:203.0.113.7").address
        );
        assert_ne!(
            counts("x", "203.0.113.7").address,
            counts("x", "203.0.113.8").address
        );
    }

    #[test]
    fn spellings_of_a_userid_share_their_counts() {
        assert_eq!(
            counts("Ａlice", "203.0.113.7").userid,
            counts("alice", "203.0.113.9").userid
        );
        assert_ne!(
            counts("alice", "203.0.113.7").userid,
            counts("bob", "203.0.113.7").userid
        );
    }
}
