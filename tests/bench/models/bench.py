"""Quarry's model registry beside MLflow's own server, over the same REST, in one run.

Both are asked the same by keep-alive HTTP, in turns. The peer runs once with one worker and
once with four, on SQLite; a ratio is claimed against the better one.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import requests

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "harness/python")]
import quarry_server  # noqa: E402

API = "/api/2.0/mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
STARTS_WITHIN_SECONDS = 180


class Door:
    """One server's REST, a session for each thread."""

    def __init__(self, name, url, pids, token=None):
        self.name, self.url, self.pids, self.token = name, url, pids, token
        self._local = threading.local()

    @property
    def session(self):
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            if self.token:
                self._local.session.headers["authorization"] = f"Bearer {self.token}"
        return self._local.session

    def get(self, path, **parameters):
        return self._answer(self.session.get(self.url + API + path, params=parameters, timeout=120))

    def post(self, path, **body):
        return self._answer(self.session.post(self.url + API + path, json=body, timeout=120))

    def _answer(self, answer):
        if answer.status_code != 200:
            raise AssertionError(f"{self.name}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def memory(self):
        return sum(quarry_server.memory_peak_bytes(pid) for pid in self.pids())


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
def mlflow(workers):
    place = pathlib.Path(tempfile.mkdtemp(prefix="mlflow-bench"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--workers", str(workers), "--backend-store-uri", f"sqlite:///{place}/mlflow.db",
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
        yield Door(f"mlflow, {workers} worker{'s' * (workers > 1)}", url, lambda: descendants(server.pid))
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


def create_version(door, model):
    source = f"s3://bucket/{model}"
    return int(door.post("/model-versions/create", name=model, source=source)["model_version"]["version"])


def load(door, versions, threads=8):
    """One model of a version, one of many; both have an alias on their first version."""
    for model, count in (("small", 1), ("large", versions)):
        door.post("/registered-models/create", name=model)
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            numbers = sorted(pool.map(lambda _, m=model: create_version(door, m), range(count)))
        if numbers != list(range(1, count + 1)):
            raise AssertionError(f"{door.name}: {count} creations gave other numbers: {numbers[:5]} …")
        door.post("/registered-models/alias", name=model, alias="prod", version="1")


def median_ms(door, ask, rounds):
    for _ in range(3):
        ask(door)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        ask(door)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def page_at_depth(door, depth):
    """The last of `depth` pages of 100."""
    token = None
    for _ in range(depth):
        more = {"page_token": token} if token else {}
        answer = door.get("/model-versions/search", filter="name='large'", max_results=100, **more)
        token = answer.get("next_page_token")
        if not token:
            break
    more = {"page_token": token} if token else {}
    return lambda door: door.get("/model-versions/search", filter="name='large'", max_results=100, **more)


def writers(door, count, each):
    """Versions a second with many writers on one model; all numbers are there."""
    model = f"busy-{count}"
    door.post("/registered-models/create", name=model)
    failed = []

    def write(_):
        try:
            return [create_version(door, model) for _ in range(each)]
        except AssertionError as error:
            failed.append(str(error))
            return []

    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        numbers = [number for part in pool.map(write, range(count)) for number in part]
    took = time.perf_counter() - begin
    if len(set(numbers)) != len(numbers):
        raise AssertionError(f"{door.name}: numbers were given twice")
    return len(numbers) / took, len(failed)


def readers(door, threads, seconds):
    """Reads a second of keep-alive clients in threads of this process."""
    end = time.perf_counter() + seconds

    def read(_):
        done = 0
        while time.perf_counter() < end:
            door.get("/registered-models/get", name="small")
            done += 1
        return done

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(read, range(threads))) / seconds


def file_speed(door, path):
    """MB/s up and down of one file; what comes back is what went."""
    size = path.stat().st_size
    target = f"{door.url}{FILES}/bench/{path.name}"
    begin = time.perf_counter()
    with path.open("rb") as content:
        sent = door.session.put(target, data=content, timeout=600)
    up = time.perf_counter() - begin
    if sent.status_code != 200:
        raise AssertionError(f"{door.name}: {sent.status_code} {sent.text[:300]}")
    begin, digest = time.perf_counter(), hashlib.sha256()
    with door.session.get(target, stream=True, timeout=600) as answer:
        for piece in answer.iter_content(1 << 20):
            digest.update(piece)
    down = time.perf_counter() - begin
    if digest.hexdigest() != hashlib.sha256(path.read_bytes()).hexdigest():
        raise AssertionError(f"{door.name}: another file came back")
    return size / up / 1e6, size / down / 1e6


def row(name, values, unit, less_is_better):
    *peers, ours = values
    best = min(peers) if less_is_better else max(peers)
    ratio = best / ours if less_is_better else ours / best
    cells = " | ".join(f"{value:,.2f}" for value in values)
    print(f"| {name}, {unit} | {cells} | **{ratio:.1f}×** |", flush=True)


def report(doors, chosen):
    print(f"\nmodels: {chosen.versions:,} versions of one model, {chosen.rounds} rounds, medians; "
          f"{os.cpu_count()} cores; a ratio above 1 is in our favour\n")
    print(f"| operation | {' | '.join(door.name for door in doors)} | ratio to the better |")
    print("|---" * (len(doors) + 2) + "|")
    for door in doors:
        load(door, chosen.versions)
    for model in ("small", "large"):
        count = 1 if model == "small" else chosen.versions
        for title, path, more in (("get a model", "/registered-models/get", {}),
                                  ("get by alias", "/registered-models/alias", {"alias": "prod"})):
            asked = [median_ms(door, lambda d, p=path, m=more, n=model: d.get(p, name=n, **m), chosen.rounds)
                     for door in doors]
            row(f"{title} of {count:,} versions", asked, "ms", True)
    pages = chosen.versions // 100
    for depth in (0, pages - 1):
        asked = [median_ms(door, page_at_depth(door, depth), chosen.rounds) for door in doors]
        row(f"search, page {depth + 1:,} of 100 versions", asked, "ms", True)
    made = [writers(door, 64, chosen.each) for door in doors]
    row("create versions, 64 writers on one model", [rate for rate, _ in made], "/s", False)
    print(f"| … of which failed | {' | '.join(str(failed) for _, failed in made)} | |")
    row("reads, 64 keep-alive clients", [readers(door, 64, chosen.seconds) for door in doors], "/s", False)
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place) / "model.bin"
        with path.open("wb") as content:
            for _ in range(chosen.megabytes):
                content.write(os.urandom(1 << 20))
        speeds = [file_speed(door, path) for door in doors]
    row(f"upload of {chosen.megabytes} MiB", [up for up, _ in speeds], "MB/s", False)
    row(f"download of {chosen.megabytes} MiB", [down for _, down in speeds], "MB/s", False)
    print("\nPeak RSS, MB: " + ", ".join(f"{door.name} {door.memory() / 1e6:,.0f}" for door in doors))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the release binary")
    parser.add_argument("--versions", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--each", type=int, default=10, help="versions of each of 64 writers")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.versions, chosen.rounds, chosen.each = 200, 5, 1
        chosen.seconds, chosen.megabytes = 1, 16
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(mlflow(workers)) for workers in (1, 4)]
        server = stack.enter_context(quarry_server.Server(executable=chosen.binary))
        doors.append(Door("quarry", server.url, lambda: [server.pid()], server.token))
        report(doors, chosen)


if __name__ == "__main__":
    main()
