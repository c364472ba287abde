//! Prints the list of functions as JSON, one object each: `name`, `needs`, `routes` (`[method, path]`) and `pages`
//! (paths).

use serde_json::{Value, json};

fn main() {
    let functions: Vec<Value> = functions::all()
        .into_iter()
        .map(|function| {
            let routes: Vec<_> = function
                .routes
                .iter()
                .map(|route| [route.method(), route.path()])
                .collect();
            let pages: Vec<_> = function.pages.iter().map(|page| page.path).collect();
            json!({ "name": function.name, "needs": function.needs, "routes": routes, "pages": pages })
        })
        .collect();
    println!("{}", json!(functions));
}
