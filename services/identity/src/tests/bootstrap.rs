//! The first admin.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::app::Identity;

#[tokio::test]
async fn the_first_start_writes_the_admins_token_and_the_next_keeps_it() {
    on_each(|server, admin, sql, data_dir| async move {
        assert!(!server.admin_claimed);
        let file = data_dir.join("admin-token");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777, 0o700);
        let me = admin.who_am_i().await.unwrap().user.unwrap();
        assert_eq!((me.name.as_str(), me.role()), ("admin", Role::Admin));
        server.stop().await;
        let server = start(platform(&sql, &data_dir)).await;
        assert_eq!(admin_token(&data_dir), admin.token);
        assert_eq!(server.client(&admin.token).who_am_i().await.unwrap().user.unwrap().id, me.id);
    })
    .await;
}

#[tokio::test]
async fn a_file_that_does_not_verify_is_replaced_and_its_token_refused() {
    on_each(|server, admin, sql, data_dir| async move {
        server.stop().await;
        let file = data_dir.join("admin-token");
        let elsewhere = data_dir.join("elsewhere");
        fs::write(&elsewhere, &admin.token).unwrap();
        let breaks: [&dyn Fn(); 4] = [
            &|| fs::remove_file(&file).unwrap(),
            &|| fs::write(&file, "qpat_nonsense").unwrap(),
            &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap(),
            &|| {
                fs::remove_file(&file).unwrap();
                symlink(&elsewhere, &file).unwrap();
            },
        ];
        let mut lost = admin.token;
        for break_it in breaks {
            break_it();
            let server = start(platform(&sql, &data_dir)).await;
            let found = admin_token(&data_dir);
            assert_ne!(found, lost);
            assert!(fs::symlink_metadata(&file).unwrap().is_file());
            server.client(&found).who_am_i().await.unwrap();
            assert_eq!(code(server.client(&lost).who_am_i().await), Code::Unauthenticated);
            server.stop().await;
            lost = found;
        }
        assert_eq!(
            fs::read_to_string(&elsewhere).unwrap().len(),
            lost.len(),
            "nothing was written through the link"
        );
    })
    .await;
}

#[tokio::test]
async fn an_operators_token_claims_the_account_and_revokes_the_data_dirs() {
    on_each(|server, admin, sql, data_dir| async move {
        server.stop().await;
        let file = data_dir.join("claim");
        let claiming =
            Platform { admin_token_file: Some(file.clone()), ..platform(&sql, &data_dir) };
        let refused = async || {
            let error = build(Settings::default(), claiming.clone(), CancellationToken::new())
                .await
                .unwrap_err();
            assert!(error.message().contains("admin_token_file"), "{error}");
        };
        refused().await;
        fs::write(&file, "too short").unwrap();
        refused().await;
        let chosen = "an operator's secret of thirty-two characters or more";
        fs::write(&file, format!("{chosen}\n")).unwrap();
        let server = start(claiming.clone()).await;
        assert!(server.admin_claimed);
        assert!(!data_dir.join("admin-token").exists());
        assert_eq!(server.client(chosen).who_am_i().await.unwrap().user.unwrap().name, "admin");
        assert_eq!(code(server.client(&admin.token).who_am_i().await), Code::Unauthenticated);
        server.stop().await;
        // Another secret replaces it; without the file it stays claimed.
        let made = crate::model::Made::new().text;
        fs::write(&file, &made).unwrap();
        start(claiming).await.stop().await;
        let server = start(platform(&sql, &data_dir)).await;
        assert!(server.admin_claimed && !data_dir.join("admin-token").exists());
        server.client(&made).who_am_i().await.unwrap();
        assert_eq!(code(server.client(chosen).who_am_i().await), Code::Unauthenticated);
        let keys = server.exchange().get_keys(GetKeysRequest {}).await.unwrap().into_inner();
        assert!(keys.admin_claimed && keys.jwks_json.contains("Ed25519"), "{keys:?}");
    })
    .await;
}

#[tokio::test]
async fn four_servers_that_start_at_once_agree() {
    let root = tempfile::tempdir().unwrap();
    for (number, sql) in
        testing::databases(&root.path().join("sql")).await.unwrap().into_iter().enumerate()
    {
        let dir = |server: usize| root.path().join(format!("{number}-{server}"));
        let servers =
            futures::future::join_all((0..4).map(|server| start(platform(&sql, &dir(server)))))
                .await;
        let mut admins = Vec::new();
        for (number, server) in servers.iter().enumerate() {
            // Each data dir's token at the next server.
            let me = servers[(number + 1) % 4]
                .client(&admin_token(&dir(number)))
                .who_am_i()
                .await
                .unwrap();
            admins.push(me.user.unwrap().id);
            let keys =
                server.exchange().get_keys(GetKeysRequest {}).await.unwrap().into_inner().jwks_json;
            assert_eq!(keys.matches("\"kid\"").count(), 1, "{keys}");
        }
        assert!(admins.iter().all(|admin| *admin == admins[0]), "{admins:?}");
    }
}

/// The tokens of the first admin that live.
async fn live_tokens(admin: &Client) -> usize {
    let request = admin.request(ListTokensRequest::default()).await.unwrap();
    let listed = admin.tokens().list_tokens(request).await.unwrap().into_inner();
    listed.tokens.iter().filter(|token| token.revoke_time.is_none()).count()
}

#[tokio::test]
async fn who_takes_over_on_a_data_dir_of_its_own_leaves_no_token_behind() {
    const DAY: i64 = 24 * 3_600_000_000;
    on_each(|server, admin, sql, data_dir| async move {
        let (first, now) = (admin.token.clone(), sql_store::now_micros());
        let mut left = (server, admin);
        for next in 1..=3 {
            // The next one is there before the one before it goes.
            let place = platform(&sql, &data_dir.join(format!("next-{next}")));
            let identity = Identity::open(Settings::default(), &place).await.unwrap();
            let server = start(place.clone()).await;
            let own = server.client(&admin_token(&place.data_dir));
            let was = server.client(&left.1.token);
            assert_eq!(live_tokens(&own).await, 2, "one for each data dir in use");
            left.0.stop().await;
            if next == 1 {
                identity.revoke_unused_tokens(now + 6 * DAY).await.unwrap();
                was.who_am_i().await.unwrap();
            }
            identity.revoke_unused_tokens(now + next * 30 * DAY).await.unwrap();
            assert_eq!(code(was.who_am_i().await), Code::Unauthenticated);
            assert_eq!(live_tokens(&own).await, 1, "however often it was handed over");
            left = (server, own);
        }
        left.0.stop().await;
        // Whoever comes back to a data dir that was left finds a token that works.
        let server = start(platform(&sql, &data_dir)).await;
        assert_ne!(admin_token(&data_dir), first);
        server.client(&admin_token(&data_dir)).who_am_i().await.unwrap();
        server.client(&left.1.token).who_am_i().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_data_dir_that_cannot_be_written_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    let platform = platform(&SqlSettings::sqlite(root.path().join("sql")), &file.join("data"));
    let error = build(Settings::default(), platform, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.code(), service_error::Code::FailedPrecondition);
    assert!(error.message().contains("admin-token"), "{error}");
}
