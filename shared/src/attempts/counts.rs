//! What is counted, under which key, with how many places, and how soon it is forgotten.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use chrono::TimeDelta;
use ring::digest::{SHA256, digest};
use sqlx::postgres::types::PgInterval;

use crate::database::interval;
use crate::users::UserId;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// A count: its key, how many attempts it has room for, and how soon it forgets one.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    pub(crate) key: Vec<u8>,
    pub(crate) places: i32,
    pub(crate) forget_after: PgInterval,
}

impl Count {
    /// The count of `parts`, the first of which names its kind. No part can hold the separator: what has NUL is refused
    /// before.
    fn new(parts: &[&str], places: u32, forget_after: Duration) -> Self {
        Self {
            key: digest(&SHA256, parts.join("\0").as_bytes()).as_ref().to_vec(),
            places: i32::try_from(places).unwrap_or(i32::MAX),
            forget_after: interval(TimeDelta::from_std(forget_after).unwrap_or(TimeDelta::MAX)),
        }
    }

    /// Registrations from `source`: `per_hour` of them, 0 stands for any number.
    #[must_use]
    pub fn of_registrations(source: Option<IpAddr>, per_hour: u32) -> Option<Self> {
        Self::per_hour("registration", source, per_hour)
    }

    /// Requests for a mail from `source` by those who are not logged in: `per_hour` of them, 0 stands for any number.
    #[must_use]
    pub fn of_mail_requests(source: Option<IpAddr>, per_hour: u32) -> Option<Self> {
        Self::per_hour("mail request", source, per_hour)
    }

    /// Requests for a mail to whom `account` means, in its canonical form.
    #[must_use]
    pub fn of_mail_target(account: &UserId) -> Self {
        Self::new(&["mail target", account.as_str()], 3, 20 * MINUTE)
    }

    fn per_hour(kind: &str, source: Option<IpAddr>, per_hour: u32) -> Option<Self> {
        let network = network(source);
        (per_hour > 0).then(|| Self::new(&[kind, name(network.as_ref())], per_hour, HOUR / per_hour))
    }
}

/// The counts that an attempt to log in belongs to.
#[derive(Clone, Debug)]
pub struct LoginCounts {
    userid_and_address: Count,
    /// Not counted on where the user has logged in lately.
    userid: Count,
    address: Option<Count>,
    pub(super) network: Option<String>,
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

    pub(super) fn all(&self) -> impl Iterator<Item = &Count> {
        [&self.userid_and_address, &self.userid]
            .into_iter()
            .chain(&self.address)
    }

    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        self.all().map(|count| count.key.clone()).collect()
    }

    /// The keys of those that a proof of ownership clears: all but that of the address, where others may have failed.
    pub(crate) fn keys_of_userid(&self) -> Vec<Vec<u8>> {
        vec![self.userid_and_address.key.clone(), self.userid.key.clone()]
    }

    pub(super) fn places(&self) -> Vec<i32> {
        self.all().map(|count| count.places).collect()
    }

    pub(super) fn forget_after(&self) -> Vec<PgInterval> {
        self.all().map(|count| count.forget_after).collect()
    }

    pub(super) fn shares_a_count_with(&self, other: &Self) -> bool {
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
