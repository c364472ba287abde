//! Changes to an account that require its password: changing the password, and deleting the account.

pub mod change_password;
pub mod delete_user;
mod own_password;

use shared::app::App;
use shared::http::Route;
use utoipa::OpenApi;

/// The routes of the function.
pub static ROUTES: [Route<App>; 2] = [
    Route::of::<change_password::__path_handle>(|state, request, now| {
        Box::pin(change_password::handle(state, request, now))
    }),
    Route::of::<delete_user::__path_handle>(|state, request, now| {
        Box::pin(delete_user::handle(state, request, now))
    }),
];

/// The OpenAPI description of the routes.
#[derive(OpenApi)]
#[openapi(paths(change_password::handle, delete_user::handle))]
pub(crate) struct Description;
