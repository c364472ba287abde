//! Changes to an account that require proof of ownership: its password, or a link in a mail.

pub mod change_email;
pub mod change_password;
pub mod confirm_email;
pub mod delete_user;
pub mod forgot;
mod link;
mod own_password;
pub mod reset;

use shared::app::App;
use shared::error::Error;
use shared::http::Route;
use utoipa::OpenApi;

/// The routes of the function.
pub static ROUTES: [Route<App>; 6] = [
    Route::of::<change_password::__path_handle>(|state, request, now| {
        Box::pin(change_password::handle(state, request, now))
    }),
    Route::of::<forgot::__path_handle>(|state, request, now| Box::pin(forgot::handle(state, request, now))),
    Route::of::<reset::__path_handle>(|state, request, now| Box::pin(reset::handle(state, request, now))),
    Route::of::<change_email::__path_handle>(|state, request, now| {
        Box::pin(change_email::handle(state, request, now))
    }),
    Route::of::<confirm_email::__path_handle>(|state, request, now| {
        Box::pin(confirm_email::handle(state, request, now))
    }),
    Route::of::<delete_user::__path_handle>(|state, request, now| {
        Box::pin(delete_user::handle(state, request, now))
    }),
];

/// The OpenAPI description of the routes.
#[derive(OpenApi)]
#[openapi(paths(
    change_password::handle,
    forgot::handle,
    reset::handle,
    change_email::handle,
    confirm_email::handle,
    delete_user::handle
))]
pub(crate) struct Description;

/// Where no mails are sent, the endpoints that need them do not exist.
fn require_mail(app: &App) -> Result<(), Error> {
    if app.mail.is_some() {
        Ok(())
    } else {
        Err(Error::NotFound)
    }
}
