//! Users and their tokens.

use super::*;

#[tokio::test]
async fn a_user_gets_a_token_and_is_itself() {
    on_each(|server, admin, _, _| async move {
        let _runs = server;
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        let me = as_ana.who_am_i().await.unwrap();
        assert_eq!(me.user.as_ref(), Some(&ana));
        assert!(!me.read_only && ana.revision == 1 && ana.create_time.is_some());
        assert_eq!(code(admin.create_user("ana", Role::User).await), Code::AlreadyExists);
        let status = admin.create_user("../ana", Role::User).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message().starts_with("name:")),
            (Code::InvalidArgument, true)
        );
    })
    .await;
}

#[tokio::test]
async fn users_are_listed_in_pages_to_admins_and_hidden_from_each_other() {
    on_each(|server, admin, _, _| async move {
        let _runs = server;
        for name in ["bo", "cy", "di"] {
            admin.create_user(name, Role::User).await.unwrap();
        }
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let request =
                admin.request(ListUsersRequest { page_size: 2, page_token }).await.unwrap();
            let page = admin.users().list_users(request).await.unwrap().into_inner();
            assert!(page.users.len() <= 2);
            names.extend(page.users.into_iter().map(|user| user.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, ["admin", "bo", "cy", "di"]);
        let (_, ana) = admin.new_user("ana", Role::User).await;
        let get = async |name: &str| {
            let request = ana.request(GetUserRequest { name: name.into() }).await.unwrap();
            ana.users().get_user(request).await
        };
        assert_eq!(get("ana").await.unwrap().into_inner().user.unwrap().name, "ana");
        assert_eq!(code(get("bo").await), code(get("nobody").await));
    })
    .await;
}

#[tokio::test]
async fn the_last_admin_stays_one() {
    on_each(|server, admin, _, _| async move {
        let _runs = server;
        let change = |name: &str| UpdateUserRequest { name: name.into(), ..Default::default() };
        let demoted = UpdateUserRequest { role: Some(Role::User as i32), ..change("admin") };
        let disabled = UpdateUserRequest { disabled: Some(true), ..change("admin") };
        assert_eq!(reason(admin.update_user(demoted.clone()).await), "LAST_ADMIN");
        assert_eq!(reason(admin.update_user(disabled.clone()).await), "LAST_ADMIN");
        let (_, root) = admin.new_user("root", Role::Admin).await;
        let off = UpdateUserRequest { disabled: Some(true), ..change("root") };
        admin.update_user(off).await.unwrap();
        assert_eq!(
            reason(admin.update_user(disabled.clone()).await),
            "LAST_ADMIN",
            "a disabled admin does not count"
        );
        admin
            .update_user(UpdateUserRequest { disabled: Some(false), ..change("root") })
            .await
            .unwrap();
        root.update_user(disabled).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn only_what_was_read_is_changed() {
    on_each(|server, admin, _, _| async move {
        let _runs = server;
        let ana = admin.create_user("ana", Role::User).await.unwrap();
        let change = UpdateUserRequest {
            name: "ana".into(),
            display_name: Some("Ana".into()),
            revision: Some(ana.revision),
            ..Default::default()
        };
        let changed = admin.update_user(change.clone()).await.unwrap();
        assert_eq!((changed.display_name.as_str(), changed.revision), ("Ana", 2));
        let status = admin.update_user(change).await.unwrap_err();
        assert_eq!(status.code(), Code::Aborted);
    })
    .await;
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_a_second_though_its_jwt_verifies() {
    on_each(|server, admin, _, _| async move {
        let _runs = server;
        let (_, ana) = admin.new_user("ana", Role::User).await;
        let jwt = ana.exchange("identity").await.unwrap().jwt;
        let call = || async { ana.users().who_am_i(with_jwt(WhoAmIRequest {}, &jwt)).await };
        call().await.unwrap();
        let request = ana.request(ListTokensRequest::default()).await.unwrap();
        let tokens = ana.tokens().list_tokens(request).await.unwrap().into_inner().tokens;
        ana.revoke(&tokens[0].id).await.unwrap();
        assert_eq!(code(ana.exchange("identity").await), Code::Unauthenticated);
        within_a_second("the JWT was still let in", || async { call().await.is_err() }).await;
        admin.revoke(&tokens[0].id).await.unwrap();
        let request = admin
            .request(ListTokensRequest { user: "ana".into(), ..Default::default() })
            .await
            .unwrap();
        let listed = admin.tokens().list_tokens(request).await.unwrap().into_inner().tokens;
        assert!(
            listed.len() == 1 && listed[0].revoke_time.is_some() && listed[0].user == "ana",
            "{listed:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_disabled_user_and_a_lowered_role_are_refused_within_a_second() {
    on_each(|server, admin, _, _| async move {
        let _runs = server;
        let (_, root) = admin.new_user("root", Role::Admin).await;
        let jwt = root.exchange("identity").await.unwrap().jwt;
        let call = || async {
            root.users().list_users(with_jwt(ListUsersRequest::default(), &jwt)).await.map(drop)
        };
        call().await.unwrap();
        admin
            .update_user(UpdateUserRequest {
                name: "root".into(),
                role: Some(Role::User as i32),
                ..Default::default()
            })
            .await
            .unwrap();
        within_a_second("its JWT still says admin", || async { call().await.is_err() }).await;
        root.who_am_i().await.unwrap();
        admin
            .update_user(UpdateUserRequest {
                name: "root".into(),
                disabled: Some(true),
                ..Default::default()
            })
            .await
            .unwrap();
        assert_eq!(reason(root.exchange("identity").await), "USER_DISABLED");
        admin
            .update_user(UpdateUserRequest {
                name: "root".into(),
                disabled: Some(false),
                ..Default::default()
            })
            .await
            .unwrap();
        within_a_second("it was enabled again", || async { root.who_am_i().await.is_ok() }).await;
    })
    .await;
}

#[tokio::test]
async fn tokens_are_ones_own_unless_an_admin_asks() {
    on_each(|server, admin, _, _| async move {
        let _runs = server;
        let (_, ana) = admin.new_user("ana", Role::User).await;
        let (_, bo) = admin.new_user("bo", Role::User).await;
        let of_bo = bo.create_token(CreateTokenRequest::default()).await.unwrap().token.unwrap();
        assert_eq!(code(ana.revoke(&of_bo.id).await), Code::NotFound);
        assert_eq!(
            code(
                ana.create_token(CreateTokenRequest { user: "bo".into(), ..Default::default() })
                    .await
            ),
            Code::NotFound
        );
        let request = ana
            .request(ListTokensRequest { user: "bo".into(), ..Default::default() })
            .await
            .unwrap();
        assert_eq!(code(ana.tokens().list_tokens(request).await), Code::NotFound);
        for (request, field) in [
            (
                CreateTokenRequest { lifetime_seconds: Some(0), ..Default::default() },
                "lifetime_seconds:",
            ),
            (
                CreateTokenRequest { description: "a\nb".into(), ..Default::default() },
                "description:",
            ),
        ] {
            let status = ana.create_token(request).await.unwrap_err();
            assert!(
                status.code() == Code::InvalidArgument && status.message().starts_with(field),
                "{status:?}"
            );
        }
    })
    .await;
}
