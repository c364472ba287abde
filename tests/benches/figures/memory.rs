//! (e) Memory of an instance: idle, and after many log-ins.

use crate::harness::{Database, Service};
use crate::instance::{Instance, event};
use crate::report::{Against, Report};
use crate::{Effort, build, runtime};

/// Measures release binaries.
pub fn measure(report: &mut Report, effort: Effort) {
    build(&["register", "login", "me"]);
    report.title("Memory of an instance (resident)");
    runtime().block_on(async {
        let database = Database::migrated().await;
        let token = Service::on(database.clone(), &[])
            .token_of_new_user("alice")
            .await;
        let settings = [("DATABASE_URL", &*database.url)];
        for name in ["hello", "me", "login"] {
            let instance = Instance::start_idle(name, &settings).await;
            // Give it time to settle.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            let against = if name == "hello" {
                Against::Nothing
            } else {
                Against::Most(6.0)
            };
            report.add(
                &format!("{name}: waiting for its first request"),
                instance.memory("VmRSS"),
                "MiB",
                &against,
            );
            // The rest is code, shared through the page cache.
            report.add(
                &format!("{name}: of it, its own"),
                instance.memory("RssAnon"),
                "MiB",
                &Against::Nothing,
            );
        }
        let (mut instance, ..) = Instance::start("me", &settings, &event("me", &token, "")).await;
        for _ in 0..1_000 {
            instance.invoke(&event("me", &token, "")).await;
        }
        report.add(
            "me: after 1,000 requests",
            instance.memory("VmRSS"),
            "MiB",
            &Against::Most(8.0),
        );

        let (registering, ..) =
            Instance::start("register", &settings, &event("register", "", "event-user")).await;
        drop(registering);
        let (mut instance, ..) = Instance::start("login", &settings, &event("login", "", "event-user")).await;
        let logins = effort.samples(10_000);
        for _ in 1..logins {
            instance.invoke(&event("login", "", "event-user")).await;
        }
        report.add(
            &format!("login: after {logins} log-ins"),
            instance.memory("VmRSS"),
            "MiB",
            &Against::Most(26.0),
        );
        report.add(
            "login: the most it had",
            instance.memory("VmHWM"),
            "MiB",
            &Against::Most(26.0),
        );
    });
}
