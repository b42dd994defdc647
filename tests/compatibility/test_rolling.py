"""Clients of other makes live through a public door that is handed over, with what they do anyway."""

import itertools
import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import quarry_server

HAND_OVERS = 2
ROWS = 400_000


@pytest.fixture(scope="module")
def rolled():
    """A platform whose doors may be shared by two processes."""
    with quarry_server.Server(split=True, variables={"QUARRY_START__SHARE_PORTS": "true"}) as one:
        yield one


def hand_over(server, turn=itertools.count()):
    """The next gateway serves, then the one before it is told to stop."""
    name = f"gateway-{next(turn)}"
    ready = server.dir / f"{name}.ready"
    secret = server.dir / "identity/service-tokens/gateway"
    args = ["serve", "--roles", "gateway", "--data-dir", server.dir / name]
    args += ["--listen", server.address, "--ops-listen", "127.0.0.1:0", "--ready-file", ready]
    own = server.variables | {"QUARRY_SERVICE_TOKEN_FILE": str(secret)}
    own.pop("QUARRY_NEIGHBOURS__GATEWAY")
    log = open(server.dir / f"{name}.log", "wb")
    following = subprocess.Popen(
        [server.executable, *args], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        cwd=server.dir, env=quarry_server.environment(own),
    )
    doors = server._doors(name, following, ready)
    before, _ = server.processes["gateway"]
    server.processes["gateway"] = (following, doors)
    before.send_signal(signal.SIGTERM)
    assert before.wait(40) == 0


def under_load(server, workers):
    """Hands the door over again and again while each worker calls; answers calls and failures."""
    stop, made, failed = threading.Event(), [0] * len(workers), []

    def run(number, call):
        # A breath between two calls: the machine is to roll, not to be filled.
        while not stop.wait(0.01):
            try:
                call()
                made[number] += 1
            except Exception as error:  # noqa: BLE001: all are reported
                failed.append(repr(error))
                return

    threads = [threading.Thread(target=run, args=one) for one in enumerate(workers)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(HAND_OVERS):
            hand_over(server)
            time.sleep(0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    return made, failed


def test_no_call_of_grpcs_own_client_fails(rolled):
    """No retry policy, no wait for readiness: one channel, four callers."""
    header = (("authorization", f"Bearer {rolled.token}"),)
    with grpc.insecure_channel(rolled.address) as channel:
        method = "/quarry.catalog.v1.NamespacesService/ListNamespaces"
        call = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
        made, failed = under_load(rolled, [lambda: call(b"", timeout=60, metadata=header)] * 4)
    assert not failed, failed
    assert all(count > 10 for count in made), made


def test_no_read_of_a_table_and_no_stream_is_cut(rolled, namespace):
    rolled.cli("namespaces", "create", namespace)
    options = flight.FlightCallOptions(
        headers=[(b"authorization", f"Bearer {rolled.token}".encode())]
    )
    table = pa.table({"id": list(range(ROWS)), "half": [number / 2 for number in range(ROWS)]})
    path = flight.FlightDescriptor.for_path(namespace, "rows")
    with flight.connect(rolled.flight) as client:
        writer, _ = client.do_put(path, table.schema, options)
        writer.write_table(table, 65_536)
        writer.close()

        def read(slowly):
            ends = client.get_flight_info(path, options).endpoints
            rows = 0
            for end in ends:
                for chunk in client.do_get(end.ticket, options):
                    rows += chunk.data.num_rows
                    # Longer than a hand-over takes.
                    time.sleep(0.3 if slowly else 0)
            assert rows == ROWS, rows

        made, failed = under_load(rolled, [lambda: read(False), lambda: read(True)])
    assert not failed, failed
    assert all(made), made


def test_json_over_connections_that_are_kept_and_new_ones(rolled):
    def fetch():
        request = urllib.request.Request(f"{rolled.url}/v1/namespaces")
        request.add_header("authorization", f"Bearer {rolled.token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert "namespaces" in json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code}: {error.read()}") from error

    made, failed = under_load(rolled, [fetch] * 2)
    assert not failed, failed
    assert all(count > 10 for count in made), made
