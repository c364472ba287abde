//! Attempts: how often somebody failed to log in, and how often somebody registered, counted in PostgreSQL so that
//! neither a cold start nor a second instance forgets. An attempt is counted before the password is hashed and given
//! back after a success, so that parallel guesses cannot outrun the count.

use std::net::{IpAddr, Ipv6Addr};

use chrono::{DateTime, Utc};
use ring::digest::{SHA256, digest};
use sqlx::PgExecutor;

use crate::users::{Credentials, User, UserId};

/// Failures without a consequence, for a userid from one source address.
const FREE_FOR_USERID_AND_ADDRESS: i32 = 5;
/// Failures without a consequence, for a userid from wherever.
const FREE_FOR_USERID: i32 = 100;

/// Most kinds of stored hashes that are looked for. A service has one, and another after each change of its parameters.
const MAX_HASH_KINDS: i32 = 16;

/// What is counted, as digests: whoever reads the table learns no userid and no address.
type Key = Vec<u8>;

/// The counts that an attempt to log in belongs to.
#[derive(Clone, Debug)]
pub struct LoginKeys {
    userid_and_address: Key,
    userid: Key,
    address: Option<(Key, i32)>,
}

impl LoginKeys {
    /// The counts for `userid` from `source`. `failures_per_address` of one source are free, 0 stands for any number.
    #[must_use]
    pub fn new(userid: &UserId, source: Option<IpAddr>, failures_per_address: u32) -> Self {
        let source = network(source);
        let free = i32::try_from(failures_per_address).unwrap_or(i32::MAX);
        Self {
            userid_and_address: key(&["userid and address", userid.as_str(), &source]),
            userid: key(&["userid", userid.as_str()]),
            address: (free > 0).then(|| (key(&["address", &source]), free)),
        }
    }

    /// Those that a success clears: they hold its userid.
    fn cleared(&self) -> Vec<Key> {
        vec![self.userid_and_address.clone(), self.userid.clone()]
    }

    /// The one that a success gives its reservation back to: others may have failed from the same address.
    fn refunded(&self) -> Option<&Key> {
        self.address.as_ref().map(|(key, _)| key)
    }
}

/// A source address as text: of IPv6 its /64, which is what one subscriber has at least.
fn network(source: Option<IpAddr>) -> String {
    match source.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(address)) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).to_string()
        }
        Some(address) => address.to_string(),
        None => "unknown".to_owned(),
    }
}

/// No part can hold the separator: a userid with NUL is refused before.
fn key(parts: &[&str]) -> Key {
    digest(&SHA256, parts.join("\0").as_bytes()).as_ref().to_vec()
}

/// What became of an attempt to log in.
pub enum Attempt {
    /// Counted; may go on.
    Reserved(Reservation, Option<Box<Credentials>>),
    /// Not counted, since there were too many.
    TooMany {
        /// Whole seconds, at least 1.
        retry_after: u32,
    },
}

/// A failure that was counted in advance.
#[derive(Clone, Debug)]
pub struct Reservation {
    keys: LoginKeys,
    reserved_at: DateTime<Utc>,
    last_since: DateTime<Utc>,
    /// Failures before this attempt, of this userid.
    pub failures: u32,
    /// What the stored hashes of all users are made with, for [`crate::password::Passwords::verify`].
    pub hash_kinds: Vec<String>,
}

/// Counts an attempt to log in and reads the user who is tried, in one round trip.
///
/// # Errors
/// The driver's.
pub async fn reserve_login(
    executor: impl PgExecutor<'_>,
    keys: &LoginKeys,
    userid: &UserId,
) -> Result<Attempt, sqlx::Error> {
    let mut all = keys.cleared();
    let mut free = vec![FREE_FOR_USERID_AND_ADDRESS, FREE_FOR_USERID];
    if let Some((key, free_for_address)) = &keys.address {
        all.push(key.clone());
        free.push(*free_for_address);
    }
    let row = sqlx::query!(
        r#"
        SELECT r.retry_after, r.failures AS "failures!", r.reserved_at AS "reserved_at!",
               r.last_since AS "last_since!",
               u.user_id AS "user_id?", u.userid AS "userid?", coalesce(u.user_name, u.userid) AS user_name,
               u.country, u.job, u.phone, u.email, u.init_cn_level, u.reg_time AS "reg_time?", u.password_hash,
               people.hash_kinds($4) AS "hash_kinds!"
        FROM people.reserve_attempt($1, $2) r
        LEFT JOIN people."user" u ON u.userid = $3 AND r.retry_after IS NULL
        "#,
        &all,
        &free,
        userid.as_str(),
        MAX_HASH_KINDS
    )
    .fetch_one(executor)
    .await?;
    if let Some(retry_after) = row.retry_after {
        return Ok(Attempt::TooMany {
            retry_after: u32::try_from(retry_after).unwrap_or(1),
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
        keys: keys.clone(),
        reserved_at: row.reserved_at,
        last_since: row.last_since,
        failures: u32::try_from(row.failures).unwrap_or(0),
        hash_kinds: row.hash_kinds,
    };
    Ok(Attempt::Reserved(reservation, credentials))
}

impl Reservation {
    /// What `people.refund_attempt` takes: the keys to clear, the key to refund, and its two times.
    pub(crate) fn refund(&self) -> (Vec<Key>, Option<&Key>, DateTime<Utc>, DateTime<Utc>) {
        (
            self.keys.cleared(),
            self.keys.refunded(),
            self.reserved_at,
            self.last_since,
        )
    }
}

/// What became of an attempt to register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Counted; may go on.
    Reserved,
    /// The userid is taken. Counted all the same: somebody may be trying names.
    Taken,
    /// Not counted, since there were too many in this hour.
    TooMany {
        /// Whole seconds, at least 1.
        retry_after: u32,
    },
}

/// The count that a registration belongs to.
#[derive(Clone, Debug)]
pub struct RegistrationKey(Option<(Key, i32)>);

impl RegistrationKey {
    /// The count for `source`. It may register `per_hour` users in an hour, 0 stands for any number.
    #[must_use]
    pub fn new(source: Option<IpAddr>, per_hour: u32) -> Self {
        let most = i32::try_from(per_hour).unwrap_or(i32::MAX);
        Self((most > 0).then(|| (key(&["registration", &network(source)]), most)))
    }
}

/// Counts a registration and looks whether its userid is free, in one round trip: a hash is not worth its while
/// otherwise.
///
/// # Errors
/// The driver's.
pub async fn reserve_registration(
    executor: impl PgExecutor<'_>,
    RegistrationKey(key): &RegistrationKey,
    userid: &UserId,
) -> Result<Registration, sqlx::Error> {
    let (key, most) = key.clone().unzip();
    let row = sqlx::query!(
        r#"
        SELECT CASE WHEN $1::bytea IS NOT NULL THEN people.reserve_registration($1, $2) END AS retry_after,
               EXISTS (SELECT FROM people."user" WHERE userid = $3) AS "taken!"
        "#,
        key,
        most,
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

/// Removes at most `most` of the counts that are forgotten: nothing has been counted on them for a day. How many it
/// removed: fewer than `most` when no others are left, but for those that somebody is counting on at this moment.
///
/// # Errors
/// The driver's.
pub async fn purge(executor: impl PgExecutor<'_>, most: u32) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        r#"
        DELETE FROM people.attempt
        WHERE key IN (
            SELECT key FROM people.attempt
            WHERE since < now() - interval '1 day'
            ORDER BY since
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

    fn keys(userid: &str, source: &str) -> LoginKeys {
        LoginKeys::new(&UserId::canonical(userid), Some(source.parse().unwrap()), 50)
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source() {
        let [a, b, c] =
            ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"].map(|ip| keys("x", ip));
        assert_eq!(a.address, b.address);
        assert_eq!(a.userid_and_address, b.userid_and_address);
        assert_ne!(a.address, c.address);
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_ipv6_notation() {
        assert_eq!(
            keys("x", "203.0.113.7").address,
            keys("x", "::ffff:203.0.113.7").address
        );
        assert_ne!(keys("x", "203.0.113.7").address, keys("x", "203.0.113.8").address);
    }

    #[test]
    fn spellings_of_a_userid_share_their_counts() {
        assert_eq!(
            keys("Ａlice", "203.0.113.7").userid,
            keys("alice", "203.0.113.9").userid
        );
        assert_ne!(
            keys("alice", "203.0.113.7").userid,
            keys("bob", "203.0.113.7").userid
        );
    }
}
