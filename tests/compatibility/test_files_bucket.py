"""A prefix of a bucket as a location, over the S3 protocol."""

import struct
import zlib

import boto3
import bucket_log
import pytest
import quarry_server
import requests
from moto.server import ThreadedMotoServer

FILES = {
    "photos/cat.png": b"\x89PNG\r\n\x1a\n" + bytes(2_000),
    "photos/copy.png": b"\x89PNG\r\n\x1a\n" + bytes(2_000),
    "photos/deep/er/notes.txt": b"notes",
    "photos/two words & more.txt": b"words",
    "large.bin": bytes(range(256)) * 40_000,
}


class Lake:
    """A bucket whose server can go away and come again."""

    def __init__(self):
        self.requests = bucket_log.Requests().hear()
        self.server = ThreadedMotoServer("127.0.0.1", port=0)
        self.server.start()
        self.host, self.port = self.server.get_host_and_port()
        self.endpoint = f"http://{self.host}:{self.port}"
        self.client = boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id="key", aws_secret_access_key="secret",
        )

    def fill(self, prefix):
        for key, content in FILES.items():
            self.client.put_object(Bucket="lake", Key=f"{prefix}/{key}", Body=content)

    def empty(self, prefix):
        listed = self.client.list_objects_v2(Bucket="lake", Prefix=f"{prefix}/").get("Contents", [])
        for found in listed:
            self.client.delete_object(Bucket="lake", Key=found["Key"])

    def away(self):
        self.server.stop()

    def back(self):
        self.server = ThreadedMotoServer("127.0.0.1", port=self.port)
        self.server.start()


@pytest.fixture(scope="module")
def lake():
    lake = Lake()
    lake.client.create_bucket(Bucket="lake")
    lake.client.create_bucket(Bucket="quarry")
    yield lake
    lake.server.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request, lake):
    """A platform whose own objects are in another bucket of the same store."""
    url = quarry_server.new_postgres_database() if request.param == "postgres" else None
    variables = {
        "QUARRY_OBJECT_STORE_URL": "s3://quarry/own",
        "AWS_ENDPOINT_URL": lake.endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    with quarry_server.Server(database_url=url, variables=variables) as server:
        yield server


@pytest.fixture
def prefix(server, lake, namespace):
    lake.fill(namespace)
    url = f"s3://lake/{namespace}"
    server.cli("files", "location", "add", url, "--mode", "content")
    yield namespace
    lake.empty(namespace)
    server.cli("files", "location", "remove", url)


def scan(server, url, *args):
    return server.json("files", "scan", url, "--wait", *args)["job"]


def paths(server, url, *args):
    answer = server.json("files", "search", "--path", url, "--limit", "1000", *args)
    return {entry["path"]: entry for entry in answer["entries"]}


def test_objects_are_files_and_unchanged_ones_are_not_read(server, lake, prefix):
    url = f"s3://lake/{prefix}"
    result = scan(server, url)["result"]
    assert (result["hashed"], result["unreadable"]) == (len(FILES), 0)
    found = paths(server, url, "--kind", "file")
    assert {path: entry["size"] for path, entry in found.items()} == {
        f"{url}/{key}": len(content) for key, content in FILES.items()
    }
    assert found[f"{url}/photos/cat.png"]["content_kind"] == "image"
    groups = server.json("files", "duplicates", "--location", url, "--verify")["groups"]
    assert [(group["size"], group["entry_count"], group["verified"]) for group in groups] == [
        (len(FILES["photos/cat.png"]), 2, True)
    ]
    lake.requests.lines.clear()
    result = scan(server, url)["result"]
    assert result["hashed"] == 0 and result["unchanged_directories"] == 4
    assert lake.requests.gets("lake") == [] and lake.requests.lines, "listed and nothing else"
    # The same size; the store tells it by the ETag.
    lake.client.put_object(Bucket="lake", Key=f"{prefix}/photos/copy.png", Body=b"\x89PNG\r\n\x1a\n" + b"x" * 2_000)
    lake.client.delete_object(Bucket="lake", Key=f"{prefix}/photos/deep/er/notes.txt")
    lake.requests.lines.clear()
    result = scan(server, url)["result"]
    assert (result["changed"], result["hashed"]) == (1, 1), result
    assert len(lake.requests.gets("lake")) == 1
    now = paths(server, url, "--kind", "file")
    assert set(now) == {f"{url}/{key}" for key in FILES if "notes" not in key}
    assert now[f"{url}/photos/copy.png"]["content"] != found[f"{url}/photos/copy.png"]["content"]
    usage = server.json("files", "du", f"{url}/photos")["total"]
    assert usage["file_count"] == 3


def test_a_bucket_that_is_away_or_empty_loses_nothing(server, lake, prefix):
    url = f"s3://lake/{prefix}"
    scan(server, url)
    before = set(paths(server, url))
    lake.away()
    try:
        failed = server.cli("files", "scan", url, "--wait", check=False)
    finally:
        lake.back()
    assert failed.returncode != 0
    assert set(paths(server, url)) == before
    [location] = server.json("files", "location", "list")["locations"]
    assert "stays as it is" in location["problem"], location
    lake.empty(prefix)
    scan(server, url)
    assert set(paths(server, url)) == before
    [location] = server.json("files", "location", "list")["locations"]
    assert location["missing_count"] == len(before), location
    scan(server, url, "--accept-removals")
    assert not paths(server, url)


def test_a_directory_that_can_not_be_listed_keeps_what_it_had(server, lake, prefix):
    url = f"s3://lake/{prefix}"
    scan(server, url)
    # No path of a file system looks so.
    lake.client.put_object(Bucket="lake", Key=f"{prefix}/photos//odd", Body=b"odd")
    lake.client.delete_object(Bucket="lake", Key=f"{prefix}/photos/cat.png")
    lake.client.delete_object(Bucket="lake", Key=f"{prefix}/large.bin")
    job = scan(server, url)
    assert job["result"]["unreadable"] == 1
    found = paths(server, url)
    assert f"{url}/photos/cat.png" in found, "nothing is missing in what was not read to its end"
    assert f"{url}/large.bin" not in found
    # A directory's marker and an object with a directory's name.
    lake.client.delete_object(Bucket="lake", Key=f"{prefix}/photos//odd")
    lake.client.put_object(Bucket="lake", Key=f"{prefix}/photos/", Body=b"")
    lake.client.put_object(Bucket="lake", Key=f"{prefix}/photos", Body=b"an object")
    job = scan(server, url)
    assert job["result"]["unreadable"] == 0
    found = paths(server, url)
    assert f"{url}/photos/cat.png" not in found
    assert found[f"{url}/photos"]["kind"] == "ENTRY_KIND_DIRECTORY"
    bearer = {"authorization": f"Bearer {server.token}"}
    told = requests.get(f"{server.url}/v1/jobs/{job['name']}", headers=bearer, timeout=30).json()
    assert ["photos"] == [error["item"] for error in told["item_errors"]], told


def test_images_of_a_bucket_become_a_dataset(server, lake, prefix, namespace):
    url = f"s3://lake/{prefix}"
    lake.client.put_object(Bucket="lake", Key=f"{prefix}/set/a.png", Body=pixel(1))
    lake.client.put_object(Bucket="lake", Key=f"{prefix}/set/a.txt", Body=b"the first")
    lake.client.put_object(Bucket="lake", Key=f"{prefix}/set/b.png", Body=pixel(2))
    server.cli("namespaces", "create", namespace)
    job = server.json("files", "import", f"{url}/set", f"{namespace}/set", "--wait")["job"]
    assert job["result"]["added"] == 2, job
    items = server.json("items", "list", f"{namespace}/set")["items"]
    captions = {item["title"]: item["caption"] for item in items}
    assert captions["a"] == "the first"


def pixel(grey):
    """A picture of one pixel."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes([0, grey]))) + chunk(b"IEND", b"")
    )


def test_who_may_name_a_bucket(server, lake, namespace):
    def refused(*args, code, words):
        done = server.cli("files", "location", "add", *args, check=False)
        assert done.returncode == code and words in done.stderr, done

    refused("s3://quarry/own/items", code=4, words="own objects")
    refused("s3://nobodys/prefix", code=5, words="can't be listed")
    refused("s3://key:secret@lake/x", code=7, words="names no bucket")
    refused("s3://lake/../x", code=7, words="'..'")
    refused(f"s3://lake/{namespace}", "--device", "gpu-7", code=7, words="device")
    refused(f"s3://lake/{namespace}", "--archives", code=7, words="archives")
    # No prefix of a bucket is allowed to anybody but an admin on loopback.
    user = f"user-{namespace[3:15]}"
    server.cli("users", "create", user)
    token = server.json("tokens", "create", "--user", user)["secret"]
    done = server.cli("--token", token, "files", "location", "add", f"s3://lake/{namespace}", check=False)
    assert done.returncode == 4 and "paths.allowed" in done.stderr, done
