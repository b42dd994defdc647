//! The log of generations: images, retrieved examples as rows, exact counts.

use super::*;

fn log(prompt: &str) -> api::Generation {
    api::Generation { prompt: prompt.into(), ..Default::default() }
}

async fn logged(
    house: &House,
    generation: api::Generation,
) -> Result<api::Generation, ServiceError> {
    let request =
        api::LogGenerationRequest { namespace: "ns".into(), generation: Some(generation) };
    let mut client = GenerationsServiceClient::new(house.transport.clone());
    let answer = client.log_generation(house.own(request)).await?;
    Ok(answer.into_inner().generation.unwrap())
}

#[tokio::test]
async fn a_generation_is_logged_in_full_and_counted_exactly() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let mut client = GenerationsServiceClient::new(house.transport.clone());
        let example = |item: &str, score| api::RetrievedExample {
            space: "ns/s".into(),
            item_id: item.into(),
            score,
            text: format!("about {item}"),
        };
        let full = api::Generation {
            prompt: "a cat sitting on a chair".into(),
            augmented_prompt: "with examples".into(),
            output_path: "output/cat.png".into(),
            seed: Some(-7),
            num_inference_steps: Some(30),
            guidance_scale: Some(7.5),
            generation_time_ms: Some(2_500),
            memory_usage_mb: Some(512.5),
            model_config: HashMap::from([("scheduler".to_owned(), text("ddim"))]),
            retrieved_examples: vec![example("b", 0.9), example("a", 0.8)],
            ..Default::default()
        };
        let made = logged(&house, full.clone()).await.unwrap();
        let get = api::GetGenerationRequest { namespace: "ns".into(), id: made.id.clone() };
        let got = client.get_generation(house.own(get)).await.unwrap().into_inner();
        let got = got.generation.unwrap();
        assert_eq!(got, made);
        assert_eq!(got.retrieved_examples, full.retrieved_examples, "in their order");
        assert_eq!((got.seed, got.guidance_scale), (Some(-7), Some(7.5)));
        assert_eq!(got.status(), api::GenerationStatus::Completed);
        let failed = api::Generation { error_message: "out of memory".into(), ..log("x") };
        let failed = logged(&house, failed).await.unwrap();
        assert_eq!(failed.status(), api::GenerationStatus::Failed);
        for n in 0..10 {
            logged(&house, log(&format!("prompt {n}"))).await.unwrap();
        }
        refused(logged(&house, log("")).await, Code::InvalidArgument);
        let image = api::Image {
            image_path: "data/images/cat.jpg".into(),
            description: "A cute cat sitting on a chair".into(),
            tags: vec!["cat".into(), "chair".into()],
            width: 800,
            height: 600,
            file_size_bytes: 5 << 32,
            ..Default::default()
        };
        let add = api::AddImageRequest { namespace: "ns".into(), image: Some(image.clone()) };
        let added = client.add_image(house.own(add.clone())).await.unwrap().into_inner();
        let twice = client.add_image(house.own(add)).await;
        refused(twice.map_err(ServiceError::from), Code::AlreadyExists);
        let list = api::ListImagesRequest { namespace: "ns".into(), ..Default::default() };
        let listed = client.list_images(house.own(list)).await.unwrap().into_inner();
        assert_eq!(listed.images, [added.image.unwrap()]);
        for expected in [1, 2] {
            let touch = api::TouchModelRequest {
                namespace: "ns".into(),
                model_type: "clip".into(),
                model_name: "ViT-B-32".into(),
                size_bytes: 7,
                ..Default::default()
            };
            let touched = client.touch_model(house.own(touch)).await.unwrap().into_inner();
            assert_eq!(touched.access_count, expected);
        }
        house.create("s", 2, api::Metric::L2).await.unwrap();
        house.upsert("s", vec![point("a", &[1.0, 0.0], &[])]).await.unwrap();
        let count = api::GetRagStatisticsRequest { namespace: "ns".into(), ..Default::default() };
        let counted = client.get_rag_statistics(house.own(count)).await.unwrap().into_inner();
        let expected = api::GetRagStatisticsResponse {
            total_images: 1,
            total_embeddings: 1,
            total_generations: 12,
            recent_generations: 12,
            failed_generations: 1,
            avg_generation_time_ms: Some(2_500.0),
            cached_models: 1,
        };
        assert_eq!(counted, expected);
        let mut seen = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = api::ListGenerationsRequest {
                namespace: "ns".into(),
                page_size: 5,
                page_token,
                ..Default::default()
            };
            let page = client.list_generations(house.own(request)).await.unwrap().into_inner();
            seen.extend(page.generations.into_iter().map(|generation| generation.prompt));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!((seen.len(), seen[0].as_str()), (12, "prompt 9"));
        assert_eq!(seen[11], "a cat sitting on a chair");
    })
    .await;
}

#[tokio::test]
async fn a_context_is_assembled_of_what_is_near() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::Cosine).await.unwrap();
        let points = vec![
            point("cat", &[1.0, 0.1], &[("words", text("a cat {prompt}"))]),
            point("dog", &[0.1, 1.0], &[("words", text("a dog"))]),
        ];
        house.upsert("s", points).await.unwrap();
        let request = api::AssembleContextRequest {
            namespace: "ns".into(),
            space: "s".into(),
            prompt: "draw".into(),
            query: near("s", &[1.0, 0.0], 1).query,
            threshold: Some(0.5),
            text_column: "words".into(),
            template: "{examples}=> {prompt}".into(),
            ..Default::default()
        };
        let mut client = GenerationsServiceClient::new(house.transport.clone());
        let made = client.assemble_context(house.own(request)).await.unwrap().into_inner();
        assert_eq!(made.augmented_prompt, "- a cat {prompt}\n=> draw");
        assert_eq!(
            (made.retrieved_examples.len(), made.retrieved_examples[0].item_id.as_str()),
            (1, "cat")
        );
    })
    .await;
}
