//! Searches as MLflow's client asks them: its filters, any order, its pages.

use std::collections::HashMap;

use caller::Caller;
use ids::ModelId;
use mlflow_wire::search::{
    Clause, Comparator, Entity, IS_PROMPT, MODELS, Operand, Order, VERSIONS, asks_for_prompts,
    order_by, order_by_models, parse, python_list,
};
use mlflow_wire::{ErrorCode, MlflowError, Result};
use model_query::{Expr, Field, Op, Test, Value};

use super::Registry;
use crate::model::{Model, ModelVersion};
use crate::store::OrderedPage;

/// The most rows of one page, as in MLflow; a client goes on with the token.
const PAGE_MAX: i64 = 200_000;

/// Which models are asked for.
#[derive(Debug, Clone)]
pub struct OrderedModels {
    pub namespace: String,
    pub filter: String,
    pub order_by: Vec<String>,
    pub page_token: String,
    pub limit: i64,
}

/// Which versions are asked for.
#[derive(Debug, Clone)]
pub struct OrderedVersions {
    pub namespace: String,
    pub filter: String,
    pub order_by: Vec<String>,
    pub page_token: String,
    pub limit: i64,
}

impl Registry {
    /// A page of models in any order, each with the newest version of each stage, and the
    /// token that continues it.
    ///
    /// # Errors
    /// A filter, order, size or token that is none.
    pub async fn ordered_models(
        &self,
        caller: &Caller,
        asked: &OrderedModels,
    ) -> Result<(Vec<(Model, Vec<ModelVersion>)>, Option<String>)> {
        let clauses = parse(&MODELS, &asked.filter)?;
        let filter = expression(&clauses)?;
        let mut orders = Vec::new();
        for text in &asked.order_by {
            push(&mut orders, order_by_models(text)?, &asked.order_by)?;
        }
        let page = OrderedPage {
            namespace: self.narrowed(&asked.namespace).await?,
            visible: self.visible_rows(caller).await?,
            filter,
            list: format!(
                "mlflow-models:{}:{}:{:?}",
                asked.namespace, asked.filter, asked.order_by
            ),
            orders,
            page_token: asked.page_token.clone(),
            limit: limit(asked.limit)?,
        };
        self.store.ordered_models(&page).await
    }

    /// A page of versions in any order, and the token that continues it.
    ///
    /// # Errors
    /// As [`Self::ordered_models`].
    pub async fn ordered_versions(
        &self,
        caller: &Caller,
        asked: &OrderedVersions,
    ) -> Result<(Vec<ModelVersion>, Option<String>)> {
        if asked.limit < 1 {
            return Err(MlflowError::invalid(format!(
                "Invalid value for max_results. It must be a positive integer, but got {}",
                asked.limit
            )));
        }
        let clauses = parse(&VERSIONS, &asked.filter)?;
        let filter = expression(&clauses)?;
        let mut orders = Vec::new();
        for text in &asked.order_by {
            let order = order_by(&VERSIONS, text)?;
            if order.entity != Entity::Attribute {
                return Err(MlflowError::invalid(format!(
                    "Invalid order by key '{}' specified. Valid keys are {{'creation_timestamp', \
                     'last_updated_timestamp', 'name', 'version_number'}}",
                    order.key
                )));
            }
            push(&mut orders, order, &asked.order_by)?;
        }
        let page = OrderedPage {
            namespace: self.narrowed(&asked.namespace).await?,
            visible: self.visible_rows(caller).await?,
            filter,
            list: format!(
                "mlflow-versions:{}:{}:{:?}",
                asked.namespace, asked.filter, asked.order_by
            ),
            orders,
            page_token: asked.page_token.clone(),
            limit: limit(asked.limit)?,
        };
        self.store.ordered_versions(&page).await
    }

    /// The newest version of each stage of some models, by model.
    ///
    /// # Errors
    /// The database's.
    pub async fn latest_versions(
        &self,
        models: &[Model],
    ) -> Result<HashMap<ModelId, Vec<ModelVersion>>> {
        let ids: Vec<ModelId> = models
            .iter()
            .filter(|model| !model.latest_by_stage.is_empty())
            .map(|model| model.id)
            .collect();
        let mut found: HashMap<ModelId, Vec<ModelVersion>> = HashMap::new();
        if ids.is_empty() {
            return Ok(found);
        }
        for version in self.store.latest_versions(&ids).await? {
            found.entry(version.model_id).or_default().push(version);
        }
        Ok(found)
    }
}

fn limit(asked: i64) -> Result<u32> {
    u32::try_from(asked.min(PAGE_MAX)).map_err(|_| {
        MlflowError::invalid(format!(
            "Invalid value for max_results. It must be a positive integer, but got {asked}"
        ))
    })
}

fn push(orders: &mut Vec<(String, bool)>, order: Order, asked: &[String]) -> Result<()> {
    if orders.iter().any(|(key, _)| *key == order.key) {
        let message = format!("`order_by` contains duplicate fields: {}", python_list(asked));
        return Err(MlflowError::new(ErrorCode::InternalError, message));
    }
    orders.push((order.key, order.ascending));
    Ok(())
}

/// The clauses as the registry's own language has them; prompts are hidden
/// unless they are asked for.
fn expression(clauses: &[Clause]) -> Result<Expr> {
    let mut all = Vec::new();
    let wants_prompts = asks_for_prompts(clauses);
    for clause in clauses {
        if !wants_prompts && clause.entity == Entity::Tag && clause.key == IS_PROMPT {
            continue;
        }
        all.push(Expr::Test(test(clause)?));
    }
    if !wants_prompts {
        let prompt = Test {
            field: Field::Tag(IS_PROMPT.to_owned()),
            op: Op::Eq,
            value: Value::Text("true".to_owned()),
        };
        all.push(Expr::Not(Box::new(Expr::Test(prompt))));
    }
    Ok(Expr::And(all))
}

#[allow(clippy::cast_precision_loss, reason = "version numbers are small")]
fn test(clause: &Clause) -> Result<Test> {
    let field = match (clause.entity, clause.key.as_str()) {
        (Entity::Tag, key) => Field::Tag(key.to_owned()),
        (_, "version_number") => Field::Number,
        (_, "run_id") => Field::RunId,
        (_, "source_path") => Field::Source,
        _ => Field::Name,
    };
    if field == Field::Source && matches!(clause.comparator, Comparator::In | Comparator::NotIn) {
        return Err(MlflowError::invalid("Invalid comparator for attribute: IN"));
    }
    let op = match clause.comparator {
        Comparator::Equal => Op::Eq,
        Comparator::NotEqual => Op::NotEq,
        Comparator::Less => Op::Lt,
        Comparator::LessOrEqual => Op::LtEq,
        Comparator::Greater => Op::Gt,
        Comparator::GreaterOrEqual => Op::GtEq,
        Comparator::Like => Op::Like,
        Comparator::ILike => Op::ILike,
        Comparator::In => Op::In,
        Comparator::NotIn => Op::NotIn,
        Comparator::IsNull | Comparator::IsNotNull => {
            return Err(MlflowError::invalid(
                "Invalid comparison clause. Expected 3 tokens found 2",
            ));
        }
    };
    let wrong = |shown: String| {
        MlflowError::invalid(format!(
            "Invalid value for numeric attribute 'version_number': {shown}"
        ))
    };
    let value = match (&field, &clause.value) {
        (Field::Number, Operand::Int(number)) => Value::Number(*number as f64),
        (Field::Number, Operand::Text(text)) => {
            let number: i64 = text.trim().parse().map_err(|_| wrong(format!("'{text}'")))?;
            Value::Number(number as f64)
        }
        (Field::Number, Operand::Float(number)) => return Err(wrong(format!("{number:?}"))),
        (_, Operand::Text(text)) => Value::Text(text.clone()),
        (_, Operand::List(items)) => Value::Texts(items.clone()),
        _ => return Err(MlflowError::invalid("Invalid value in filter string")),
    };
    // No escapes in MLflow's patterns.
    let value = match (op, value) {
        (Op::Like | Op::ILike, Value::Text(text)) => Value::Text(text.replace('\\', "\\\\")),
        (_, value) => value,
    };
    Ok(Test { field, op, value })
}
