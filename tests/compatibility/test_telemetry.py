"""Traces, metrics and logs arrive at an OTLP collector, and a client's trace goes through."""

import threading
from concurrent import futures

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import quarry_server
import requests

SIGNALS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
}


def fields(message):
    """Numbers and values of a protobuf message's fields: bytes, or whole numbers."""
    at = 0

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            yield number, varint()
            continue
        length = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        yield number, message[at:at + length]
        at += length


def spans(exported):
    """The spans of trace exports, one after another: name, ids and texts of attributes."""
    for resource in (value for number, value in fields(exported) if number == 1):
        for scope in (value for number, value in fields(resource) if number == 2):
            for span in (value for number, value in fields(scope) if number == 2):
                parts = list(fields(span))
                attributes = {}
                for pair in (value for number, value in parts if number == 9):
                    [key] = [value.decode() for number, value in fields(pair) if number == 1]
                    [value] = [value for number, value in fields(pair) if number == 2] or [b""]
                    attributes[key] = b"".join(v for n, v in fields(value) if n == 1).decode()
                of = dict(parts)
                yield {
                    "trace": of[1], "id": of[2], "parent": of.get(4, b""),
                    "name": of[5].decode(), "attributes": attributes,
                }


class Collector(grpc.GenericRpcHandler):
    """Keeps what is exported, undecoded."""

    def __init__(self):
        self.received = {signal: b"" for signal in SIGNALS.values()}
        self.changed = threading.Condition()

    def service(self, call):
        signal = SIGNALS.get(call.method)
        if signal is None:
            return None

        def export(body, _):
            with self.changed:
                self.received[signal] += body
                self.changed.notify_all()
            return b""

        return grpc.unary_unary_rpc_method_handler(export)

    def wait_for(self, signal, content, seconds=30):
        with self.changed:
            return self.changed.wait_for(lambda: content in self.received[signal], seconds)


@pytest.fixture(scope="module")
def collector():
    handler = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler])
    handler.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler
    server.stop(None).wait()


@pytest.fixture(scope="module", params=[False, True], ids=["one_process", "split"])
def traced(request, collector):
    endpoint = f"http://127.0.0.1:{collector.port}"
    variables = {"QUARRY_TELEMETRY__OTLP_ENDPOINT": endpoint}
    with quarry_server.Server(split=request.param, variables=variables) as server:
        yield server


def traceparent(digit):
    trace = digit * 32
    return f"00-{trace}-{'b' * 16}-01", bytes.fromhex(trace)


def test_a_trace_goes_through_http_grpc_and_flight(traced, collector, namespace):
    kinds = "456" if len(traced.processes) > 1 else "123"
    traced.cli("namespaces", "create", namespace)
    bearer = f"Bearer {traced.token}"

    header, http_trace = traceparent(kinds[0])
    url = f"{traced.url}/v1/namespaces"
    answer = requests.get(url, headers={"authorization": bearer, "traceparent": header}, timeout=30)
    assert answer.status_code == 200

    header, grpc_trace = traceparent(kinds[1])
    with grpc.insecure_channel(traced.address) as channel:
        call = channel.unary_unary("/quarry.catalog.v1.NamespacesService/ListNamespaces")
        call(b"", metadata=[("authorization", bearer), ("traceparent", header)], timeout=30)

    header, flight_trace = traceparent(kinds[2])
    headers = [(b"authorization", bearer.encode()), (b"traceparent", header.encode())]
    options = flight.FlightCallOptions(headers=headers)
    table = pa.table({"id": [1, 2, 3]})
    with flight.connect(traced.flight) as client:
        path = flight.FlightDescriptor.for_path(namespace, "traced")
        writer, _ = client.do_put(path, table.schema, options)
        writer.write_table(table)
        writer.close()

    # Each role that a call passed has a span in the client's own trace.
    for trace in (http_trace, grpc_trace, flight_trace):
        assert collector.wait_for("traces", trace)
    assert collector.wait_for("traces", b"quarry.catalog.v1.ManifestService")
    assert collector.wait_for("metrics", b"quarry_rpc_requests")
    assert collector.wait_for("logs", b"serving")
    assert traced.token.encode() not in b"".join(collector.received.values())


def test_one_trace_from_the_door_to_the_statement(traced, collector, namespace):
    header, trace = traceparent("7" if len(traced.processes) > 1 else "8")
    url = f"{traced.url}/v1/namespaces"
    headers = {"authorization": f"Bearer {traced.token}", "traceparent": header}
    answer = requests.post(url, json={"name": namespace}, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text

    def whole():
        mine = {span["id"]: span for span in spans(collector.received["traces"]) if span["trace"] == trace}
        inserts = [
            span for span in mine.values()
            if "insert into" in span["attributes"].get("db.statement", "").lower()
            and "namespace" in span["attributes"]["db.statement"]
        ]
        return mine, inserts

    def way_up():
        """The statement, and the names of what is above it: processes send theirs when they like."""
        mine, inserts = whole()
        if not inserts:
            return None, [], None
        insert = span = inserts[0]
        path = []
        while span["parent"] in mine:
            span = mine[span["parent"]]
            path.append(span["name"])
        return insert, path, span["parent"]

    with collector.changed:
        arrived = collector.changed.wait_for(lambda: "http" in "".join(way_up()[1][-1:]), 30)
    insert, path, root = way_up()
    # Up from the statement: the catalog's method, and above it the door.
    assert arrived, path
    assert insert["attributes"]["db.system"] == "sqlite"
    # Values are no part of a statement.
    assert namespace not in insert["attributes"]["db.statement"]
    assert any("NamespacesService/CreateNamespace" in name for name in path), path
    assert root == b"\xbb" * 8, "the client's own span is the root"
