"""Unmodified pyarrow.flight: tables in and out, on every ground."""

import json

import pyarrow as pa
import pyarrow.flight as flight
import pytest
import tables

MILLION = 1_000_000


@pytest.fixture(scope="module")
def million():
    return tables.table(MILLION)


def connect(server):
    return flight.connect(server.flight)


def bearer(server):
    header = (b"authorization", f"Bearer {server.token}".encode())
    return flight.FlightCallOptions(headers=[header])


def put(client, options, path, table, **limits):
    descriptor = flight.FlightDescriptor.for_path(*path)
    writer, reader = client.do_put(descriptor, table.schema, options)
    with writer:
        writer.write_table(table, **limits)
        writer.done_writing()
        answer = reader.read()
    return json.loads(answer.to_pybytes()) if answer else None


def get(client, options, descriptor):
    info = client.get_flight_info(descriptor, options)
    parts = [client.do_get(endpoint.ticket, options).read_all() for endpoint in info.endpoints]
    return info, pa.concat_tables(parts)


def test_a_million_rows_by_path_come_back_equal(ground, namespace, million):
    ground.cli("namespaces", "create", namespace)
    client, options = connect(ground), bearer(ground)
    said = put(client, options, (namespace, "items"), million)
    assert int(said["version"]) == 1
    info, read = get(client, options, flight.FlightDescriptor.for_path(namespace, "items"))
    assert info.total_records == MILLION
    assert read.schema.remove_metadata().equals(million.schema)
    assert read.sort_by("id").equals(million)
    if ground.processes.get("all"):
        assert ground.json("items", "count", f"{namespace}/items")["count"] == MILLION


def test_basic_handshake(ground, namespace):
    client = connect(ground)
    ground.cli("namespaces", "create", namespace)
    name, value = client.authenticate_basic_token("admin", ground.token)
    assert name == b"authorization" and value.startswith(b"Bearer ")
    options = flight.FlightCallOptions(headers=[(name, value)])
    table = tables.table(1_000)
    put(client, options, (namespace, "items"), table)
    _, read = get(client, options, flight.FlightDescriptor.for_path(namespace, "items"))
    assert read.sort_by("id").equals(table)
    with pytest.raises(flight.FlightUnauthenticatedError):
        connect(ground).authenticate_basic_token("admin", "wrong")


def test_a_command_picks_columns_and_rows(server, namespace):
    server.cli("namespaces", "create", namespace)
    client, options = connect(server), bearer(server)
    table = tables.table(20_000)
    put(client, options, (namespace, "items"), table)
    wish = {"dataset": f"{namespace}/items", "columns": ["id", "width"], "filter": "width > 3000"}
    descriptor = flight.FlightDescriptor.for_command(json.dumps(wish))
    _, read = get(client, options, descriptor)
    expected = table.filter(pa.compute.field("width") > 3000).select(["id", "width"])
    assert read.sort_by("id").equals(expected)
    listed = list(client.list_flights(options=options))
    assert [namespace.encode(), b"items"] in [info.descriptor.path for info in listed]


def test_a_large_message_passes_and_a_larger_one_says_what_to_do(server, namespace):
    server.cli("namespaces", "create", namespace)
    client, options = connect(server), bearer(server)
    table = tables.table(330_000).combine_chunks()
    assert table.nbytes > 100 << 20
    put(client, options, (namespace, "large"), table, max_chunksize=len(table))
    with pytest.raises(pa.ArrowException) as refused:
        big = tables.table(900_000).combine_chunks()
        put(client, options, (namespace, "larger"), big, max_chunksize=len(big))
    assert "max_chunksize" in str(refused.value)
    _, read = get(client, options, flight.FlightDescriptor.for_path(namespace, "large"))
    assert len(read) == 330_000


def test_a_reader_that_leaves_leaves_the_server_well(server, namespace):
    server.cli("namespaces", "create", namespace)
    client, options = connect(server), bearer(server)
    put(client, options, (namespace, "items"), tables.table(200_000))
    for _ in range(20):
        info = client.get_flight_info(flight.FlightDescriptor.for_path(namespace, "items"), options)
        reader = client.do_get(info.endpoints[0].ticket, options)
        reader.read_chunk()
        reader.cancel()
    assert server.json("items", "count", f"{namespace}/items")["count"] == 200_000


def test_every_type_comes_back_as_it_was(server, namespace):
    server.cli("namespaces", "create", namespace)
    client, options = connect(server), bearer(server)
    import datetime
    import decimal

    table = pa.table({
        "id": pa.array([1, 2, 3], pa.int64()),
        "i8": pa.array([1, None, -3], pa.int8()),
        "u64": pa.array([1, None, 2**64 - 1], pa.uint64()),
        "f32": pa.array([1.5, None, float("inf")], pa.float32()),
        "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-9.99")], pa.decimal128(9, 2)),
        "large": pa.array(["a", None, "ü"], pa.large_string()),
        "bytes": pa.array([b"\0", None, b""], pa.binary()),
        "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
        "date": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1969, 1, 1)]),
        "ns": pa.array([1, None, 3], pa.timestamp("ns")),
        "ms_utc": pa.array([1, None, 3], pa.timestamp("ms", tz="UTC")),
        "list": pa.array([[1, None], None, []], pa.list_(pa.int32())),
        "struct": pa.array([{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}]),
        "dictionary": pa.array(["a", None, "a"]).dictionary_encode(),
    })
    put(client, options, (namespace, "types"), table)
    _, read = get(client, options, flight.FlightDescriptor.for_path(namespace, "types"))
    assert read.schema.remove_metadata() == table.schema
    assert read.sort_by("id").combine_chunks().equals(table.combine_chunks())


def test_the_metadata_of_a_put_picks_its_mode(server, namespace):
    """A path cannot say a mode; `write_with_metadata` can."""
    server.cli("namespaces", "create", namespace)
    client, options = connect(server), bearer(server)
    path = (namespace, "items")
    put(client, options, path, tables.table(1_000))

    def put_as(table, metadata):
        descriptor = flight.FlightDescriptor.for_path(*path)
        writer, reader = client.do_put(descriptor, table.schema, options)
        with writer:
            batch = table.combine_chunks().to_batches()[0]
            writer.write_with_metadata(batch, metadata)
            writer.done_writing()
            return json.loads(reader.read().to_pybytes())

    table = tables.table(1_000)
    assert put_as(table.slice(0, 10), b'{"mode":"upsert"}')["rows"] == 10
    assert put_as(table.slice(0, 5), b'{"mode":"delete"}')["rows"] == 5
    descriptor = flight.FlightDescriptor.for_path(*path)
    assert get(client, options, descriptor)[1].num_rows == 995
    assert put_as(table.slice(0, 7), b'{"mode":"overwrite"}')["rows"] == 7
    assert get(client, options, descriptor)[1].num_rows == 7
    with pytest.raises(pa.ArrowInvalid, match="replace"):
        put_as(table.slice(0, 7), b'{"mode":"replace"}')


def test_a_large_dictionary_comes_back_each_time(server, namespace):
    server.cli("namespaces", "create", namespace)
    client, options = connect(server), bearer(server)
    count = 131_072
    words = pa.array([f"{n:>40}" for n in range(count)])
    words = pa.DictionaryArray.from_arrays(pa.array(range(count), pa.int32()), words)
    table = pa.table({"id": pa.array(range(count), pa.int64()), "w": words})
    put(client, options, (namespace, "words"), table)
    descriptor = flight.FlightDescriptor.for_path(namespace, "words")
    for _ in range(3):
        _, read = get(client, options, descriptor)
        assert read.schema.field("w").type == table.schema.field("w").type
        assert read["w"].cast(pa.string()).equals(table["w"].cast(pa.string()))
        assert read["id"].equals(table["id"])
