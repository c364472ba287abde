//! Whether mails are sent, and the pages that their links open.

use super::{ConfigError, Environment};

const FROM: &str = "MAIL_FROM";

/// Whether mails are sent: `MAIL_FROM` is set. Without it, no endpoint exists that would need one.
#[must_use]
pub fn mail_is_set_up(environment: &Environment) -> bool {
    environment.text(FROM).is_some()
}

/// The pages that links in mails open: each link is one of these, followed by `#token=` and the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPages {
    /// `APP_RESET_URL`: sets a new password with `POST /auth/reset`.
    pub reset: String,
    /// `APP_EMAIL_URL`: confirms an address with `POST /auth/email/confirm`.
    pub email: String,
}

/// Which URLs links may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkScheme {
    /// Only `https`.
    Https,
    /// On the developer's own machine: `http` as well.
    HttpToo,
}

impl LinkPages {
    /// The pages in `environment`; `None` if no mails are sent.
    ///
    /// # Errors
    /// When mails are sent and one of the pages is missing, or is not a URL of an allowed scheme without a fragment.
    pub fn from_environment(
        environment: &Environment,
        scheme: LinkScheme,
    ) -> Result<Option<Self>, ConfigError> {
        if !mail_is_set_up(environment) {
            return Ok(None);
        }
        Ok(Some(Self {
            reset: page(environment, "APP_RESET_URL", scheme)?,
            email: page(environment, "APP_EMAIL_URL", scheme)?,
        }))
    }
}

fn page(environment: &Environment, name: &'static str, scheme: LinkScheme) -> Result<String, ConfigError> {
    let url = environment
        .text(name)
        .ok_or_else(|| ConfigError::new(name, "is missing, and MAIL_FROM is set"))?;
    let rest = match scheme {
        LinkScheme::Https => url.strip_prefix("https://"),
        LinkScheme::HttpToo => url.strip_prefix("https://").or(url.strip_prefix("http://")),
    };
    let host = rest.map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    let printable = url.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_some_and(|host| !host.is_empty()) && printable && !url.contains('#') {
        Ok(url.to_owned())
    } else {
        let schemes = match scheme {
            LinkScheme::Https => "https",
            LinkScheme::HttpToo => "https or http",
        };
        Err(ConfigError::new(
            name,
            format!("must be an {schemes} URL without a fragment"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(settings: &[(&str, &str)], scheme: LinkScheme) -> Result<Option<LinkPages>, String> {
        let mut environment: Environment = settings.iter().copied().collect();
        environment.set_default("APP_EMAIL_URL", "https://app.example.com/email");
        LinkPages::from_environment(&environment, scheme).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_sender_there_are_no_mails_and_no_pages() {
        assert_eq!(
            pages(&[("APP_RESET_URL", "nonsense")], LinkScheme::Https),
            Ok(None)
        );
    }

    #[test]
    fn a_page_is_an_https_url_without_a_fragment() {
        let reset = |url, scheme| {
            pages(
                &[("MAIL_FROM", "people@example.com"), ("APP_RESET_URL", url)],
                scheme,
            )
            .map(|pages| pages.map(|pages| pages.reset))
        };
        for url in [
            "https://app.example.com",
            "https://app.example.com:8443/reset?lang=en",
        ] {
            assert_eq!(reset(url, LinkScheme::Https), Ok(Some(url.to_owned())), "{url}");
        }
        let local = "http://127.0.0.1:3000/reset.html";
        assert_eq!(reset(local, LinkScheme::HttpToo), Ok(Some(local.to_owned())));
        for url in [
            local,
            "https://",
            "https:///reset",
            "https://a/#b",
            "https://a/b c",
            "javascript:alert(1)",
        ] {
            let error = "APP_RESET_URL must be an https URL without a fragment";
            assert_eq!(reset(url, LinkScheme::Https), Err(error.to_owned()), "{url}");
        }
        let missing = "APP_RESET_URL is missing, and MAIL_FROM is set";
        assert_eq!(reset("", LinkScheme::Https), Err(missing.to_owned()));
    }
}
