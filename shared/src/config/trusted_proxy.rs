//! The proxy whose source addresses are trusted.

use secrecy::SecretString;

use super::{ConfigError, Environment};

/// The proxy in front of the gateway whose source addresses are trusted.
#[derive(Clone, Debug)]
pub enum TrustedProxy {
    /// None: no header is trusted.
    None,
    /// A `CloudFront` distribution, for requests that carry this secret.
    CloudFront(SecretString),
}

impl TrustedProxy {
    /// `TRUSTED_PROXY` and `TRUSTED_PROXY_SECRET`.
    ///
    /// # Errors
    /// Names the one that is missing or invalid.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        const SECRET: &str = "TRUSTED_PROXY_SECRET";
        /// 96 bits in base64.
        const MIN_LENGTH: usize = 16;
        match environment.text("TRUSTED_PROXY") {
            None | Some("none") => return Ok(Self::None),
            Some("cloudfront") => {}
            Some(_) => return Err(ConfigError::new("TRUSTED_PROXY", "must be none or cloudfront")),
        }
        match environment.text(SECRET) {
            None => Err(ConfigError::new(SECRET, "is missing")),
            // What fits into a header.
            Some(secret)
                if secret.len() >= MIN_LENGTH && secret.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(Self::CloudFront(SecretString::from(secret)))
            }
            Some(_) => Err(ConfigError::new(
                SECRET,
                format!("must have at least {MIN_LENGTH} characters, all of them visible ASCII"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(settings: &[(&str, &str)]) -> Option<String> {
        TrustedProxy::from_environment(&settings.iter().copied().collect())
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn a_trusted_proxy_has_a_secret_that_fits_into_a_header() {
        let with_secret =
            |secret| error(&[("TRUSTED_PROXY", "cloudfront"), ("TRUSTED_PROXY_SECRET", secret)]);
        let unusable = "TRUSTED_PROXY_SECRET must have at least 16 characters, all of them visible ASCII";
        for secret in ["0123456789abcde", "0123456789 abcdef", "0123456789abcdeé"] {
            assert_eq!(with_secret(secret).as_deref(), Some(unusable));
        }
        assert_eq!(
            with_secret("").as_deref(),
            Some("TRUSTED_PROXY_SECRET is missing")
        );
        assert_eq!(with_secret("0123456789abcdef"), None);
    }

    #[test]
    fn the_only_proxy_is_cloudfront() {
        assert_eq!(
            error(&[("TRUSTED_PROXY", "nginx")]).as_deref(),
            Some("TRUSTED_PROXY must be none or cloudfront")
        );
    }
}
