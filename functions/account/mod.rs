//! What users see and change of their account without stating the password again: sessions and profile. Each request is one
//! statement, which also decides whether the session of the request is live.

pub mod profile;
pub mod sessions;

use shared::auth::Authenticator;
use shared::http::Route;
use utoipa::OpenApi;

/// The routes.
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

/// What the routes say of themselves.
#[derive(OpenApi)]
#[openapi(paths(sessions::list, sessions::end_others, sessions::end_one, profile::update))]
pub(crate) struct Description;
