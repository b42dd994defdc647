"""The servers: MLflow's own, and ours, each on a database of its own."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import requests

import quarry_server
from postgres_server import Postgres  # noqa: F401

API = "/api/2.0/mlflow"
STARTS_WITHIN_SECONDS = 240


class Door:
    """One server's REST; a session for each thread where speed is not measured."""

    def __init__(self, name, host, port, pids, token=None, objects=None, database=None):
        self.name, self.host, self.port, self.pids, self.token = name, host, port, pids, token
        self.url = f"http://{host}:{port}"
        # Where bytes are stored, and where rows are.
        self.objects, self.database = objects, database
        self._local = threading.local()

    @property
    def is_ours(self):
        return self.token is not None

    @property
    def session(self):
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            if self.token:
                self._local.session.headers["authorization"] = f"Bearer {self.token}"
        return self._local.session

    def get(self, path, **parameters):
        return self._answer(self.session.get(self.url + API + path, params=parameters, timeout=300))

    def post(self, path, **body):
        return self._answer(self.session.post(self.url + API + path, json=body, timeout=300))

    def _answer(self, answer):
        if answer.status_code != 200:
            raise AssertionError(f"{self.name}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def memory(self):
        """The most that its processes held at once, each by its own peak."""
        return sum(quarry_server.memory_peak_bytes(pid) for pid in self.pids())

    def reset_memory(self):
        for pid in self.pids():
            quarry_server.reset_memory_peak(pid)

    def stored(self):
        """Bytes of files that it keeps."""
        return sum(path.stat().st_size for path in pathlib.Path(self.objects).rglob("*") if path.is_file())


def descendants(pid):
    """A process and all below it."""
    found = [pid]
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == pid:
                found += descendants(int(path.parent.name))
    return found


@contextlib.contextmanager
def mlflow(workers, postgres=None):
    place = pathlib.Path(tempfile.mkdtemp(prefix="mlflow-bench"))
    database = f"postgresql+psycopg2://postgres:@{postgres.database()}" if postgres else f"sqlite:///{place}/mlflow.db"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--workers", str(workers), "--backend-store-uri", database,
               "--artifacts-destination", str(place / "artifacts")]
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(command, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + STARTS_WITHIN_SECONDS
    try:
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{url}/health", timeout=5).ok:
                    break
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError((place / "log").read_text()[-2000:])
            time.sleep(0.2)
        yield Door(f"mlflow, {workers} worker{'s' * (workers > 1)}", "127.0.0.1", port,
                   lambda: descendants(server.pid), objects=place / "artifacts", database=database)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def quarry(binary, postgres=None):
    url = f"postgres://postgres@localhost{postgres.database()}" if postgres else None
    with quarry_server.Server(executable=binary, database_url=url) as server:
        host, port = server.address.rsplit(":", 1)
        door = Door("quarry", host, int(port), lambda: [server.pid()], server.token,
                    server.dir / "all/objects")
        door.server = server
        yield door


def run_of(number):
    return f"{number % 1000:032x}"


def tags_of(number):
    """One version in a hundred has two tags."""
    return [("sampled", "yes"), ("group", f"g{number % 7}")] if number % 100 == 1 else []


def insert_rows(door, models):
    """Writes models of so many versions each straight into MLflow's database: its own REST takes
    ten to thirty minutes for what this does in seconds, and the rows are the same."""
    now = int(time.time() * 1000)
    names = [(name, now, now) for name in models]
    rows = [(name, number, now + number, now + number, "None", f"s3://bucket/{name}/{number}",
             run_of(number), "READY", f"s3://bucket/{name}/{number}")
            for name, count in models.items() for number in range(1, count + 1)]
    tags = [(key, value, name, number)
            for name, count in models.items() for number in range(1, count + 1)
            for key, value in tags_of(number)]
    statements = [
        ("INSERT INTO registered_models (name, creation_time, last_updated_time) VALUES {}", names),
        ("INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage, source, "
         "run_id, status, storage_location) VALUES {}", rows),
        ("INSERT INTO model_version_tags (key, value, name, version) VALUES {}", tags),
        ("INSERT INTO registered_model_aliases (alias, version, name) VALUES {}",
         [("prod", 1, name) for name in models]),
    ]
    if door.database.startswith("sqlite"):
        connection = sqlite3.connect(door.database.removeprefix("sqlite:///"), timeout=60)
        with connection:
            for sql, values in statements:
                marks = "(" + ", ".join("?" * len(values[0])) + ")"
                connection.executemany(sql.format(marks), values)
            connection.execute("ANALYZE")
        connection.close()
    else:
        import psycopg2
        from psycopg2.extras import execute_values

        url = door.database.replace("+psycopg2", "")
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            for sql, values in statements:
                execute_values(cursor, sql.format("%s"), values, page_size=5000)
        connection.close()
        with psycopg2.connect(url) as connection:
            connection.autocommit = True
            connection.cursor().execute("ANALYZE")
