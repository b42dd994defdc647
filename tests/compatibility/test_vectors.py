"""Vector search as its users reach it: JSON with requests, gRPC with reflection alone."""

import grpc
import pytest
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
