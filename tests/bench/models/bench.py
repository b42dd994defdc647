"""Quarry's model registry beside MLflow's own server, over the same REST, in one run.

Both are asked the same by kept HTTP connections, in turns, on SQLite and on one Postgres server.
The peer runs with one worker and with four; a ratio is claimed against the better of the two.
MLflow's rows are written straight into its database, ours through the door: its own REST takes
half an hour for them. Nothing else is prepared.
"""

import argparse
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "harness/python")]
import quarry_server  # noqa: E402
from peers import API, Postgres, insert_rows, mlflow, quarry, run_of, tags_of  # noqa: E402
from wire import Wire, hammer, repeated, request  # noqa: E402

FILES = "/api/2.0/mlflow-artifacts/artifacts"
PAGE = 100
# A slow answer is asked for as often as fits into this.
BUDGET_SECONDS = 6


def models_of(versions):
    """The registry's models, each with its number of versions: 141,001 for 100,000."""
    many = {f"m{at:05}": 3 for at in range(versions // 10)}
    return {"one": 1, "thousandth": max(versions // 100, 1), "tenth": max(versions // 10, 1), "large": versions, **many}


def load_ours(door, models, connections=32):
    begun = time.perf_counter()
    create = (request(door, "POST", f"{API}/registered-models/create", body={"name": name}) for name in models)
    _, failed, _ = hammer(door, lambda: next(create, None), connections)
    # A model after the other: of many at once, each is a queue of its own anyway.
    versions = (
        request(door, "POST", f"{API}/model-versions/create", body={
            "name": name, "source": f"s3://bucket/{name}/{number}", "run_id": run_of(number),
            "tags": [{"key": key, "value": value} for key, value in tags_of(number)]})
        for name, count in models.items() for number in range(1, count + 1))
    made, also, took = hammer(door, lambda: next(versions, None), connections)
    if failed or also:
        raise AssertionError(f"{door.name}: {(failed + also)[0][:300]}")
    aliases = (request(door, "POST", f"{API}/registered-models/alias", body={
        "name": name, "alias": "prod", "version": "1"}) for name in models)
    hammer(door, lambda: next(aliases, None), connections)
    print(f"{len(made):,} versions went through our door in {took:.0f} s ({len(made) / took:,.0f}/s), "
          f"all in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)


def median_ms(door, sent, rounds):
    wire, times = Wire(door), []
    wire.ask(sent)
    end = time.perf_counter() + BUDGET_SECONDS
    while len(times) < rounds and (len(times) < 3 or time.perf_counter() < end):
        begin = time.perf_counter()
        wire.ask(sent)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


class Table:
    """Rows as they are measured."""

    def __init__(self, doors):
        self.doors = doors
        print(f"| operation | {' | '.join(door.name for door in doors)} | ratio to the better |")
        print("|---" * (len(doors) + 2) + "|")

    def row(self, name, values, unit, less_is_better, digits=2):
        *peers, ours = values
        best = min(peers) if less_is_better else max(peers)
        ratio = (best / ours if less_is_better else ours / best) if ours and best else float("inf")
        cells = " | ".join(f"{value:,.{digits}f}" for value in values)
        print(f"| {name}, {unit} | {cells} | **{ratio:.1f}×** |", flush=True)

    def plain(self, name, values):
        print(f"| {name} | {' | '.join(str(value) for value in values)} | |", flush=True)

    def asked(self, name, sent, rounds):
        values = [median_ms(door, sent(door), rounds) for door in self.doors]
        self.row(name, values, "ms", True)
        return values


def looks(table, versions, rounds):
    """A model and an alias, from one version to all."""
    ours = {}
    for model, count in (("one", 1), ("thousandth", versions // 100), ("tenth", versions // 10), ("large", versions)):
        for title, path, more in (("get a model", "/registered-models/get", {}),
                                  ("get by alias", "/registered-models/alias", {"alias": "prod"})):
            values = table.asked(f"{title} of {count:,} versions", lambda door: request(
                door, "GET", API + path, {"name": model, **more}), rounds)
            ours.setdefault(title, []).append(values[-1])
    for title, values in ours.items():
        table.plain(f"… ours, {title}: slowest to fastest", [*[""] * (len(table.doors) - 1),
                                                         f"{max(values) / min(values):.2f}×"])


def token_at(door, path, parameters, depth):
    """The token of a page: ours by walking there, MLflow's is the offset."""
    if depth == 0:
        return {}
    if not door.is_ours:
        return {"page_token": base64.b64encode(json.dumps({"offset": depth * PAGE}).encode()).decode()}
    wire, more = Wire(door), {}
    for _ in range(depth):
        answer = json.loads(wire.ask(request(door, "GET", API + path, {**parameters, **more})))
        more = {"page_token": answer["next_page_token"]}
    return more


def searches(table, versions, models, rounds):
    asked = [("versions of a model", "/model-versions/search", {"filter": "name='large'"}, versions),
             ("all versions", "/model-versions/search", {}, sum(models.values())),
             ("models", "/registered-models/search", {}, len(models))]
    for title, path, parameters, count in asked:
        parameters = {**parameters, "max_results": PAGE}
        last = max((count - 1) // PAGE, 0)
        for depth in sorted({0, last // 2, last}):
            table.asked(f"search {title}, page {depth + 1:,} of {last + 1:,}", lambda door: request(
                door, "GET", API + path, {**parameters, **token_at(door, path, parameters, depth)}), rounds)
    for title, wanted in (("one tag", "tags.sampled='yes'"), ("two tags", "tags.sampled='yes' and tags.group='g1'"),
                          ("a run", f"run_id='{run_of(7)}'")):
        table.asked(f"search versions by {title}, {PAGE} rows", lambda door: request(
            door, "GET", f"{API}/model-versions/search", {"filter": wanted, "max_results": PAGE}), rounds)


def writers(table, count, each):
    """Versions a second with many writers on one model; every number is there once."""
    rates, failures = [], []
    for door in table.doors:
        door.post("/registered-models/create", name=f"busy-{count}")
        sent = request(door, "POST", f"{API}/model-versions/create",
                       body={"name": f"busy-{count}", "source": "s3://bucket/busy"})
        bodies, failed, took = hammer(door, repeated(sent, count * each), count)
        numbers = {json.loads(body)["model_version"]["version"] for body in bodies}
        if len(numbers) != len(bodies):
            raise AssertionError(f"{door.name}: a number was given twice")
        rates.append(len(bodies) / took)
        failures.append(len(failed))
    table.row(f"create versions, {count} writers on one model", rates, "/s", False, 0)
    table.plain("… of which failed", failures)


def readers(table, count, seconds):
    rates = []
    for door in table.doors:
        sent = request(door, "GET", f"{API}/registered-models/get", {"name": "one"})
        bodies, failed, took = hammer(door, lambda sent=sent: sent, count, seconds)
        if failed:
            raise AssertionError(f"{door.name}: {failed[0][:300]}")
        rates.append(len(bodies) / took)
    table.row(f"reads, {count} kept connections", rates, "/s", False, 0)


def pieces_of(size, seed=7):
    """Bytes that nothing compresses and no two pieces share, made faster than a disk takes them."""
    block = random.Random(seed).randbytes(1 << 20)
    for at in range(size >> 20):
        yield at.to_bytes(8, "little") + block[8:]


def large_file(table, megabytes):
    """One file up and down, hashing on both sides; what comes back is what went."""
    ups, downs, path = [], [], f"{FILES}/bench/model.bin"
    size = megabytes << 20
    expected = hashlib.sha256()
    for piece in pieces_of(size):
        expected.update(piece)
    for door in table.doors:
        begin = time.perf_counter()
        Wire(door).put(path, pieces_of(size), size)
        ups.append(size / (time.perf_counter() - begin) / 1e6)
        digest = hashlib.sha256()
        begin = time.perf_counter()
        Wire(door).fetch(path, digest.update)
        downs.append(size / (time.perf_counter() - begin) / 1e6)
        if digest.digest() != expected.digest():
            raise AssertionError(f"{door.name}: another file came back")
    table.row(f"upload of {megabytes:,} MiB", ups, "MB/s", False, 0)
    table.row(f"download of {megabytes:,} MiB", downs, "MB/s", False, 0)


def small_files(table, count, connections=8, rounds=5):
    """So many files at once take a tenth of a second: medians of rounds in turns."""
    # What the large files before left to be written would be waited for by whoever flushes.
    os.sync()
    ups, downs = [[[] for _ in table.doors] for _ in range(2)]
    body = random.Random(3).randbytes(10_240)
    for once in range(rounds):
        for at, door in enumerate(table.doors):
            paths = [f"{FILES}/small{once}/{number}.bin" for number in range(count)]
            # No body is sent twice: what is there already would not be stored.
            sent = iter([request(door, "PUT", path, body=(once * count + number).to_bytes(8, "little") + body[8:])
                         for number, path in enumerate(paths)])
            _, failed, took = hammer(door, lambda sent=sent: next(sent, None), connections)
            ups[at].append(count / took)
            sent = iter([request(door, "GET", path) for path in paths])
            bodies, also, took = hammer(door, lambda sent=sent: next(sent, None), connections)
            downs[at].append(count / took)
            if failed or also or {len(body) for body in bodies} != {10_240}:
                raise AssertionError(f"{door.name}: {(failed + also)[:1]}")
    ups, downs = ([statistics.median(rates) for rates in several] for several in (ups, downs))
    table.row(f"upload of {count} × 10 KB, {connections} connections", ups, "files/s", False, 0)
    table.row(f"download of {count} × 10 KB, {connections} connections", downs, "files/s", False, 0)


def again(table, megabytes):
    """The same model a second time: by each one's own way to register a folder."""
    stored = []
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place) / "model"
        folder.mkdir()
        with (folder / "weights.bin").open("wb") as content:
            for piece in pieces_of(megabytes << 20, seed=11):
                content.write(piece)
        for door in table.doors:
            kept = []
            for number in (1, 2):
                if door.is_ours:
                    door.server.cli("models", "register", "default/again", folder)
                else:
                    with (folder / "weights.bin").open("rb") as content:
                        target = f"{door.url}{FILES}/again/{number}/weights.bin"
                        door.session.put(target, data=content, timeout=600).raise_for_status()
                kept.append(door.stored())
            stored.append(kept[1] - kept[0])
    table.plain(f"bytes stored when {megabytes} MiB are registered again", [f"{bytes:,}" for bytes in stored])


@contextlib.contextmanager
def memory_watched(door):
    """A door's own memory, looked at fifty times a second. What the kernel counts beside it are pages of the program's
    file, which are shared and let go of: no upload makes them more."""
    held, end = [], threading.Event()

    def watch():
        while not end.wait(0.02):
            held.append(sum(quarry_server.memory_own_bytes(pid) for pid in door.pids()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield held
    finally:
        end.set()
        watcher.join()


def big_upload(binary, gibibytes):
    """Memory while one large file arrives, in a process that did nothing else."""
    size = gibibytes << 30
    with quarry(binary) as door:
        door.get("/registered-models/search", max_results=1)
        door.reset_memory()
        idle = sum(quarry_server.memory_own_bytes(pid) for pid in door.pids())
        with memory_watched(door) as held:
            begin = time.perf_counter()
            Wire(door).put(f"{FILES}/big/model.bin", pieces_of(size), size)
            took = time.perf_counter() - begin
        print(f"\nUpload of {gibibytes} GiB: {size / took / 1e6:,.0f} MB/s; our process's own memory meanwhile at most "
              f"{max(held) / 1e6:,.0f} MB, {idle / 1e6:,.0f} before; peak RSS, with pages of its program's file, "
              f"{door.memory() / 1e6:,.0f} MB", flush=True)


def report(doors, chosen, database):
    models = models_of(chosen.versions)
    print(f"\nmodels on {database}: {sum(models.values()):,} versions of {len(models):,} models, "
          f"up to {chosen.rounds} rounds, medians; {os.cpu_count()} cores; a ratio above 1 is in our favour\n")
    for door in doors:
        (load_ours if door.is_ours else insert_rows)(door, models)
    table = Table(doors)
    looks(table, chosen.versions, chosen.rounds)
    searches(table, chosen.versions, models, chosen.rounds)
    readers(table, 64, chosen.seconds)
    writers(table, 64, chosen.each)
    if database == "SQLite":
        large_file(table, chosen.megabytes)
        small_files(table, chosen.files)
        again(table, min(chosen.megabytes, 64))
    table.plain("peak RSS of all processes, MB", [f"{door.memory() / 1e6:,.0f}" for door in doors])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the release binary")
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--versions", type=int, default=100_000, help="of the largest model")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--each", type=int, default=20, help="versions of each of 64 writers")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--upload-gib", type=int, default=0, help="also measure memory while so much arrives")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.versions, chosen.rounds, chosen.each, chosen.files = 300, 5, 2, 20
        chosen.seconds, chosen.megabytes = 1, 16
    with contextlib.ExitStack() as kept:
        server = None
        if chosen.database != "sqlite":
            server = Postgres(kept.enter_context(tempfile.TemporaryDirectory(prefix="bench-pg")))
        for database in ("SQLite", "Postgres"):
            if chosen.database not in ("both", database.lower()):
                continue
            postgres = server if database == "Postgres" else None
            with contextlib.ExitStack() as stack:
                doors = [stack.enter_context(mlflow(workers, postgres)) for workers in (1, 4)]
                doors.append(stack.enter_context(quarry(chosen.binary, postgres)))
                report(doors, chosen, database)
        if chosen.upload_gib:
            big_upload(chosen.binary, chosen.upload_gib)
        if server:
            server.stop()


if __name__ == "__main__":
    main()
