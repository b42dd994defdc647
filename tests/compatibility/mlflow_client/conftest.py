"""MLflow's own server, beside the platforms."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests


@pytest.fixture(scope="session")
def peer_place(tmp_path_factory):
    """Where MLflow's own server keeps its database and its files."""
    return tmp_path_factory.mktemp("mlflow")


@contextlib.contextmanager
def mlflow_server(place):
    """MLflow's own server, which keeps what it is sent in a directory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--artifacts-destination", str(place / "artifacts"),
    ]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 180
    try:
        while True:
            try:
                if requests.get(f"{url}/health", timeout=5).ok:
                    break
            except requests.ConnectionError:
                pass
            assert server.poll() is None and time.monotonic() < end, (place / "log").read_text()[-2000:]
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


@pytest.fixture(scope="session")
def peer(peer_place):
    """MLflow's own server, kept for the whole run; tests leave models in it."""
    with mlflow_server(peer_place) as url:
        yield url


@pytest.fixture
def empty_peer(tmp_path):
    """MLflow's own server, to which nobody has sent anything."""
    with mlflow_server(tmp_path) as url:
        yield url
