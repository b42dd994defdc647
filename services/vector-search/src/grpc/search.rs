//! `quarry.vectors.v1.SearchService`.

use service_error::ServiceError;
use tonic::{Request, Response, Status};
use vector_wire::grpc::{
    consistency_from_wire, k_from_wire, payload_to_wire, question_from_wire, value_to_wire,
    vector_to_wire,
};
use vectors_api::v1 as wire;
use vectors_api::v1::search_service_server::SearchService;

use crate::app::App;
use crate::grpc::{answer, count};
use crate::model::{
    Address, Ask, Diversity, Explain, Found, Grouping, K_DEFAULT, SearchResult, Stop,
};

/// Values of a facet when the request names no number, and at most.
const FACETS_DEFAULT: usize = 20;
const FACETS_MAX: usize = 1_000;

/// The service over the use cases.
pub struct Searches(pub App);

#[tonic::async_trait]
impl SearchService for Searches {
    async fn search(
        &self,
        request: Request<wire::SearchRequest>,
    ) -> Result<Response<wire::SearchResponse>, Status> {
        let caller = caller::of(&request)?;
        let mut asked = request.into_inner();
        let found = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let query = asked.query.take();
            let ask = ask_from_wire(asked)?;
            let question = |space: &_| question_from_wire(space, "query", query);
            let (_, result) = self.0.search(&caller, &address, question, ask).await?;
            let (hits, explain) = result_to_wire(result);
            Ok::<_, ServiceError>(wire::SearchResponse { hits, explain })
        };
        answer(found.await)
    }

    async fn search_batch(
        &self,
        request: Request<wire::SearchBatchRequest>,
    ) -> Result<Response<wire::SearchBatchResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let ask = Ask {
                k: k_of(asked.k)?,
                filter: asked.filter,
                threshold: asked.threshold,
                distance_max: asked.distance_max,
                exact: asked.exact,
                ef: ef_of(asked.ef)?,
                consistency: consistency_from_wire(asked.consistency)?,
                with_payload: asked.with_payload,
                ..Ask::default()
            };
            let queries = asked.queries;
            let questions = |space: &_| {
                let one =
                    |(at, query)| question_from_wire(space, &format!("queries[{at}]"), Some(query));
                queries.into_iter().enumerate().map(one).collect()
            };
            let (_, results) = self.0.search_batch(&caller, &address, questions, ask).await?;
            let results = results.into_iter().map(|result| {
                let (hits, explain) = result_to_wire(result);
                wire::SearchResult { hits, explain }
            });
            Ok::<_, ServiceError>(wire::SearchBatchResponse { results: results.collect() })
        };
        answer(found.await)
    }

    async fn facet_points(
        &self,
        request: Request<wire::FacetPointsRequest>,
    ) -> Result<Response<wire::FacetPointsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let counted = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let limit = match usize::try_from(asked.limit) {
                Ok(0) => FACETS_DEFAULT,
                Ok(limit) if limit <= FACETS_MAX => limit,
                _ => {
                    let message = format!("{} is not within 1 and {FACETS_MAX}", asked.limit);
                    return Err(ServiceError::invalid("limit", message));
                }
            };
            let of = (asked.column.as_str(), asked.filter.as_str());
            let found = self.0.facets(&caller, &address, of, limit).await?;
            let facets = found.facets.counts.iter().map(|(value, n)| wire::Facet {
                value: Some(value_to_wire(value)),
                count: count(*n),
            });
            Ok::<_, ServiceError>(wire::FacetPointsResponse {
                facets: facets.collect(),
                cardinality: count(found.cardinality),
                distinct_values: count(found.facets.distinct),
            })
        };
        answer(counted.await)
    }
}

/// 0 is no number of hits: it must be left out for the default.
pub fn k_of(k: Option<i32>) -> Result<usize, ServiceError> {
    match k {
        None => Ok(K_DEFAULT),
        Some(0) => {
            Err(ServiceError::invalid("k", "0 is not within 1 and 10000").reason("K_OUT_OF_RANGE"))
        }
        Some(k) => k_from_wire("k", k, K_DEFAULT),
    }
}

fn ef_of(ef: i32) -> Result<Option<usize>, ServiceError> {
    let ef = usize::try_from(ef).map_err(|_| ServiceError::invalid("ef", "is negative"))?;
    Ok((ef > 0).then_some(ef))
}

fn ask_from_wire(asked: wire::SearchRequest) -> Result<Ask, ServiceError> {
    let k = k_of(asked.k)?;
    let at_least_one = |field: &str, n: i32, default: usize| match usize::try_from(n) {
        Ok(0) => Ok(default),
        Ok(n) => Ok(n),
        Err(_) => Err(ServiceError::invalid(field, "is negative")),
    };
    let diversity = asked.diversity.map(|diversity| {
        let candidates = at_least_one("diversity.candidates", diversity.candidates, k * 5)?;
        Ok::<_, ServiceError>(Diversity { lambda: diversity.lambda, candidates: candidates.max(k) })
    });
    let grouping = asked.grouping.map(|grouping| {
        let size = at_least_one("grouping.size", grouping.size, 1)?;
        Ok::<_, ServiceError>(Grouping { column: grouping.column, size })
    });
    Ok(Ask {
        k,
        filter: asked.filter,
        threshold: asked.threshold,
        distance_max: asked.distance_max,
        exact: asked.exact,
        ef: ef_of(asked.ef)?,
        consistency: consistency_from_wire(asked.consistency)?,
        with_payload: asked.with_payload,
        with_vector: asked.with_vector,
        diversity: diversity.transpose()?,
        grouping: grouping.transpose()?,
        stop: Stop::default(),
    })
}

fn result_to_wire(result: SearchResult) -> (Vec<wire::Hit>, Option<wire::Explain>) {
    (result.found.into_iter().map(hit_to_wire).collect(), Some(explain_to_wire(result.explain)))
}

fn hit_to_wire(hit: Found) -> wire::Hit {
    wire::Hit {
        item_id: hit.item_id,
        distance: hit.distance.map(f64::from),
        score: hit.score,
        payload: payload_to_wire(&hit.payload),
        vector: hit.vector.map(vector_to_wire),
        group: hit.group.as_ref().map(value_to_wire),
    }
}

fn explain_to_wire(explain: Explain) -> wire::Explain {
    wire::Explain {
        strategy: explain.strategy,
        cardinality: count(explain.cardinality),
        scanned: count(explain.scanned),
        exact: explain.exact,
        token: explain.token,
        short: explain.short,
    }
}
