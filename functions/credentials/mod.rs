//! What users change only by stating the account's password again.

pub mod change_password;
pub mod delete_user;
mod own_password;

use shared::app::App;
use shared::http::Route;
use utoipa::OpenApi;

/// The routes.
pub static ROUTES: [Route<App>; 2] = [
    Route::of::<change_password::__path_handle>(|state, request, now| {
        Box::pin(change_password::handle(state, request, now))
    }),
    Route::of::<delete_user::__path_handle>(|state, request, now| {
        Box::pin(delete_user::handle(state, request, now))
    }),
];

/// What the routes say of themselves.
#[derive(OpenApi)]
#[openapi(paths(change_password::handle, delete_user::handle))]
pub(crate) struct Description;
