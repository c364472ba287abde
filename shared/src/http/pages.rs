//! Static files, embedded in the program and served like any other response, without any state.

use lambda_http::http::{HeaderName, HeaderValue, header};
use lambda_http::{Body, Request, Response};

use super::reply::Reply;
use super::runtime;
use crate::error::Error;
use crate::telemetry;

/// A file served for GET, with its headers.
pub struct Page {
    /// The path behind the gateway.
    pub path: &'static str,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// The header `Content-Security-Policy`.
    pub content_security_policy: &'static str,
    /// The body.
    pub content: Content,
}

/// The content of a [`Page`].
pub enum Content {
    /// Uncompressed.
    Text(&'static str),
    /// Compressed with gzip, whatever the client accepts: every browser does, and a client that sends no
    /// `Accept-Encoding` may be assumed to (RFC 9110 §12.5.3).
    Gzip(&'static [u8]),
}

impl Page {
    /// Answers a request for this page.
    pub async fn serve(&self, request: &Request) -> Response<Body> {
        let route = format!("GET {}", self.path);
        runtime::answer(&route, &[], request, async {
            runtime::check(request)?;
            Ok(self.reply())
        })
        .await
    }

    fn reply(&self) -> Reply {
        let header = |name: HeaderName, value| (name, HeaderValue::from_static(value));
        let mut headers = vec![
            header(header::CONTENT_TYPE, self.content_type),
            header(header::CONTENT_SECURITY_POLICY, self.content_security_policy),
        ];
        let body = match self.content {
            Content::Text(text) => Body::from(text),
            Content::Gzip(bytes) => {
                headers.push(header(header::CONTENT_ENCODING, "gzip"));
                Body::from(bytes)
            }
        };
        Reply::file(body, headers)
    }
}

/// Serves `pages` as a Lambda function until the instance is shut down. There are no settings.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run(pages: &'static [Page]) -> Result<(), lambda_http::Error> {
    telemetry::init(telemetry::standard_output);
    runtime::answer_events(async |request| answer(pages, request).await).await
}

/// Answers a request with the page at its path.
pub async fn answer(pages: &[Page], request: Request) -> Response<Body> {
    match pages.iter().find(|page| page.path == request.uri().path()) {
        Some(page) => page.serve(&request).await,
        None => runtime::answer("GET *", &[], &request, async { Err(Error::NotFound) }).await,
    }
}
