//! (a) From `exec` to the first poll of the runtime, and to the first response.

use std::time::Duration;

use crate::harness::{Database, Service};
use crate::instance::{Instance, event};
use crate::report::{Against, Report, median};
use crate::{Effort, build, runtime, tls_server};

/// Measures starts of `hello` and `me`, in turns.
pub fn measure(report: &mut Report, effort: Effort) {
    build(&["me"]);
    report.title("Start of an instance: from exec to its first poll, and to its first answer");
    runtime().block_on(async {
        let plain = Database::migrated().await;
        let encrypted = tls_server::database().await;
        let encrypted_url = tls_server::url(&encrypted);
        let mut hello = Case::new("hello", "hello", String::new(), event("me", "none", ""));
        let mut ours = Vec::new();
        for (name, database, url) in [
            ("me", &plain, plain.url.clone()),
            ("me, TLS and SCRAM", &encrypted, encrypted_url),
        ] {
            let token = Service::on(database.clone(), &[])
                .token_of_new_user("alice")
                .await;
            ours.push(Case::new(name, "me", url, event("me", &token, "")));
        }
        for _ in 0..effort.samples(60) {
            hello.start().await;
            for case in &mut ours {
                case.start().await;
            }
        }
        let (hello_polled, hello_answered) = (median(&mut hello.polled), median(&mut hello.answered));
        let against = |value, target| Against::Baseline {
            what: "hello",
            value,
            target,
        };
        for case in &mut ours {
            let polled = median(&mut case.polled);
            report.add(
                &format!("{}: first poll", case.name),
                polled,
                "ms",
                &against(hello_polled, Some(1.5)),
            );
            let answered = median(&mut case.answered);
            report.add(
                &format!("{}: first answer", case.name),
                answered,
                "ms",
                &against(hello_answered, Some(5.5)),
            );
            frozen(report, effort, case).await;
        }
    });
}

/// Instances without an event, frozen at their first poll: their first answer beside their second.
async fn frozen(report: &mut Report, effort: Effort, case: &Case) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..effort.samples(20) {
        let settings = [("DATABASE_URL", &*case.database_url)];
        let mut instance = Instance::start_idle(case.function, &settings).await;
        instance.freeze(Duration::from_secs(2)).await;
        first.push(instance.timed(&case.event).await);
        second.push(instance.timed(&case.event).await);
    }
    report.add(
        &format!("{}: first answer after a freeze", case.name),
        median(&mut first),
        "ms",
        &Against::Baseline {
            what: "second answer",
            value: median(&mut second),
            target: Some(2.0),
        },
    );
}

struct Case {
    name: &'static str,
    function: &'static str,
    database_url: String,
    event: String,
    polled: Vec<f64>,
    answered: Vec<f64>,
}

impl Case {
    fn new(name: &'static str, function: &'static str, database_url: String, event: String) -> Self {
        Self {
            name,
            function,
            database_url,
            event,
            polled: Vec::new(),
            answered: Vec::new(),
        }
    }

    async fn start(&mut self) {
        let settings = [("DATABASE_URL", &*self.database_url)];
        let (_, polled, answered) = Instance::start(self.function, &settings, &self.event).await;
        self.polled.push(polled);
        self.answered.push(answered);
    }
}
