//! Access tokens: JWT (RFC 7519) with HMAC, strict in what they accept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use signature::Signer;
use thiserror::Error;
use uuid::Uuid;

use crate::config::{MAX_LIFETIME_MINUTES, TokenConfig};

/// Longest token that is looked at. Ours have about 500 bytes.
const MAX_BYTES: usize = 4096;

/// How far ahead of our clock a token may have been issued: another instance's clock may be that far ahead.
/// Expiry has no such leeway.
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::seconds(60);

/// What a token says. All of it is required but `nbf`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Claims {
    /// Issuer: the setting `TOKEN_ISSUER`.
    pub iss: String,
    /// Subject: the user's `user_id`.
    pub sub: Uuid,
    /// The token's own id: the `session_id`.
    pub jti: Uuid,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Expires at, seconds since 1970.
    pub exp: i64,
    /// Not valid before, seconds since 1970. Ours have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Audience. Ours have none, so a token with one is meant for somebody else (RFC 7519 §4.1.3).
    #[serde(default, skip_serializing)]
    pub aud: Option<String>,
    /// As `sub`, for the application's other functions.
    pub user_id: Uuid,
    /// What the user logs in as.
    pub userid: String,
}

/// The header, exactly: another member (`crit`, `jku`, `jwk`, …) or a repeated one is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: Algorithm,
    typ: String,
    kid: String,
}

/// The token is malformed, forged or expired. Says no more, since nobody may learn more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a valid token")]
pub struct InvalidToken;

/// A signed token as the client gets it.
pub struct AccessToken(SecretString);

impl AccessToken {
    /// The token itself, for the answer to its owner only.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the session keeps of it.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.expose())
    }
}

/// SHA-256 of a token in hex: whoever reads it cannot log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenDigest(String);

impl TokenDigest {
    /// The digest of `token`.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(hex::encode(digest::digest(&digest::SHA256, token.as_bytes())))
    }

    /// 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token that verified: its claims hold. Whether its session lives, only the database knows.
#[derive(Debug)]
pub struct VerifiedToken {
    /// What it says.
    pub claims: Claims,
    /// Which token it is.
    pub digest: TokenDigest,
    /// How long its session may be idle; `None`: as long as it lives.
    pub max_idle: Option<TimeDelta>,
}

/// The keys of this service, and what it puts into tokens.
pub struct Keys {
    algorithm: Algorithm,
    issuer: String,
    lifetime: TimeDelta,
    max_idle: Option<TimeDelta>,
    signing: EncodingKey,
    current: Key,
    previous: Option<Key>,
}

struct Key {
    id: String,
    verifying: hmac::Key,
}

impl Key {
    fn new(algorithm: Algorithm, secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        Self {
            id: key_id(secret),
            verifying: hmac::Key::new(hash(algorithm), secret),
        }
    }
}

/// Names a key without revealing it: the first 8 bytes of an HMAC under it.
fn key_id(secret: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"people key id");
    hex::encode(&tag.as_ref()[..8])
}

impl Keys {
    /// Takes the keys from the settings.
    #[must_use]
    pub fn new(config: &TokenConfig) -> Self {
        // Fails when it is there already, which is as good.
        let _ = HMAC_ONLY.install_default();
        Self {
            algorithm: config.algorithm,
            issuer: config.issuer.clone(),
            lifetime: TimeDelta::from_std(config.lifetime).unwrap_or(TimeDelta::MAX),
            max_idle: config.max_idle,
            signing: EncodingKey::from_secret(config.secret_key.expose_secret().as_bytes()),
            current: Key::new(config.algorithm, &config.secret_key),
            previous: config
                .previous_secret_key
                .as_ref()
                .map(|secret| Key::new(config.algorithm, secret)),
        }
    }

    /// Lifetime of a token and of its session.
    #[must_use]
    pub fn lifetime(&self) -> TimeDelta {
        self.lifetime
    }

    /// How long a session may be idle; `None`: as long as it lives.
    #[must_use]
    pub fn max_idle(&self) -> Option<TimeDelta> {
        self.max_idle
    }

    /// A token for a session that begins `now`.
    ///
    /// # Errors
    /// Never for an HMAC key, but the signature of the library allows for it.
    pub fn sign(
        &self,
        session_id: Uuid,
        user_id: Uuid,
        userid: &str,
        now: DateTime<Utc>,
    ) -> Result<AccessToken, jsonwebtoken::errors::Error> {
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: user_id,
            jti: session_id,
            iat: now.timestamp(),
            exp: (now + self.lifetime).timestamp(),
            nbf: None,
            aud: None,
            user_id,
            userid: userid.to_owned(),
        };
        let header = Header {
            kid: Some(self.current.id.clone()),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, &claims, &self.signing).map(|token| AccessToken(token.into()))
    }

    /// Checks the signature and every claim of `token` at the time `now`.
    ///
    /// # Errors
    /// [`InvalidToken`] whatever is wrong with it.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<VerifiedToken, InvalidToken> {
        if token.len() > MAX_BYTES {
            return Err(InvalidToken);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken)?;
        let (header, claims) = signed.split_once('.').ok_or(InvalidToken)?;
        let header: StrictHeader = decode(header)?;
        if header.alg != self.algorithm || header.typ != "JWT" {
            return Err(InvalidToken);
        }
        let key = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|key| key.id == header.kid)
            .ok_or(InvalidToken)?;
        // Not `jsonwebtoken::decode`, which prepares the key for each token, and decodes header and claims twice.
        let tag = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidToken)?;
        hmac::verify(&key.verifying, signed.as_bytes(), &tag).map_err(|_| InvalidToken)?;
        let claims: Claims = decode(claims)?;
        self.check(&claims, now)?;
        Ok(VerifiedToken {
            claims,
            digest: TokenDigest::of(token),
            max_idle: self.max_idle,
        })
    }

    fn check(&self, claims: &Claims, now: DateTime<Utc>) -> Result<(), InvalidToken> {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).ok_or(InvalidToken);
        let (issued, expires) = (time(claims.iat)?, time(claims.exp)?);
        let holds = claims.iss == self.issuer
            && claims.aud.is_none()
            && claims.sub == claims.user_id
            && issued <= now + MAX_CLOCK_SKEW
            && issued < expires
            && expires - issued <= TimeDelta::minutes(MAX_LIFETIME_MINUTES.into())
            && now < expires
            && claims.nbf.is_none_or(|seconds| seconds <= now.timestamp());
        if holds { Ok(()) } else { Err(InvalidToken) }
    }
}

/// A part of a token: JSON in base64url.
fn decode<T: DeserializeOwned>(part: &str) -> Result<T, InvalidToken> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidToken)?;
    serde_json::from_slice(&json).map_err(|_| InvalidToken)
}

/// The hash of an HMAC. The settings allow no other algorithms.
fn hash(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::HS384 => hmac::HMAC_SHA384,
        Algorithm::HS512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

/// The library's cryptography, reduced to signing with an HMAC of the one crypto library that TLS brings along anyway.
static HMAC_ONLY: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        Ok(Box::new(Hmac {
            algorithm: *algorithm,
            key: hmac::Key::new(hash(*algorithm), key.as_bytes()),
        }))
    },
    verifier_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hmac {
    algorithm: Algorithm,
    key: hmac::Key,
}

impl Signer<Vec<u8>> for Hmac {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.key, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hmac {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
