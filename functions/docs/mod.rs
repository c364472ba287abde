//! `GET /docs`, `GET /openapi.json`: the interface describes itself, to people (Swagger UI) and to programs. Everything
//! is in the program: no database, no secret, no other host.

use shared::http::pages::{Content, Page};

/// The description of the interface, `OpenAPI` 3.1. `cargo run --example openapi` writes it anew.
pub static OPENAPI: &str = include_str!("openapi.json");

/// What Swagger UI needs, from here alone. Its style sheet has pictures in `data:` addresses.
const VIEWER: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For what is no document: as for every other answer.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// The routes.
pub static PAGES: [Page; 6] = [
    Page {
        path: "/docs",
        content_type: "text/html; charset=utf-8",
        content_security_policy: VIEWER,
        content: Content::Text(include_str!("index.html")),
    },
    Page {
        path: "/docs/start.js",
        content_type: "text/javascript; charset=utf-8",
        content_security_policy: NOTHING,
        content: Content::Text(include_str!("start.js")),
    },
    Page {
        path: "/docs/style.css",
        content_type: "text/css; charset=utf-8",
        content_security_policy: NOTHING,
        content: Content::Text(include_str!("style.css")),
    },
    Page {
        path: "/docs/swagger-ui-bundle.js",
        content_type: "text/javascript; charset=utf-8",
        content_security_policy: NOTHING,
        content: Content::Gzip(include_bytes!(concat!(
            env!("OUT_DIR"),
            "/swagger-ui-bundle.js.gz"
        ))),
    },
    Page {
        path: "/docs/swagger-ui.css",
        content_type: "text/css; charset=utf-8",
        content_security_policy: NOTHING,
        content: Content::Gzip(include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"))),
    },
    Page {
        path: "/openapi.json",
        content_type: "application/json",
        content_security_policy: NOTHING,
        content: Content::Text(OPENAPI),
    },
];
