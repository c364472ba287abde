//! A defect in a handler: 500 in the envelope, one line in the log, and the instance continues.

use std::io;
use std::sync::{Arc, Mutex};

use lambda_http::{Body, Request};
use serde_json::Value;
use shared::app::App;
use shared::config::{Config, Environment};
use shared::http::{Route, serve};
use shared::password::HashError;
use shared::telemetry;

use crate::harness::{Reply, SECRET_KEY};

/// Collects the log of this test's thread.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub fn take(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The one line since the last look.
    #[track_caller]
    pub fn only(&self) -> Value {
        let mut lines = self.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }
}

fn app() -> App {
    // Nothing here uses the database.
    let settings = [
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
        ("SECRET_KEY", SECRET_KEY),
    ];
    App::new(Config::from_environment(&settings.into_iter().collect::<Environment>()).unwrap())
}

#[utoipa::path(get, path = "/panics")]
#[expect(dead_code, reason = "only its description is used")]
fn panics() {}

static PANICS: Route<App> = Route::of::<__path_panics>(|_, request, _| {
    // A panic may also happen when the handler is called, not only when its future is polled.
    let at_once = request.uri().path() == "/at-once";
    assert!(!at_once, "canary-in-a-panic");
    Box::pin(async { panic!("canary-in-a-panic") })
});

#[tokio::test]
async fn a_panic_is_500_in_one_line_without_its_message_and_the_instance_continues() {
    telemetry::report_panics();
    let lines = Lines::default();
    let writer = lines.clone();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(move || writer.clone()));
    let app = app();
    for path in ["/panics", "/at-once", "/panics"] {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = path.parse().unwrap();
        Reply::from(serve(&app, &PANICS, request).await).assert_error(50001);
        let logged = lines.take();
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert_eq!(logged[0]["status"], 500);
        assert_eq!(logged[0]["code"], 50001);
        assert_eq!(logged[0]["level"], "ERROR");
        assert!(logged[0].to_string().contains("panics.rs:"), "{logged:?}");
        assert!(!logged[0].to_string().contains("canary"), "{logged:?}");
    }
    // Other tests need their messages on standard error.
    let _ = std::panic::take_hook();
}

#[tokio::test]
async fn a_panic_in_the_hashing_thread_is_logged_without_its_message() {
    let gone = tokio::task::spawn_blocking(|| panic!("canary-in-a-panic")).await;
    let error = HashError::from(gone.expect_err("it panicked"));
    assert_eq!(error.to_string(), "hashing ended early");
}
