//! The list of all functions, with their routes and needs. `local`, the OpenAPI description and the tests of the
//! template, the emulator and `sam local` read it.

pub mod account;
pub mod admin;
pub mod authorizer;
pub mod courier;
pub mod credentials;
pub mod docs;
pub mod health;
pub mod job;
pub mod login;
pub mod logout;
pub mod me;
pub mod migrate;
pub mod outbox;
pub mod purge;
pub mod register;

use outbox::Outbox;
use shared::app::{Need, State};
use shared::auth::Authenticator;
use shared::http::pages::Page;
use shared::http::{Route, Served, served};
use utoipa::OpenApi;

/// A deployed function: a directory and a binary of this package, and a resource in `template.yaml`.
pub struct Function {
    /// The name of its directory and its binary.
    pub name: &'static str,
    /// The resources that it needs, and nothing else.
    pub needs: &'static [Need],
    /// Its routes at the gateway; none if it is invoked otherwise.
    pub routes: Vec<&'static dyn Served>,
    /// Generates the OpenAPI description of its routes. A function pointer, since serving them does not need it.
    pub description: Option<fn() -> utoipa::openapi::OpenApi>,
    /// Static files, which are undocumented routes.
    pub pages: &'static [Page],
}

/// Every function.
#[must_use]
pub fn all() -> Vec<Function> {
    vec![
        with_routes::<_, register::Description>("register", &register::ROUTES),
        with_routes::<_, login::Description>("login", &login::ROUTES),
        with_routes::<_, me::Description>("me", &me::ROUTES),
        with_routes::<_, logout::Description>("logout", &logout::ROUTES),
        with_routes::<_, account::Description>("account", &account::ROUTES),
        with_routes::<_, credentials::Description>("credentials", &credentials::ROUTES),
        with_routes::<_, health::Description>("health", &health::ROUTES),
        Function {
            pages: &docs::PAGES,
            ..invoked("docs", &[])
        },
        invoked("authorizer", Authenticator::NEEDS),
        invoked("migrate", &[Need::DatabaseOwner]),
        invoked("purge", &[Need::Database]),
        invoked("outbox", Outbox::NEEDS),
        invoked("admin", &[Need::Database]),
        invoked("courier", &[]),
    ]
}

/// Every route of every function, without pages.
#[must_use]
pub fn routes() -> Vec<&'static dyn Served> {
    all().into_iter().flat_map(|function| function.routes).collect()
}

fn with_routes<S: State, D: OpenApi>(name: &'static str, routes: &'static [Route<S>]) -> Function {
    Function {
        name,
        needs: S::NEEDS,
        routes: served(routes),
        description: Some(D::openapi),
        pages: &[],
    }
}

/// A function that is invoked by a schedule, a pipeline or another service.
fn invoked(name: &'static str, needs: &'static [Need]) -> Function {
    Function {
        name,
        needs,
        routes: Vec::new(),
        description: None,
        pages: &[],
    }
}
