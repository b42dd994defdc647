"""Vector search as its users reach it: JSON with requests, gRPC with reflection alone."""

import http.server as http_server
import json
import subprocess
import threading

import grpc
import pytest
import quarry_server
import requests
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


@pytest.fixture
def http(ground):
    session = requests.Session()
    session.headers["authorization"] = f"Bearer {ground.token}"

    def call(method, path, status=200, **body):
        answer = session.request(method, ground.url + path, json=body or None, timeout=20)
        assert answer.status_code == status, answer.text
        return answer.json()

    return call


def space_of(http, namespace, dimension=3):
    http("POST", "/v1/namespaces", name=namespace)
    made = http("POST", f"/v1/namespaces/{namespace}/spaces", space="s", dimension=dimension)
    assert made["space"]["metric"] == "METRIC_COSINE"
    return f"/v1/namespaces/{namespace}/spaces/s"


def text(value):
    return {"string_value": value}


def test_similar_ones_by_json(http, namespace):
    """The seed's `search_similar`: k, a threshold that means cosine similarity, filters."""
    path = space_of(http, namespace)
    rows = [
        ("cat.jpg", [0.9, 0.1, 0.0], "A cute cat sitting on a chair", ["cat", "chair"]),
        ("kitten.jpg", [0.8, 0.3, 0.1], "A kitten playing", ["cat"]),
        ("car.jpg", [0.0, 0.1, 0.9], "A red car", ["car"]),
    ]
    points = [
        {
            "item_id": item,
            "vector": {"values": values},
            "payload": {
                "description": text(words),
                "tags": {"list_value": {"values": [text(tag) for tag in tags]}},
                "width": {"int_value": 800},
            },
        }
        for item, values, words, tags in rows
    ]
    written = http("POST", f"{path}/points", points=points)
    assert written["inserted"] == "3"
    query = {"vector": {"values": [1.0, 0.0, 0.0]}}
    near = http("POST", f"{path}:search", query=query, k=5, threshold=0.5, with_payload=True)
    assert [hit["item_id"] for hit in near["hits"]] == ["cat.jpg", "kitten.jpg"]
    for hit in near["hits"]:
        assert hit["score"] == pytest.approx(1 - hit["distance"])
        assert hit["payload"]["width"] == {"int_value": "800"}
    filtered = http("POST", f"{path}:search", query=query, filter='tags:"chair" AND width >= 800')
    assert [hit["item_id"] for hit in filtered["hits"]] == ["cat.jpg"]
    assert filtered["explain"]["cardinality"] == "1"
    words = {"match": {"column": "description", "text": "playing"}}
    assert http("POST", f"{path}:search", query=words)["hits"][0]["item_id"] == "kitten.jpg"
    both = {
        "fusion": {
            "method": "FUSION_METHOD_RRF",
            "prefetch": [{"query": query}, {"query": words, "filter": "width > 1"}],
        }
    }
    assert http("POST", f"{path}:search", query=both)["hits"][0]["item_id"] == "kitten.jpg"
    facets = http("GET", f"{path}/facets/tags")
    assert facets["facets"][0] == {"value": text("cat"), "count": "2"}
    gone = http("POST", f"{path}/points:delete", item_ids=["cat.jpg"])
    after = http("POST", f"{path}:search", query=query, consistency={"at_least": gone["token"]})
    assert "cat.jpg" not in [hit["item_id"] for hit in after["hits"]]
    assert http("GET", f"{path}/points:count")["count"] == "2"


def test_bad_input_by_json(http, namespace):
    path = space_of(http, namespace)
    for query, k, field in [
        ({"vector": {"values": [1.0]}}, 5, "query.vector"),
        ({"vector": {"values": [0.0, 0.0, 0.0]}}, 5, "query.vector"),
        ({"vector": {"values": ["NaN", 0.0, 0.0]}}, 5, "query.vector"),
        ({"vector": {"values": [1.0, 0.0, 0.0]}}, 0, "k"),
        ({"vector": {"values": [1.0, 0.0, 0.0]}}, 10_001, "k"),
    ]:
        error = http("POST", f"{path}:search", 400, query=query, k=k)["error"]
        assert error["message"].startswith(field), error


def test_similar_ones_by_grpc(ground, http, namespace):
    space_of(http, namespace)
    with grpc.insecure_channel(ground.address) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

        def call(service, method, **fields):
            found = pool.FindServiceByName(f"quarry.vectors.v1.{service}").FindMethodByName(method)
            request = message_factory.GetMessageClass(found.input_type)(
                namespace=namespace, space="s", **fields
            )
            answer = message_factory.GetMessageClass(found.output_type)
            unary = channel.unary_unary(
                f"/quarry.vectors.v1.{service}/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            metadata = [("authorization", f"Bearer {ground.token}")]
            return unary(request, metadata=metadata, timeout=20)

        points = [
            {"item_id": f"i{n}", "vector": {"values": [1.0, n / 10, 0.0]}} for n in range(20)
        ]
        written = call("PointsService", "UpsertPoints", points=points)
        query = {"vector": {"values": [1.0, 0.5, 0.0]}}
        near = call("SearchService", "Search", query=query, k=3)
        assert near.hits[0].item_id == "i5" and near.explain.cardinality == 20
        many = call("SearchService", "SearchBatch", queries=[query] * 4, k=3)
        assert all(result.hits[0].item_id == "i5" for result in many.results)
        strict = call(
            "SearchService", "Search", query=query, k=1, consistency={"at_least": written.token}
        )
        assert strict.explain.token >= written.token
        with pytest.raises(grpc.RpcError) as refused:
            call("SearchService", "Search", query=query, k=20_000)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


class Embeddings(http_server.BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that is busy, then broken, then answers: a word an axis."""

    WORDS = ["cat", "playing", "chair", "mountain", "landscape", "car"]
    FAILURES = [429, 500]

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.failures:
            self.send_response(self.server.failures.pop(0))
            self.send_header("retry-after", "0")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.server.calls += 1
        rows = [[0.1 + (word in text.lower()) for word in self.WORDS] for text in body["input"]]
        data = [{"index": at, "embedding": row} for at, row in enumerate(rows)]
        answer = json.dumps({"data": data, "model": body["model"]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def embedding_server():
    """A platform whose embedder is that endpoint."""
    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), Embeddings) as endpoint:
        endpoint.failures, endpoint.calls = list(Embeddings.FAILURES), 0
        threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        settings = {
            "QUARRY_VECTORS__EMBEDDERS__WORDS__KIND": "openai",
            "QUARRY_VECTORS__EMBEDDERS__WORDS__URL": f"http://127.0.0.1:{endpoint.server_port}/v1",
            "QUARRY_VECTORS__EMBEDDERS__WORDS__MODEL": "words",
            "QUARRY_VECTORS__EMBEDDERS__WORDS__DIMENSION": "6",
        }
        with quarry_server.Server(variables=settings) as server:
            server.endpoint = endpoint
            yield server
        endpoint.shutdown()


def test_usage_examples(embedding_server, namespace, tmp_path):
    """Add an image, search by text with filters and threshold, log a generation, statistics."""
    server = embedding_server
    session = requests.Session()
    session.headers["authorization"] = f"Bearer {server.token}"

    def call(method, path, status=200, **body):
        answer = session.request(method, server.url + path, json=body or None, timeout=60)
        assert answer.status_code == status, answer.text
        return answer.json()

    call("POST", "/v1/namespaces", name=namespace)
    images = f"/v1/namespaces/{namespace}/images"
    image = call("POST", images, image={
        "image_path": "data/images/cat.jpg",
        "description": "A cute cat sitting on a chair",
        "tags": ["cat", "chair", "cute"],
        "width": 800,
        "height": 600,
    })["image"]
    assert call("GET", f"{images}/{image['id']}")["image"] == image
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "id,description,embedding_type\n"
        f"{image['id']},A cute cat sitting on a chair,text\n"
        "2,A cat playing,text\n3,A mountain landscape,text\n4,A red car,image\n"
    )

    def quarry(*args):
        command = [server.executable, *args, "-o", "json", "--server", server.url]
        ran = subprocess.run(
            command, env=quarry_server.environment({"QUARRY_TOKEN": server.token}),
            capture_output=True, text=True, timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    quarry("import", str(rows), f"{namespace}/images")
    embedded = quarry("vectors", "embed", f"{namespace}/images", "--column", "description",
                      "--space", "text")
    assert embedded["job"]["state"] == "JOB_STATE_COMPLETED", embedded
    assert embedded["job"]["result"]["rows"] == 4
    assert not server.endpoint.failures, "429 and 500 were asked again"
    path = f"/v1/namespaces/{namespace}/datasets/images/spaces/text"
    near = call("POST", f"{path}:search", query={"text": "a cat playing"}, k=5, threshold=0.5,
                with_payload=True)
    assert near["hits"][0]["item_id"] == "2" and image["id"] in [h["item_id"] for h in near["hits"]]
    assert all(hit["score"] >= 0.5 for hit in near["hits"])
    assert "4" not in [hit["item_id"] for hit in near["hits"]]
    filtered = call("POST", f"{path}:search", query={"text": "mountain landscape"}, k=10,
                    filter='embedding_type = "text"')
    assert filtered["hits"][0]["item_id"] == "3" and len(filtered["hits"]) == 3
    log = f"/v1/namespaces/{namespace}/generations"
    context = call("POST", f"{path}:assemble", prompt="a cat sitting on a chair", k=2,
                   text_column="description")
    assert "A cute cat sitting on a chair" in context["augmented_prompt"]
    generation = call("POST", log, generation={
        "prompt": "a cat sitting on a chair",
        "augmented_prompt": context["augmented_prompt"],
        "output_path": "output/generated_cat.png",
        "generation_time_ms": 2500,
        "memory_usage_mb": 512.5,
        "retrieved_examples": context["retrieved_examples"],
    })["generation"]
    got = call("GET", f"{log}/{generation['id']}")["generation"]
    assert got == generation and len(got["retrieved_examples"]) == 2
    stats = call("GET", f"/v1/namespaces/{namespace}/ragStatistics")
    assert (stats["total_images"], stats["total_embeddings"]) == ("1", "4")
    assert (stats["total_generations"], stats["recent_generations"]) == ("1", "1")
    assert stats["avg_generation_time_ms"] == 2500.0
