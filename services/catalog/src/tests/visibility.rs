//! Which blocks a snapshot sees, against a model that keeps whole lists.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<i64>),
    Overwrite(Vec<i64>),
    /// An append that was computed from an earlier snapshot.
    StaleAppend(Vec<i64>, usize),
    StaleOverwrite(Vec<i64>, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = || prop::collection::vec(1..50_i64, 0..4);
    let step = prop_oneof![
        4 => rows().prop_map(Step::Append),
        2 => rows().prop_map(Step::Overwrite),
        2 => (rows(), any::<usize>()).prop_map(|(rows, base)| Step::StaleAppend(rows, base)),
        1 => (rows(), any::<usize>()).prop_map(|(rows, base)| Step::StaleOverwrite(rows, base)),
    ];
    prop::collection::vec(step, 1..12)
}

/// The rows of each block at every snapshot so far; the first is the empty one.
type Model = Vec<Vec<i64>>;

async fn take(house: &House, who: &Who, dataset: &str, step: &Step, model: &mut Model) {
    let head = model.len() - 1;
    let base_of = |seed: &usize| seed % model.len();
    let (put, next) = match step {
        Step::Append(rows) => (Put::append(rows), Some([model[head].as_slice(), rows].concat())),
        Step::Overwrite(rows) => (Put::overwrite(rows), Some(rows.clone())),
        Step::StaleAppend(rows, seed) => {
            let base = Some(base_of(seed) as i64);
            (Put { base, ..Put::append(rows) }, Some([model[head].as_slice(), rows].concat()))
        }
        Step::StaleOverwrite(rows, seed) => {
            let base = base_of(seed);
            (
                Put { base: Some(base as i64), ..Put::overwrite(rows) },
                (base == head).then(|| rows.clone()),
            )
        }
    };
    let outcome = house.put(who, dataset, put).await;
    match next {
        Some(blocks) => {
            outcome.unwrap();
            model.push(blocks);
        }
        None => assert_eq!(outcome.unwrap_err().reason_text(), "HEAD_MOVED"),
    }
}

async fn compare(house: &House, who: &Who, dataset: &str, model: &Model) {
    for (snapshot, expected) in model.iter().enumerate() {
        let snapshot = snapshot as i64;
        let head = house.head(who, dataset, Some(snapshot)).await.unwrap();
        assert_eq!(head.row_count, expected.iter().sum::<i64>());
        assert_eq!(head.block_count, expected.len() as i64);
        let blocks = house.blocks(who, dataset, snapshot, 0).await;
        let rows: Vec<_> = blocks.iter().map(|block| block.row_count).collect();
        assert_eq!(&rows, expected, "snapshot {snapshot}");
        let mut begin = 0;
        for block in &blocks {
            assert_eq!(block.row_begin, begin);
            begin += block.row_count;
        }
        let added = house.blocks(who, dataset, snapshot, snapshot / 2).await;
        let later: Vec<_> =
            blocks.into_iter().filter(|block| block.snapshot_begin > snapshot / 2).collect();
        assert_eq!(added, later);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_snapshot_lists_what_a_naive_model_lists() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "model").await;
        let (runner, strategy) = (&mut TestRunner::default(), steps());
        for case in 0..12 {
            let steps = strategy.new_tree(runner).unwrap().current();
            let dataset = house.dataset(&ana, "model", &format!("case-{case}")).await.id;
            let mut model: Model = vec![Vec::new()];
            for step in &steps {
                take(&house, &ana, &dataset, step, &mut model).await;
            }
            println!("case {case}: {steps:?}");
            compare(&house, &ana, &dataset, &model).await;
        }
    })
    .await;
}
