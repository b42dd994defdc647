"""How data is read: ADBC with pandas and Polars, DuckDB on what was exported, orders, streams that end early."""

import concurrent.futures
import json
import pathlib

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as dbapi
import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import requests
import tables
from test_s3 import bucket, in_bucket  # noqa: F401

AUTHORIZATION = adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value
ROWS = 20_000


def connect(server, **options):
    options = options or {AUTHORIZATION: f"Bearer {server.token}"}
    return dbapi.connect(server.flight, db_kwargs=options, autocommit=True)


def bearer(server):
    header = (b"authorization", f"Bearer {server.token}".encode())
    return flight.FlightCallOptions(headers=[header])


def resident_bytes(pid):
    """What a process holds in memory."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def pandas_and_polars(server, namespace):
    """Both put, append to and read a table, and find in it what DuckDB finds in the same rows."""
    server.cli("namespaces", "create", namespace)
    whole = tables.table(ROWS)
    name = f'quarry."{namespace}"'
    first, rest = whole.slice(0, 15_000), whole.slice(15_000)
    asked = "select height % 4 as part, count(*) as n, sum(width) as total from {} where width > 1000 group by 1 order by 1"
    expected = duckdb.sql(asked.format("whole")).fetchall()
    with connect(server) as connection:
        with connection.cursor() as cursor:
            cursor.adbc_ingest("items", first, mode="create", db_schema_name=namespace)
            # The same rows again have the keys that are there.
            with pytest.raises(Exception, match="ALREADY_EXISTS"):
                cursor.adbc_ingest("items", first.slice(0, 5), mode="append", db_schema_name=namespace)
            cursor.adbc_ingest("items", rest.to_pandas(), mode="append", db_schema_name=namespace)
        frame = pandas.read_sql(asked.format(f"{name}.items"), connection)
        assert [tuple(row) for row in frame.itertuples(index=False)] == expected
        frame = polars.read_database(asked.format(f"{name}.items"), connection)
        assert frame.rows() == expected
        numbers = polars.DataFrame({"id": [1, 2, 3], "word": ["a", None, "ü"]})
        where = f'{namespace}.numbers'
        assert numbers.write_database(where, connection, if_table_exists="fail") == 3
        more = polars.DataFrame({"id": [4], "word": ["d"]})
        more.write_database(where, connection, if_table_exists="append")
        read = polars.read_database(f"select id, word from {name}.numbers order by id", connection)
        assert read.rows() == [*numbers.rows(), *more.rows()]
    with connect(server, username="admin", password=server.token) as connection:
        read = pandas.read_sql(f"select count(*) as n from {name}.items", connection)
        assert read["n"].tolist() == [ROWS]


def test_pandas_and_polars_by_adbc(ground, namespace):
    pandas_and_polars(ground, namespace)


def test_pandas_and_polars_by_adbc_in_a_bucket(in_bucket, namespace):  # noqa: F811
    pandas_and_polars(in_bucket, namespace)


def exported_parquet(server, namespace, tmp_path):
    """DuckDB finds in the exported file what it finds in the rows that were put."""
    server.cli("namespaces", "create", namespace)
    table = tables.table(ROWS)
    with flight.connect(server.flight) as client:
        path = flight.FlightDescriptor.for_path(namespace, "items")
        writer, _ = client.do_put(path, table.schema, bearer(server))
        writer.write_table(table)
        writer.close()
    server.cli("items", "filters", "create", f"{namespace}/items", "wide", "width > 3000")
    out = tmp_path / "wide.parquet"
    server.cli(
        "export", f"{namespace}/items", out, "--filter", "saved:wide", "--order-by", "width desc",
    )
    read = duckdb.sql(f"select * from '{out}'").to_arrow_table()
    expected = table.filter(pa.compute.field("width") > 3000)
    expected = expected.sort_by([("width", "descending"), ("id", "ascending")])
    assert read.column("id").to_pylist() == expected.column("id").to_pylist()
    names = [name for name in table.column_names if name != "tags_json"]
    assert read.select(names).cast(expected.select(names).schema).equals(expected.select(names))


def test_duckdb_reads_exported_parquet(ground, namespace, tmp_path):
    exported_parquet(ground, namespace, tmp_path)


def test_duckdb_reads_parquet_exported_from_a_bucket(in_bucket, namespace, tmp_path):  # noqa: F811
    exported_parquet(in_bucket, namespace, tmp_path)


def test_an_order_and_a_limit_in_the_command(ground, namespace):
    ground.cli("namespaces", "create", namespace)
    table = tables.table(ROWS)
    client, options = flight.connect(ground.flight), bearer(ground)
    path = flight.FlightDescriptor.for_path(namespace, "items")
    writer, _ = client.do_put(path, table.schema, options)
    writer.write_table(table)
    writer.close()
    expected = table.sort_by([("height", "ascending"), ("width", "descending"), ("id", "ascending")])
    for limit in (None, 250, 12_345):
        wish = {"dataset": f"{namespace}/items", "order_by": "height, width desc"}
        wish |= {} if limit is None else {"limit": limit}
        info = client.get_flight_info(flight.FlightDescriptor.for_command(json.dumps(wish)), options)
        [endpoint] = info.endpoints
        read = client.do_get(endpoint.ticket, options).read_all()
        assert info.total_records == len(read)
        assert read.replace_schema_metadata().equals(expected.slice(0, limit))
    listed = list(client.list_flights(f"{namespace}/it".encode(), options))
    assert [info.descriptor.path for info in listed] == [[namespace.encode(), b"items"]]
    assert not list(client.list_flights(f"{namespace}/other".encode(), options))


@pytest.fixture(scope="module")
def large(server):
    """A namespace with 100,000 rows of 350 bytes."""
    namespace = "large-reads"
    server.cli("namespaces", "create", namespace)
    client, options = flight.connect(server.flight), bearer(server)
    path = flight.FlightDescriptor.for_path(namespace, "items")
    table = tables.table(100_000)
    writer, _ = client.do_put(path, table.schema, options)
    writer.write_table(table, 65_536)
    writer.close()
    return server, namespace


def test_a_result_that_nobody_reads_takes_no_memory(large):
    server, namespace = large
    sql = f'select a.id, a.description, b.title from quarry."{namespace}".items a, quarry."{namespace}".items b'
    with connect(server) as connection:
        # 10 billion rows of 400 bytes: what is made ahead of its client is bounded.
        with connection.cursor() as cursor:
            cursor.execute(sql)
            reader = cursor.fetch_record_batch()
            reader.read_next_batch()
            before = resident_bytes(server.pid())
            seen = 0
            while seen < 1_500_000:
                seen += len(reader.read_next_batch())
            assert resident_bytes(server.pid()) - before < 400 << 20


def test_queries_that_are_left_make_way(large):
    server, namespace = large
    # Of a join that makes batches all the time: an operator that computes on alone is only
    # stopped where it gives way.
    endless = f'select a.id, b.title from quarry."{namespace}".items a, quarry."{namespace}".items b'

    def leave(_):
        with connect(server) as connection, connection.cursor() as cursor:
            cursor.execute(endless)
            return len(cursor.fetch_record_batch().read_next_batch())

    # More than may run at once: those that were left hold no place.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(rows > 0 for rows in pool.map(leave, range(20)))
    with connect(server) as connection, connection.cursor() as cursor:
        cursor.execute(f'select count(*) from quarry."{namespace}".items')
        assert cursor.fetchone() == (100_000,)


def test_sessions_close_and_flights_are_cancelled(large):
    server, namespace = large
    client, options = flight.connect(server.flight), bearer(server)
    info = client.get_flight_info(flight.FlightDescriptor.for_path(namespace, "items"), options)
    reader = client.do_get(info.endpoints[0].ticket, options)
    reader.read_chunk()
    [answer] = client.do_action(flight.Action("CancelFlightInfo", b"\n\0"), options)
    assert answer.body.to_pybytes() == b"\x08\x01", "CANCEL_STATUS_CANCELLED"
    reader.cancel()
    [closed] = client.do_action(flight.Action("CloseSession", b""), options)
    assert closed.body.to_pybytes() == b"\x08\x01", "CLOSED"
    # No state was lost with it: the token is the credential.
    assert client.get_flight_info(info.descriptor, options).total_records == 100_000


def test_thumbnails_and_placeholders_over_http(ground, namespace):
    samples = pathlib.Path(__file__).parents[2] / "samples/shapes"
    ground.cli("namespaces", "create", namespace)
    ground.cli("import", samples, f"{namespace}/shapes")
    listed = ground.json("items", "list", f"{namespace}/shapes", "--limit", "5")["items"]
    headers = {"authorization": f"Bearer {ground.token}"}
    for item in listed:
        media = f"{ground.url}/v1/namespaces/{namespace}/datasets/shapes/media/{item['content_hash']}"
        info = requests.get(f"{media}/info", headers=headers, timeout=30).json()
        assert (info["width"], info["height"]) == (item["width"], item["height"]), info
        assert len(info["color"]) == 7 and info["color"].startswith("#")
        small = requests.get(f"{media}/thumbnail?size=64&format=webp", headers=headers, timeout=30)
        assert small.status_code == 200 and small.content[8:12] == b"WEBP"
        again = requests.get(f"{media}/thumbnail?size=64&format=webp", headers=headers, timeout=30)
        assert again.content == small.content
    assert requests.get(f"{media}/thumbnail?size=64", timeout=30).status_code == 401
