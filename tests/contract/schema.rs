//! The result of the migrations is the schema that `migrate` requires.

use std::fs;
use std::path::Path;

use shared::database::{MIGRATOR, schema_lines, secure_functions};
use sqlx::Executor as _;

use crate::harness::Database;

/// With `UPDATE_SCHEMA=1` it writes the file, which has to be done after a change of the migrations.
#[tokio::test]
async fn schema_txt_is_the_result_of_the_migrations() {
    let mut connection = Database::empty().await.connect().await;
    MIGRATOR.run(&mut connection).await.expect("the files run");
    // So that every name is qualified.
    connection
        .execute("SET search_path = pg_catalog, pg_temp")
        .await
        .expect("a setting");
    let functions: Vec<String> =
        sqlx::query_scalar("SELECT proname::text FROM pg_proc WHERE pronamespace = 'people'::regnamespace")
            .fetch_all(&mut connection)
            .await
            .expect("functions");
    secure_functions(&mut connection, &functions)
        .await
        .expect("secured");
    let made = schema_lines(&mut connection)
        .await
        .expect("the catalogue")
        .join("\n")
        + "\n";

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/schema.txt");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&file, &made).expect("the file");
    }
    let said = fs::read_to_string(&file).expect("the file");
    assert_eq!(
        made, said,
        "renew migrations/schema.txt: UPDATE_SCHEMA=1 cargo test --test contract schema::"
    );
}
