//! Credentials into internal tokens.

use base_claims::claims;

use super::*;

/// The body of a JWT, unverified: what it says, not whether it is true.
mod base_claims {
    use caller::Claims;
    use jsonwebtoken::dangerous::insecure_decode;

    pub fn claims(jwt: &str) -> Claims {
        insecure_decode::<Claims>(jwt).unwrap().claims
    }
}

async fn issue(
    server: &Server,
    secret: &str,
    audience: &str,
    subject: &str,
) -> Result<String, Status> {
    let request = IssueTokenRequest {
        service_secret: secret.into(),
        audience: audience.into(),
        subject_token: subject.into(),
    };
    Ok(server.exchange().issue_token(request).await?.into_inner().jwt)
}

#[tokio::test]
async fn the_gateways_token_is_the_users_and_the_next_roles_says_who_acts() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        let exchanged = as_ana.exchange("catalog").await.unwrap();
        assert_eq!(
            (exchanged.principal_id.as_str(), exchanged.principal_name.as_str()),
            (ana.id.as_str(), "ana")
        );
        let first = claims(&exchanged.jwt);
        assert_eq!(
            (first.aud.as_str(), first.sub.as_str(), first.role.as_str()),
            ("catalog", ana.id.as_str(), "user")
        );
        assert!(first.act.is_none() && first.tid.is_some() && first.exp - first.iat <= 60);
        let second = issue(&server, CATALOG_SECRET, "item-store", &exchanged.jwt).await.unwrap();
        let second = claims(&second);
        assert_eq!((second.aud.as_str(), second.sub.as_str()), ("item-store", ana.id.as_str()));
        assert_eq!((second.act.unwrap().sub.as_str(), second.tid), ("catalog", first.tid));
        let own = claims(&issue(&server, CATALOG_SECRET, "identity", "").await.unwrap());
        assert_eq!(
            (own.role.as_str(), own.name.as_str(), own.sub),
            ("service", "catalog", ids::role_principal("catalog").to_string())
        );
    })
    .await;
}

#[tokio::test]
async fn a_token_is_issued_only_to_the_role_that_was_called() {
    on_each(|server, admin, _, _| async move {
        let for_items = admin.exchange("item-store").await.unwrap().jwt;
        let for_catalog = admin.exchange("catalog").await.unwrap().jwt;
        assert_eq!(
            code(issue(&server, CATALOG_SECRET, "identity", &for_items).await),
            Code::Unauthenticated
        );
        assert_eq!(
            code(issue(&server, "qsvc_somebody's", "identity", &for_catalog).await),
            Code::Unauthenticated
        );
        assert_eq!(
            code(issue(&server, CATALOG_SECRET, "identity", "qpat_nonsense").await),
            Code::Unauthenticated
        );
        assert_eq!(
            code(issue(&server, CATALOG_SECRET, "catalog", &for_catalog).await),
            Code::InvalidArgument
        );
        assert_eq!(
            code(issue(&server, CATALOG_SECRET, "gateway", "").await),
            Code::InvalidArgument
        );
        assert_eq!(code(issue(&server, CATALOG_SECRET, "moon", "").await), Code::InvalidArgument);
        let request = ExchangeTokenRequest {
            service_secret: CATALOG_SECRET.into(),
            audience: "identity".into(),
            credential: Some(Credential::Bearer(admin.token.clone())),
        };
        assert_eq!(
            code(server.exchange().exchange_token(request).await),
            Code::PermissionDenied,
            "only the gateway does"
        );
    })
    .await;
}

#[tokio::test]
async fn a_revoked_users_call_goes_no_further() {
    on_each(|server, admin, _, _| async move {
        let (_, ana) = admin.new_user("ana", Role::User).await;
        let jwt = ana.exchange("catalog").await.unwrap().jwt;
        issue(&server, CATALOG_SECRET, "item-store", &jwt).await.unwrap();
        let tid = claims(&jwt).tid.unwrap();
        ana.revoke(&tid).await.unwrap();
        assert_eq!(
            code(issue(&server, CATALOG_SECRET, "item-store", &jwt).await),
            Code::Unauthenticated
        );
    })
    .await;
}

#[tokio::test]
async fn unknown_and_wrong_credentials_are_the_same_to_whoever_tries() {
    on_each(|server, admin, _, _| async move {
        let unknown = crate::model::Made::new().text;
        // The admin's token id with somebody else's secret and a right checksum.
        let mut mixed = format!("{}{}", &admin.token[..28], &unknown[28..72]);
        let sum = crc32fast::hash(mixed.as_bytes());
        mixed.push_str(&crate::model::test_base62(&sum.to_be_bytes(), 6));
        assert!(crate::model::Presented::parse(&mixed).is_some(), "well formed");
        let mut answers = Vec::new();
        for wrong in [unknown.as_str(), mixed.as_str(), "", "admin", "x".repeat(40).as_str()] {
            let status = server.client(wrong).exchange("identity").await.unwrap_err();
            answers.push((status.code(), status.message().to_owned()));
        }
        assert_eq!(answers[0].0, Code::Unauthenticated);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    })
    .await;
}

#[tokio::test]
async fn a_name_with_its_own_token_is_a_password_and_with_anothers_is_not() {
    on_each(|server, admin, _, _| async move {
        let (_, ana) = admin.new_user("ana", Role::User).await;
        let basic = async |name: &str, password: &str| {
            let credential = Some(Credential::Basic(BasicCredential {
                name: name.into(),
                password: password.into(),
            }));
            let request = ExchangeTokenRequest {
                service_secret: GATEWAY_SECRET.into(),
                audience: "item-store".into(),
                credential,
            };
            server.exchange().exchange_token(request).await
        };
        assert_eq!(basic("ana", &ana.token).await.unwrap().into_inner().principal_name, "ana");
        for (name, password) in [
            ("admin", ana.token.as_str()),
            ("nobody", ana.token.as_str()),
            ("", ana.token.as_str()),
            ("ana", ""),
        ] {
            assert_eq!(
                code(basic(name, password).await),
                Code::Unauthenticated,
                "{name} {password}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn an_expiring_token_makes_no_jwt_that_outlives_it() {
    on_each(|server, admin, _, _| async move {
        let _runs = server;
        let made = admin
            .create_token(CreateTokenRequest { lifetime_seconds: Some(20), ..Default::default() })
            .await
            .unwrap();
        let short = Client { token: made.secret, ..admin.clone() };
        let life = claims(&short.exchange("identity").await.unwrap().jwt);
        assert!(life.exp - life.iat <= 20, "{life:?}");
        let expiry = made.token.unwrap().expire_time.unwrap();
        assert!(life.exp <= expiry.seconds);
    })
    .await;
}
