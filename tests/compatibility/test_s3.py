"""Blocks and media in a bucket, over the S3 protocol, instead of local files."""

import http.client
import logging

import bucket_log
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import quarry_server
import requests
from moto.server import ThreadedMotoServer

ROWS = 300_000


@pytest.fixture
def asked():
    requests = bucket_log.Requests().hear()
    yield requests
    requests.leave()


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket and the variables that lead to it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    connection = http.client.HTTPConnection(host, port)
    connection.request("PUT", "/quarry")
    assert connection.getresponse().status == 200
    yield {
        "QUARRY_OBJECT_STORE_URL": "s3://quarry/some/prefix",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture(scope="module")
def in_bucket(bucket):
    with quarry_server.Server(variables=bucket) as server:
        yield server


def test_a_table_and_its_filter_come_from_the_bucket(in_bucket, namespace):
    in_bucket.cli("namespaces", "create", namespace)
    headers = [(b"authorization", f"Bearer {in_bucket.token}".encode())]
    options = flight.FlightCallOptions(headers=headers)
    names = [f"value {number}" * 5 for number in range(ROWS)]
    table = pa.table({"id": list(range(ROWS)), "name": names})
    path = flight.FlightDescriptor.for_path(namespace, "rows")
    with flight.connect(in_bucket.flight) as client:
        writer, _ = client.do_put(path, table.schema, options)
        writer.write_table(table, 65_536)
        writer.close()
        info = client.get_flight_info(path, options)
        parts = [client.do_get(end.ticket, options).read_all() for end in info.endpoints]
    assert pa.concat_tables(parts).equals(table)
    counted = in_bucket.json("items", "count", f"{namespace}/rows", "--filter", "id < 100")
    assert counted == {"count": 100}
    assert not list(in_bucket.dir.glob("all/objects/**/*.parquet"))


def test_an_operation_asks_the_bucket_few_times(in_bucket, namespace, asked):
    in_bucket.cli("namespaces", "create", namespace)
    headers = [(b"authorization", f"Bearer {in_bucket.token}".encode())]
    options = flight.FlightCallOptions(headers=headers)
    table = pa.table({"id": list(range(ROWS)), "name": [f"name {at % 977}" for at in range(ROWS)]})
    with flight.connect(in_bucket.flight) as client:
        path = flight.FlightDescriptor.for_path(namespace, "rows")
        writer, _ = client.do_put(path, table.schema, options)
        writer.write_table(table, 65_536)
        writer.close()

    def explained(*words):
        begin = len(asked.gets("quarry"))
        answer = in_bucket.json("items", "explain", f"{namespace}/rows", *words)
        said = int(answer.get("requests", 0))
        assert said == len(asked.gets("quarry")) - begin, "what is said is what the bucket was asked"
        return said, int(answer["row_count"])

    # Of one block: its footer with the page indexes, the group's bloom filter, the one page that
    # the filter leaves, the other columns of the row.
    requests, rows = explained("--filter", "id = 123456")
    assert rows == 1 and 1 <= requests <= 4, requests
    assert explained("--filter", "id = 123456") == (0, 1), "what was read is in memory"
    requests, rows = explained("--filter", "id < 1000", "--operation", "count")
    assert rows == 1_000 and requests <= 1, requests
    # The column of each of three groups.
    requests, rows = explained("--filter", "name = 'name 5'", "--operation", "count")
    assert rows == len(range(5, ROWS, 977)) and 1 <= requests <= 3, requests
    # A count of all and a range that no block has are the manifest's.
    assert explained("--operation", "count") == (0, ROWS)
    assert explained("--filter", "id < 0", "--operation", "count") == (0, 0)


def test_a_file_comes_back_from_the_bucket(in_bucket, namespace, tmp_path):
    # The smallest image there is: 1 × 1, grey.
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
        "3a7e9b550000000a49444154789c636800000082008177cd72b6000000"
        "0049454e44ae426082"
    )
    (tmp_path / "dot.png").write_bytes(pixel)
    in_bucket.cli("namespaces", "create", namespace)
    in_bucket.cli("import", tmp_path, f"{namespace}/dots")
    [item] = in_bucket.json("items", "list", f"{namespace}/dots")["items"]
    datasets = f"{in_bucket.url}/v1/namespaces/{namespace}/datasets"
    bearer = {"authorization": f"Bearer {in_bucket.token}"}
    answer = requests.get(
        f"{datasets}/dots/media/{item['content_hash']}", headers=bearer, timeout=30,
    )
    assert answer.status_code == 200 and answer.content == pixel


def test_a_bucket_that_is_not_there_is_named(bucket):
    absent = bucket | {"QUARRY_OBJECT_STORE_URL": "s3://nobodys/prefix"}
    with pytest.raises(RuntimeError, match="nobodys"):
        quarry_server.Server(variables=absent)


def test_a_model_is_signed_by_the_bucket_itself(in_bucket, namespace, tmp_path):
    # Larger than what is kept in rows.
    (tmp_path / "model.bin").write_bytes(bytes(range(256)) * 400)
    in_bucket.cli("namespaces", "create", namespace)
    in_bucket.cli("models", "register", f"{namespace}/m", tmp_path / "model.bin")
    signed = in_bucket.json("models", "sign", f"{namespace}/m", "--seconds", "60")["files"]
    assert [file["path"] for file in signed] == ["model.bin"] and signed[0]["direct"], signed
    url = signed[0]["url"]
    assert "X-Amz-Signature" in url and not url.startswith(in_bucket.url), url
    assert requests.get(url, timeout=30).content == (tmp_path / "model.bin").read_bytes()
    part = requests.get(url, headers={"range": "bytes=254-257"}, timeout=30)
    assert (part.status_code, part.content) == (206, bytes([254, 255, 0, 1]))


def test_a_model_is_signed_by_the_door_where_the_bucket_is_out_of_reach(bucket, namespace, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    with quarry_server.Server(variables={**bucket, "QUARRY_MODELS__DIRECT_DOWNLOADS": "false"}) as server:
        server.cli("namespaces", "create", namespace)
        server.cli("models", "register", f"{namespace}/m", tmp_path / "model.bin")
        [file] = server.json("models", "sign", f"{namespace}/m")["files"]
        assert not file["direct"] and file["url"].startswith(server.url), file
        assert requests.get(file["url"], timeout=30).content == b"weights"
