//! What users can see and change of their account without confirming the password: sessions and profile. Each request
//! is a single statement, which also verifies that the session is live.

pub mod profile;
pub mod sessions;

use shared::auth::Authenticator;
use shared::http::Route;
use utoipa::OpenApi;

/// The routes of the function.
pub static ROUTES: [Route<Authenticator>; 4] = [
    Route::of::<sessions::__path_list>(|state, request, now| Box::pin(sessions::list(state, request, now))),
    Route::of::<sessions::__path_end_others>(|state, request, now| {
        Box::pin(sessions::end_others(state, request, now))
    }),
    Route::of::<sessions::__path_end_one>(|state, request, now| {
        Box::pin(sessions::end_one(state, request, now))
    }),
    Route::of::<profile::__path_update>(|state, request, now| Box::pin(profile::update(state, request, now))),
];

/// The OpenAPI description of the routes.
#[derive(OpenApi)]
#[openapi(paths(sessions::list, sessions::end_others, sessions::end_one, profile::update))]
pub(crate) struct Description;
