//! The account of a link.

use shared::app::App;
use shared::error::Error;
use shared::users::{self, LinkedAccount};
use uuid::Uuid;

/// Reads the account that a link claims to be for. `None` when it is gone or disabled.
///
/// # Errors
/// 50001, 50301.
pub async fn account(app: &App, user_id: Uuid) -> Result<Option<LinkedAccount>, Error> {
    let account = app.database.read(&user_id, |connection, user_id| {
        Box::pin(users::find_by_link(connection, *user_id))
    });
    Ok(account.await?)
}
