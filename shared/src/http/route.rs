//! Routes: a method, a path and the handler behind them.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use lambda_http::{Body, Request, Response};
use utoipa::openapi::HttpMethod;

use super::reply::Reply;
use super::runtime::serve;
use crate::app::{App, State};
use crate::error::Error;

/// Answers a request, given the state of its function, the request and the current time.
pub type Handler<S> = for<'a> fn(&'a S, &'a Request, DateTime<Utc>) -> BoxFuture<'a, Result<Reply, Error>>;

/// A route of a function. `S` is the state that the function keeps between requests.
pub struct Route<S> {
    endpoint: LazyLock<Endpoint>,
    headers: &'static [(&'static str, &'static str)],
    handler: Handler<S>,
}

struct Endpoint {
    method: &'static str,
    path: String,
    key: String,
}

impl<S> Route<S> {
    /// A route with the method and path of `D`: `#[utoipa::path]` on a handler `fn x` generates the type `__path_x`, so
    /// they are written once, there.
    #[must_use]
    pub const fn of<D: utoipa::Path>(handler: Handler<S>) -> Self {
        Self {
            endpoint: LazyLock::new(|| {
                let method = D::methods().first().map_or("GET", method_name);
                let path = D::path();
                Endpoint {
                    key: format!("{method} {path}"),
                    method,
                    path,
                }
            }),
            headers: &[],
            handler,
        }
    }

    /// With additional headers on each of its responses.
    #[must_use]
    pub const fn with_headers(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }

    /// The route key of API Gateway: method and path, separated by one space.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.endpoint.key
    }

    pub(super) fn headers(&self) -> &'static [(&'static str, &'static str)] {
        self.headers
    }

    pub(super) fn handler(&self) -> Handler<S> {
        self.handler
    }
}

fn method_name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Get => "GET",
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Delete => "DELETE",
        HttpMethod::Options => "OPTIONS",
        HttpMethod::Head => "HEAD",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Trace => "TRACE",
    }
}

/// A route of any function, whatever its state, so that routes of different functions can be served together.
pub trait Served: Sync {
    /// In upper case.
    fn method(&self) -> &'static str;
    /// In the notation of API Gateway: `/auth/sessions/{session_id}`.
    fn path(&self) -> &str;
    /// Method and path, separated by one space.
    fn key(&self) -> &str;
    /// Additional headers of each of its responses.
    fn headers(&self) -> &'static [(&'static str, &'static str)];
    /// Answers a request with the part of `app` that its function needs.
    fn serve<'a>(&'a self, app: &'a App, request: Request) -> BoxFuture<'a, Response<Body>>;
}

impl<S: State> Served for Route<S> {
    fn method(&self) -> &'static str {
        self.endpoint.method
    }

    fn path(&self) -> &str {
        &self.endpoint.path
    }

    fn key(&self) -> &str {
        &self.endpoint.key
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        self.headers
    }

    fn serve<'a>(&'a self, app: &'a App, request: Request) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move { serve(&S::part_of(app), self, request).await })
    }
}

/// The routes of a function, for a list with those of other functions.
#[must_use]
pub fn served<S: State>(routes: &'static [Route<S>]) -> Vec<&'static dyn Served> {
    routes.iter().map(|route| route as &dyn Served).collect()
}
