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
