"""The usage examples of an image RAG, word for word by two clients: stubs that grpcio makes of
what the server says of itself, and JSON over HTTP. Texts are embedded by all-MiniLM-L6-v2 from a
directory, images by the built-in perceptual hash."""

import base64
import io
import os
import struct
import uuid
import zlib

import grpc
import pytest
import quarry_server
import requests
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

NAMESPACE = "/v1/namespaces/{namespace}"
SPACE = NAMESPACE + "/spaces/{space}"
# Where each method is over HTTP.
METHODS = {
    "SpacesService/CreateSpace": ("POST", NAMESPACE + "/spaces"),
    "ImagesService/AddImage": ("POST", NAMESPACE + "/images"),
    "ImagesService/GetImage": ("GET", NAMESPACE + "/images/{id}"),
    "PointsService/GetPoints": ("POST", SPACE + "/points:get"),
    "PointsService/UpsertPoints": ("POST", SPACE + "/points"),
    "SearchService/Search": ("POST", SPACE + ":search"),
    "GenerationsService/AssembleContext": ("POST", SPACE + ":assemble"),
    "GenerationsService/LogGeneration": ("POST", NAMESPACE + "/generations"),
    "GenerationsService/GetGeneration": ("GET", NAMESPACE + "/generations/{id}"),
    "GenerationsService/TouchModel": ("POST", NAMESPACE + "/cachedModels:touch"),
    "GenerationsService/GetRagStatistics": ("GET", NAMESPACE + "/ragStatistics"),
}


class ByJson:
    """A client that knows JSON and HTTP."""

    def __init__(self, server):
        self.server = server
        self.session = requests.Session()
        self.session.headers["authorization"] = f"Bearer {server.token}"

    def call(self, method, **fields):
        verb, path = METHODS[method]
        url = self.server.url + path.format(**fields)
        body = {name: value for name, value in fields.items() if "{%s}" % name not in path}
        answer = self.session.request(verb, url, json=body or None, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def close(self):
        self.session.close()


class ByGrpc:
    """A client that knows grpcio and asks the server for everything else."""

    def __init__(self, server):
        self.server = server
        self.channel = grpc.insecure_channel(server.address)
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def call(self, method, **fields):
        service, name = method.split("/")
        found = self.pool.FindServiceByName(f"quarry.vectors.v1.{service}").FindMethodByName(name)
        request = json_format.ParseDict(fields, message_factory.GetMessageClass(found.input_type)())
        stub = self.channel.unary_unary(
            f"/quarry.vectors.v1.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(found.output_type).FromString,
        )
        metadata = [("authorization", f"Bearer {self.server.token}")]
        answer = stub(request, metadata=metadata, timeout=60)
        return json_format.MessageToDict(answer, preserving_proto_field_name=True)

    def close(self):
        self.channel.close()


@pytest.fixture(scope="module")
def embedding_server():
    """A platform with a local BERT and an embedder of images."""
    model = os.environ.get("QUARRY_TEST_MINILM")
    if not model:
        pytest.fail("QUARRY_TEST_MINILM names no model; run by `cargo xtask test --only clients`")
    settings = {
        "QUARRY_VECTORS__EMBEDDERS__MINILM__KIND": "local",
        "QUARRY_VECTORS__EMBEDDERS__MINILM__PATH": model,
        "QUARRY_VECTORS__EMBEDDERS__COPIES__KIND": "perceptual_hash",
    }
    with quarry_server.Server(variables=settings) as server:
        yield server


@pytest.fixture(params=[ByJson, ByGrpc])
def client(request, embedding_server):
    one = request.param(embedding_server)
    namespace = f"rag-{uuid.uuid4().hex}"
    embedding_server.cli("namespaces", "create", namespace)
    call = one.call
    one.call = lambda method, **fields: call(method, namespace=namespace, **fields)
    yield one
    one.close()


def png(width, height, shade):
    """A picture of one channel, made by hand: `shade` says how light each pixel is."""
    rows = b"".join(
        b"\0" + bytes(shade(x / width, y / height) for x in range(width)) for y in range(height)
    )

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    out = io.BytesIO(b"")
    out.write(b"\x89PNG\r\n\x1a\n")
    out.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)))
    out.write(chunk(b"IDAT", zlib.compress(rows)))
    out.write(chunk(b"IEND", b""))
    return base64.b64encode(out.getvalue()).decode()


CAT = lambda x, y: 220 if (x - 0.3) ** 2 + (y - 0.3) ** 2 < 0.06 else 40  # noqa: E731
SEA = lambda x, y: int(30 + 200 * y) if x < 0.7 else 10  # noqa: E731


def spaces(client):
    made = client.call("SpacesService/CreateSpace", space="text", dimension=384, embedder="minilm")
    assert made["space"]["metric"] == "METRIC_COSINE"
    client.call("SpacesService/CreateSpace", space="copies", dimension=64,
                metric="METRIC_HAMMING", embedder="copies")


def add(client, name, description, tags, shade):
    """`add_image_with_embeddings`."""
    image = {"image_path": f"data/images/{name}", "description": description, "tags": tags}
    content = png(80, 60, shade)
    added = client.call("ImagesService/AddImage", image=image, content=content,
                        spaces=["text", "copies"])
    assert [point["embedding_type"] for point in added["points"]] == ["text", "image"]
    assert (added["image"]["width"], added["image"]["height"]) == ("80", "60")
    return added["image"]


def test_usage_examples(client):
    spaces(client)
    cat = add(client, "cat.jpg", "A cute cat sitting on a chair", ["cat", "chair", "cute"], CAT)
    add(client, "kitten.jpg", "A kitten playing with a ball", ["cat"], lambda x, y: int(255 * x * y))
    sea = add(client, "sea.jpg", "A mountain landscape by the sea", ["outdoor"], SEA)
    assert client.call("ImagesService/GetImage", id=cat["id"])["image"] == cat

    # search_similar(query="a cat playing", k=5, similarity_threshold=0.5)
    near = client.call("SearchService/Search", space="text", query={"text": "a cat playing"}, k=5,
                       threshold=0.5, with_payload=True)
    hits = near["hits"]
    assert {hit["payload"]["image_path"]["string_value"] for hit in hits} == {
        "data/images/cat.jpg", "data/images/kitten.jpg"}
    assert all(hit["score"] >= 0.5 for hit in hits)
    assert hits == sorted(hits, key=lambda hit: -hit["score"])
    # search_similar("outdoor scene", embedding_type="text", k=10) and more of a filter.
    outdoor = client.call("SearchService/Search", space="text", query={"text": "outdoor scene"}, k=10,
                          filter='embedding_type = "text"')
    assert outdoor["hits"][0]["item_id"] == sea["id"] and len(outdoor["hits"]) == 3
    tagged = client.call("SearchService/Search", space="text", query={"text": "outdoor scene"}, k=10,
                         filter='tags:"chair" AND width >= 80')
    assert [hit["item_id"] for hit in tagged["hits"]] == [cat["id"]]
    # An image like it, larger.
    like = client.call("SearchService/Search", space="copies", k=1,
                       query={"image": png(160, 120, SEA)})
    assert like["hits"][0]["item_id"] == sea["id"]
    assert like["hits"][0]["score"] > 0.9


def test_embeddings_of_ones_own(client):
    """`add_embedding`: a vector that the caller made, and what made it."""
    spaces(client)
    cat = add(client, "cat.jpg", "A cute cat sitting on a chair", ["cat"], CAT)
    points = client.call("PointsService/GetPoints", space="text", item_ids=[cat["id"]],
                         with_vector=True)["points"]
    assert len(points[0]["vector"]["values"]) == 384
    payload = {"model_name": {"string_value": "all-MiniLM-L6-v2"}}
    point = {"item_id": "mine", "vector": points[0]["vector"], "payload": payload}
    written = client.call("PointsService/UpsertPoints", space="text", points=[point], embedder="minilm")
    found = client.call("SearchService/Search", space="text", query={"item_id": "mine"}, k=1,
                        consistency={"at_least": written["token"]})
    assert found["hits"][0]["item_id"] == cat["id"]
    assert found["hits"][0]["score"] == pytest.approx(1.0, abs=1e-5)


def test_generations_and_statistics(client):
    """`add_generation`, `get_database_stats`, and what is put into a prompt."""
    spaces(client)
    for name, words in [("cat.jpg", "A cute cat sitting on a chair"), ("car.jpg", "A red car")]:
        add(client, name, words, ["x"], CAT)
    context = client.call("GenerationsService/AssembleContext", space="text",
                          prompt="a cat sitting on a chair", k=1, text_column="description")
    assert "A cute cat sitting on a chair" in context["augmented_prompt"]
    logged = client.call("GenerationsService/LogGeneration", generation={
        "prompt": "a cat sitting on a chair",
        "augmented_prompt": context["augmented_prompt"],
        "output_path": "output/generated_cat.png",
        "seed": "42",
        "num_inference_steps": 30,
        "guidance_scale": 7.5,
        "generation_time_ms": "2500",
        "memory_usage_mb": 512.5,
        "model_config": {"scheduler": {"string_value": "ddim"}},
        "retrieved_examples": context["retrieved_examples"],
    })["generation"]
    assert logged["status"] == "GENERATION_STATUS_COMPLETED"
    got = client.call("GenerationsService/GetGeneration", id=logged["id"])["generation"]
    assert got == logged and len(got["retrieved_examples"]) == 1
    for uses in ("1", "2"):
        model = client.call("GenerationsService/TouchModel", model_type="sentence_transformer",
                            model_name="all-MiniLM-L6-v2", size_bytes="90868376")["model"]
        assert model["access_count"] == uses
    stats = client.call("GenerationsService/GetRagStatistics")
    assert (stats["total_images"], stats["total_embeddings"]) == ("2", "4")
    assert (stats["total_generations"], stats["recent_generations"]) == ("1", "1")
    assert stats["avg_generation_time_ms"] == 2500.0 and stats["cached_models"] == "1"
