//! A question with its items, texts and filters looked up: what is left needs
//! the index alone.

use std::collections::HashMap;
use std::sync::Arc;

use embedder::Embedding;
use service_error::ServiceError;
use space_index::Point;
use vector_questions::{Part, Plan};

use crate::app::App;
use crate::model::{OwnedVector, Question, Recommend, Space};

impl App {
    /// Looks up what a question names.
    pub(super) async fn plan(
        &self,
        space: &Arc<Space>,
        question: Question,
    ) -> Result<Plan, ServiceError> {
        Ok(match question {
            Question::Vector(vector) => {
                vector.stored(&space.vectors, "query.vector")?;
                Plan::Near(vector, Vec::new())
            }
            Question::Item(item) => {
                let vector = self.vector_of(space, &item).await?;
                Plan::Near(vector, vec![item])
            }
            Question::Text(text) => {
                let (_, embedder) = self.embedders.get(&space.embedder)?;
                let made = embedder.texts(vec![text]).await?.into_iter().next();
                let made = made.ok_or_else(|| ServiceError::internal("no vector of the text"))?;
                Plan::Near(self.embedded(space, made)?, Vec::new())
            }
            Question::Image(bytes) => {
                let (_, embedder) = self.embedders.get(&space.embedder)?;
                let made = embedder.image(bytes).await?;
                Plan::Near(self.embedded(space, made)?, Vec::new())
            }
            Question::Recommend(recommend) => self.recommend(space, recommend).await?,
            Question::Match(words) => Plan::Match(words),
            Question::Fusion(method, prefetch) => {
                let mut parts = Vec::with_capacity(prefetch.len());
                for one in prefetch {
                    let plan = Box::pin(self.plan(space, one.question)).await?;
                    parts.push(Part {
                        field: one.field,
                        plan,
                        k: one.k,
                        filter: one.filter,
                        weight: one.weight,
                    });
                }
                Plan::Fusion(method, parts)
            }
        })
    }

    /// What an embedder made, if it is one of the space's vectors.
    pub(super) fn embedded(
        &self,
        space: &Space,
        made: Embedding,
    ) -> Result<OwnedVector, ServiceError> {
        let vector = match made {
            Embedding::Floats(values) => OwnedVector::Floats(values),
            Embedding::Bits(bits) => OwnedVector::Bits(bits),
        };
        vector.stored(&space.vectors, "embedder").map_err(|error| {
            let message = format!("its vectors do not fit space {}: {error}", space.name);
            ServiceError::precondition(message).reason("EMBEDDER_MISMATCH")
        })?;
        Ok(vector)
    }

    async fn vector_of(&self, space: &Arc<Space>, item: &str) -> Result<OwnedVector, ServiceError> {
        let found = self.store.points_of(space, &[item.to_owned()]).await?;
        let point = found.first().ok_or_else(|| no_point(space, item))?;
        Ok(OwnedVector::of_stored(&space.vectors, &point.vector))
    }

    /// The mean of the positive ones, moved away from the mean of the negative ones.
    async fn recommend(
        &self,
        space: &Arc<Space>,
        recommend: Recommend,
    ) -> Result<Plan, ServiceError> {
        let Recommend { positive_items, negative_items, positive_vectors, negative_vectors } =
            recommend;
        if space.vectors.element() == ann::Element::Bit {
            return Err(ServiceError::invalid("query.recommend", "is not offered for bits"));
        }
        if positive_items.is_empty() && positive_vectors.is_empty() {
            return Err(ServiceError::invalid("query.recommend", "names nothing to be near to"));
        }
        let all: Vec<String> = positive_items.iter().chain(&negative_items).cloned().collect();
        let found = match all.as_slice() {
            [] => Vec::new(),
            some => self.store.points_of(space, some).await?,
        };
        let found: HashMap<&str, &Point> =
            found.iter().map(|point| (point.item_id.as_str(), point)).collect();
        let mean =
            |items: &[String], vectors: Vec<OwnedVector>| mean_of(space, &found, items, vectors);
        let positive = mean(&positive_items, positive_vectors)?;
        let negative = mean(&negative_items, negative_vectors)?;
        let mut target = positive.unwrap_or_default();
        if let Some(negative) = negative {
            for (to, from) in target.iter_mut().zip(negative) {
                *to += *to - from;
            }
        }
        let vector = OwnedVector::reckoned(&space.vectors, target);
        vector.stored(&space.vectors, "query.recommend")?;
        Ok(Plan::Near(vector, all))
    }
}

fn no_point(space: &Space, item: &str) -> ServiceError {
    let shown: String = item.chars().take(100).collect();
    ServiceError::not_found("point", format!("{shown} in space {}", space.name))
}

fn mean_of(
    space: &Space,
    found: &HashMap<&str, &Point>,
    items: &[String],
    vectors: Vec<OwnedVector>,
) -> Result<Option<Vec<f32>>, ServiceError> {
    let mut all = vectors;
    for item in items {
        let point = found.get(item.as_str()).ok_or_else(|| no_point(space, item))?;
        all.push(OwnedVector::of_stored(&space.vectors, &point.vector));
    }
    if all.is_empty() {
        return Ok(None);
    }
    let mut sum = vec![0.0_f32; space.vectors.dimension() as usize];
    for vector in &all {
        vector.stored(&space.vectors, "query.recommend")?;
        if let OwnedVector::Floats(values) = vector {
            sum.iter_mut().zip(values).for_each(|(to, value)| *to += value);
        }
    }
    let count = all.len() as f32;
    Ok(Some(sum.into_iter().map(|value| value / count).collect()))
}
