//! Searches: every operator on both databases, pages, facets.

use std::collections::HashMap;

use super::*;

impl House {
    /// Models `a` and `b` with five versions.
    async fn stocked(&self) -> Who {
        let ana = self.ana().await;
        for (model, number) in [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)] {
            let score = f64::from(number) / 10.0;
            let request = wire::CreateVersionRequest {
                create_model: true,
                description: format!("{model}{number}"),
                source: format!("runs:/r{number}/model"),
                run_id: format!("r{number}"),
                flavors: vec![if model == "a" { "sklearn" } else { "onnx" }.into()],
                tags: HashMap::from([("team".into(), format!("T{number}%"))]),
                metrics: vec![wire::Metric {
                    key: "acc".into(),
                    value: score,
                    step: 0,
                    time: None,
                }],
                params: HashMap::from([
                    ("lr".into(), format!("0.{number}")),
                    ("opt".into(), "Adam".into()),
                ]),
                ..new(model)
            };
            self.register(&ana, request).await.unwrap();
        }
        self.alias(&ana, "b", "prod", "2").await.unwrap();
        ana
    }

    async fn search(&self, who: &Who, filter: &str) -> Result<Vec<String>, ServiceError> {
        let request = wire::SearchVersionsRequest {
            filter: filter.into(),
            order_by: "name".into(),
            ..Default::default()
        };
        let found = self.versions().search_versions(self.by(who, request)).await?;
        let versions = found.into_inner().versions.into_iter();
        Ok(versions.map(|of| of.description).collect())
    }
}

#[tokio::test]
async fn every_operator_finds_the_same_on_both_databases() {
    in_each_house(async |house| {
        let ana = house.stocked().await;
        for (filter, expected) in [
            ("", &["a1", "a2", "b1", "b2", "b3"][..]),
            ("metrics.acc > 0.1", &["a2", "b2", "b3"]),
            ("metrics.acc >= 0.1 AND metrics.acc < 0.3 AND name = 'b'", &["b1", "b2"]),
            ("alias = 'prod' OR number = 3", &["b2", "b3"]),
            ("NOT alias = 'prod' AND name = 'b'", &["b1", "b3"]),
            ("params.lr <= 0.2 AND params.opt = 'Adam'", &["a1", "a2", "b1", "b2"]),
            ("params.opt = 'adam'", &[]),
            ("params.opt ILIKE 'AD%'", &["a1", "a2", "b1", "b2", "b3"]),
            ("params.opt LIKE 'AD%'", &[]),
            ("tags.team = 'T2%'", &["a2", "b2"]),
            ("tags.team LIKE 'T_\\%'", &["a1", "a2", "b1", "b2", "b3"]),
            ("tags.team = 'T*'", &["a1", "a2", "b1", "b2", "b3"]),
            ("tags.none != 'x'", &[]),
            ("NOT tags.none = 'x' AND number = 1", &["a1", "b1"]),
            ("flavor IN ('onnx', 'keras') AND number NOT IN (1, 2)", &["b3"]),
            ("run_id = 'r1' OR source = 'runs:/r2/*'", &["a1", "a2", "b1", "b2"]),
            ("(name = 'a' AND number = 1) OR (name = 'b' AND number = 2)", &["a1", "b2"]),
            (
                "stage = 'None' AND status = 'ready' AND scan = 'none' AND signed = false",
                &["a1", "a2", "b1", "b2", "b3"],
            ),
            ("size > 0", &[]),
            ("digest = 'ab'", &[]),
            ("create_time > '2020-01-01T00:00:00Z' AND number = 3", &["b3"]),
            ("name = ''' OR 1=1 --'", &[]),
        ] {
            let found =
                house.search(&ana, filter).await.unwrap_or_else(|e| panic!("{filter}: {e}"));
            assert_eq!(found, expected, "{filter}");
        }
        let wrong = house.search(&ana, "size > 'x'").await.unwrap_err();
        assert_eq!(wrong.field_name(), Some("filter"));
        assert_eq!(house.search(&Who::user(), "").await.unwrap(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn pages_are_the_whole_list_in_each_order() {
    in_each_house(async |house| {
        let ana = house.stocked().await;
        for order_by in [
            "",
            "number",
            "number desc",
            "name",
            "name desc",
            "create_time",
            "update_time desc",
            "size",
        ] {
            let page = async |page_size, page_token: String| {
                let request = wire::SearchVersionsRequest {
                    namespace: "ml".into(),
                    order_by: order_by.into(),
                    page_size,
                    page_token,
                    ..Default::default()
                };
                house
                    .versions()
                    .search_versions(house.by(&ana, request))
                    .await
                    .unwrap()
                    .into_inner()
            };
            let whole = page(0, String::new()).await;
            assert_eq!((whole.versions.len(), whole.next_page_token.as_str()), (5, ""));
            let (mut all, mut token) = (Vec::new(), String::new());
            loop {
                let part = page(2, token).await;
                all.extend(part.versions);
                token = part.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(all, whole.versions, "{order_by:?}");
        }
        let models = async |filter: &str| {
            let request = wire::SearchModelsRequest { filter: filter.into(), ..Default::default() };
            let found = house.models().search_models(house.by(&ana, request)).await.unwrap();
            let models = found.into_inner().models.into_iter();
            models.map(|model| model.name).collect::<Vec<_>>()
        };
        assert_eq!(models("").await, ["a", "b"]);
        assert_eq!(models("version_count > 2 OR name = 'a'").await, ["a", "b"]);
        assert_eq!(models("alias = 'prod'").await, ["b"]);
    })
    .await;
}

#[tokio::test]
async fn facets_count_and_versions_compare() {
    in_each_house(async |house| {
        let ana = house.stocked().await;
        let request = wire::GetFacetsRequest {
            filter: "number < 3".into(),
            fields: vec!["flavor".into(), "stage".into(), "tags.team".into()],
            ..Default::default()
        };
        let facets = house.versions().get_facets(house.by(&ana, request)).await.unwrap();
        let facets = facets.into_inner().facets;
        let flavors: Vec<_> =
            facets[0].values.iter().map(|of| (of.value.as_str(), of.count)).collect();
        assert_eq!(flavors, [("onnx", 2), ("sklearn", 2)]);
        assert_eq!((facets[1].values[0].value.as_str(), facets[1].values[0].count), ("None", 4));
        assert_eq!(facets[2].values.len(), 2);
        let name = |model: &str, version: &str| wire::VersionName {
            namespace: "ml".into(),
            model: model.into(),
            version: version.into(),
        };
        let request =
            wire::CompareVersionsRequest { versions: vec![name("a", "1"), name("b", "@prod")] };
        let compared = house.versions().compare_versions(house.by(&ana, request)).await.unwrap();
        let compared = compared.into_inner();
        let field = |name: &str| compared.fields.iter().find(|of| of.field == name).unwrap();
        assert_eq!(field("metrics.acc").values, ["0.1", "0.2"]);
        assert!(field("metrics.acc").differs && !field("params.opt").differs);
        let one = wire::CompareVersionsRequest { versions: vec![name("a", "1")] };
        let error = house.versions().compare_versions(house.by(&ana, one)).await.unwrap_err();
        assert_eq!(ServiceError::from(error).field_name(), Some("versions"));
    })
    .await;
}

#[tokio::test]
async fn letters_beyond_ascii_are_found_alike_on_both_databases() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        for name in ["Élan", "élite", "Elan"] {
            let request = wire::CreateVersionRequest {
                create_model: true,
                description: name.into(),
                ..new(name)
            };
            house.register(&ana, request).await.unwrap();
        }
        for (filter, expected) in [
            ("name ILIKE 'ÉLAN'", &["Élan"][..]),
            ("name ILIKE 'é%'", &["élite"]),
            ("name ILIKE 'E%'", &["Elan"]),
            ("name ILIKE '%LAN'", &["Elan", "Élan"]),
        ] {
            let mut found = house.search(&ana, filter).await.unwrap();
            found.sort();
            assert_eq!(found, expected, "{filter}");
        }
        for wrong in ["digest > 'aa'", "digest LIKE 'aa%'", "digest = 'aa*'"] {
            let error = house.search(&ana, wrong).await.unwrap_err();
            assert!(error.message().contains("compared whole"), "{wrong}: {error}");
        }
    })
    .await;
}
