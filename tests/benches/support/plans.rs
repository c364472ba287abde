//! The plans that the server used for the statements of the service, including those inside the database's functions:
//! the module `auto_explain` logs them.

use serde_json::Value;

/// URL parameters for a connection whose statements are all explained.
pub const EXPLAINED: &str = "&options[session_preload_libraries]=auto_explain\
    &options[auto_explain.log_min_duration]=0\
    &options[auto_explain.log_nested_statements]=on\
    &options[auto_explain.log_analyze]=on\
    &options[auto_explain.log_buffers]=on\
    &options[auto_explain.log_timing]=off\
    &options[auto_explain.log_format]=json";

/// The plan of one execution of a statement.
pub struct Plan {
    /// The statement, on one line.
    pub statement: String,
    /// Whether it was sent by the service, not run inside one of the database's functions.
    pub sent: bool,
    /// How each table was read, in the terms of the server.
    pub scans: Vec<String>,
    /// The maximum rows read by one of these, including rows that were filtered out.
    pub rows_read: f64,
    /// Pages of tables and indexes read, including those by called functions.
    pub pages: u64,
}

impl Plan {
    /// Whether a whole table was read.
    pub fn has_sequential_scan(&self) -> bool {
        self.scans.iter().any(|scan| scan.starts_with("Seq Scan"))
    }
}

/// The plans in a log, in the order in which the statements ended.
pub fn in_log(log: &str) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.ends_with(" plan:") {
            continue;
        }
        let mut text = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
            text.push_str(line);
        }
        let Ok(explained) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        let mut scans = Vec::new();
        let rows_read = collect_scans(&explained["Plan"], &mut scans);
        let pages = |kind: &str| explained["Plan"][kind].as_u64().unwrap_or(0);
        let statement = explained["Query Text"].as_str().unwrap_or_default();
        plans.push(Plan {
            statement: statement.split_whitespace().collect::<Vec<_>>().join(" "),
            // The server adds the context of a statement, unless a client sent it.
            sent: lines.peek().is_none_or(|line| !line.contains("CONTEXT:  ")),
            scans,
            rows_read,
            pages: pages("Shared Hit Blocks") + pages("Shared Read Blocks"),
        });
    }
    plans
}

/// Adds how a node of a plan and its children read tables, and the maximum rows that one of them read.
fn collect_scans(node: &Value, scans: &mut Vec<String>) -> f64 {
    let text = |member: &str| node[member].as_str();
    let scan = match (text("Node Type"), text("Index Name"), text("Relation Name")) {
        (Some(kind), Some(index), Some(table)) => Some(format!("{kind} using {index} on {table}")),
        (Some(kind), Some(index), None) => Some(format!("{kind} on {index}")),
        // Nodes that write also name a table, but read nothing.
        (Some(kind), None, Some(table)) if kind != "ModifyTable" => Some(format!("{kind} on {table}")),
        _ => None,
    };
    let number = |member: &str| node[member].as_f64().unwrap_or(0.0);
    let mut most = 0.0;
    if let Some(scan) = scan {
        scans.push(scan);
        most = number("Actual Loops") * (number("Actual Rows") + number("Rows Removed by Filter"));
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        most = collect_scans(child, scans).max(most);
    }
    most
}
