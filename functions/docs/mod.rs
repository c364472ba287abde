//! `GET /docs`, `GET /openapi.json`: the API documentation, for people (Swagger UI) and for programs. Everything is
//! embedded in the binary: no database, no secret, no other host.

use shared::http::pages::{Content, Page};

/// The OpenAPI 3.1 description. `cargo run --example openapi` regenerates it.
pub static OPENAPI: &str = include_str!("openapi.json");

/// What Swagger UI needs, from this host only. Its style sheet has images in `data:` URLs.
const VIEWER: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For everything that is not a document, as for other responses.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// The pages.
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
