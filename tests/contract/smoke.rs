use crate::harness::Service;

#[tokio::test]
async fn a_session_from_register_to_a_refused_token() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
    assert_eq!(service.log_out(&token).await.status, 200);
    assert_eq!(service.get("/auth/me", &token).await.status, 401);
}
