//! What rows look like, over gRPC and from the command line.

use catalog_api::v1::value::Kind;
use harness::{data, put};
use items_api::v1::{
    ExplainItemsRequest, GetFacetsRequest, GetItemsAtRequest, ListItemsRequest, SampleItemsRequest,
    SummarizeItemsRequest,
};
use tonic::Code;

use crate::refusal::refused;
use crate::stage::Stage;

const ROWS: i64 = 1_200;

async fn filled(stage: &Stage) -> String {
    let ns = stage.namespace().await;
    for part in 0..3 {
        let rows = data::rows(part * 400, part * 400 + 400);
        put(&stage.admin, &ns, "rows", vec![rows]).await.unwrap();
    }
    ns
}

fn id(item: &items_api::v1::Item) -> i64 {
    match item.values[0].kind {
        Some(Kind::IntValue(id)) => id,
        ref other => panic!("no key: {other:?}"),
    }
}

/// Pages in an order, forwards and then back, hold each row once and in that order.
pub async fn orders(stage: &Stage) {
    let ns = filled(stage).await;
    let mut request = ListItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        filter: "is_favorite = true".into(),
        order_by: "width desc, id".into(),
        page_size: 71,
        ..Default::default()
    };
    let mut expected: Vec<i64> = (0..ROWS).filter(|id| data::is_favorite(*id)).collect();
    expected.sort_by_key(|id| (-data::width(*id), *id));
    let mut there = Vec::new();
    let mut page = loop {
        let page = stage.admin.items().list_items(request.clone()).await.unwrap().into_inner();
        there.extend(page.items.iter().map(id));
        request.page_token.clone_from(&page.next_page_token);
        if page.next_page_token.is_empty() {
            break page;
        }
    };
    assert_eq!(there, expected);
    let mut back: Vec<Vec<i64>> = vec![page.items.iter().map(id).collect()];
    while !page.previous_page_token.is_empty() {
        request.page_token.clone_from(&page.previous_page_token);
        page = stage.admin.items().list_items(request.clone()).await.unwrap().into_inner();
        back.push(page.items.iter().map(id).collect());
    }
    back.reverse();
    assert_eq!(back.concat(), expected);
    let wrong = ListItemsRequest { order_by: "wdth".into(), page_token: String::new(), ..request };
    refused(stage.admin.items().list_items(wrong).await, Code::InvalidArgument);
}

/// Summaries, facets, samples, positions and plans agree with the rows.
pub async fn looks(stage: &Stage) {
    let ns = filled(stage).await;
    let (namespace, dataset) = (ns.clone(), "rows".to_owned());
    let mut analysis = stage.admin.analysis();
    let request = SummarizeItemsRequest {
        namespace: namespace.clone(),
        dataset: dataset.clone(),
        filter: "width > 1000".into(),
        ..Default::default()
    };
    let found = analysis.summarize_items(request).await.unwrap().into_inner();
    let passing: Vec<i64> = (0..ROWS).filter(|id| data::width(*id) > 1_000).collect();
    assert_eq!(found.row_count, passing.len() as i64);
    let width = found.columns.iter().find(|column| column.column == "width").unwrap();
    let greatest = passing.iter().map(|id| data::width(*id)).max().unwrap();
    assert_eq!(width.max.as_ref().unwrap().kind, Some(Kind::IntValue(greatest)));
    let request = GetFacetsRequest {
        namespace: namespace.clone(),
        dataset: dataset.clone(),
        column: "section".into(),
        measures: vec!["width".into()],
        ..Default::default()
    };
    let found = analysis.get_facets(request).await.unwrap().into_inner();
    for group in &found.groups {
        let Some(Kind::StringValue(section)) = &group.value.as_ref().unwrap().kind else {
            panic!("{group:?}")
        };
        let of: Vec<i64> = (0..ROWS).filter(|id| data::section(*id) == section).collect();
        assert_eq!(group.row_count, of.len() as i64);
        let sum: i64 = of.iter().map(|id| data::width(*id)).sum();
        assert!((group.measures[0].mean.unwrap() - sum as f64 / of.len() as f64).abs() < 1e-6);
    }
    let request = SampleItemsRequest {
        namespace: namespace.clone(),
        dataset: dataset.clone(),
        size: 30,
        seed: 9,
        ..Default::default()
    };
    let one = analysis.sample_items(request.clone()).await.unwrap().into_inner();
    let two = analysis.sample_items(request).await.unwrap().into_inner();
    assert_eq!((one.items.len(), &one.items), (30, &two.items));
    let request = GetItemsAtRequest {
        namespace: namespace.clone(),
        dataset: dataset.clone(),
        positions: vec![ROWS - 1, 0, 400],
        ..Default::default()
    };
    let found = analysis.get_items_at(request).await.unwrap().into_inner();
    assert_eq!(found.items.iter().map(id).collect::<Vec<_>>(), [ROWS - 1, 0, 400]);
    let request = ExplainItemsRequest {
        namespace,
        dataset,
        filter: format!("id = {}", ROWS - 1),
        ..Default::default()
    };
    let plan = analysis.explain_items(request).await.unwrap().into_inner();
    assert_eq!((plan.row_count, plan.blocks_read, plan.blocks_skipped), (1, 1, 2), "{plan:?}");
}

/// The same from the command line.
pub async fn other_doors(stage: &Stage) {
    let ns = filled(stage).await;
    let platform = &stage.platform;
    let name = format!("{ns}/rows");
    let stats = ["items", "stats", &name, "--columns", "width", "--top", "1", "-o", "json"];
    let stats = platform.cli(&stats).await.json();
    assert_eq!(stats["row_count"], ROWS, "{stats}");
    let facets = ["items", "facets", &name, "--by", "is_favorite", "-o", "json"];
    let facets = platform.cli(&facets).await.json();
    let favorites = (0..ROWS).filter(|id| data::is_favorite(*id)).count();
    let group = facets["groups"].as_array().unwrap().iter().find(|group| group["value"] == true);
    assert_eq!(group.unwrap()["row_count"], favorites, "{facets}");
    let preview = platform.cli(&["items", "preview", &name, "-o", "json"]).await.json();
    assert_eq!(preview["items"].as_array().unwrap().len(), 20);
    let described = platform.cli(&["items", "describe", &name, "-o", "json"]).await.json();
    assert_eq!(described["row_count"], ROWS);
    let plan = ["items", "explain", &name, "--operation", "count", "-o", "json"];
    assert_eq!(platform.cli(&plan).await.json()["row_count"], ROWS);
    for command in ["preview", "describe", "stats", "explain", "sample"] {
        let shown = platform.cli(&["items", command, &name]).await;
        assert_eq!(shown.code, 0, "{command}: {shown:?}");
    }
}
