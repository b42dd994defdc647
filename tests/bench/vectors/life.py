"""What happens to a space over its life: two clients, writes beside searches, churn, a restart."""

import multiprocessing
import time

import data
import numpy as np
from door import K, search_for, upsert_for

SECONDS = 5
LAGS = 300
CALLS = 5_000
WRITE = 500


def beside(*works):
    """Runs functions of `door` in processes of their own, all at once; what each says."""
    context = multiprocessing.get_context("spawn")
    running = []
    for work, args in works:
        result = context.Queue()
        process = context.Process(target=work, args=(*args, result))
        process.start()
        running.append((process, result))
    said = [result.get(timeout=300) for _, result in running]
    for process, _ in running:
        process.join()
    return said


def costs(ours, queries, width):
    """Processor time of a search and of a call that does nothing."""
    requests = [ours.door.prepared(query) for query in queries]
    search = lambda at: ours.door.found(requests[at % len(requests)], width)  # noqa: E731
    for name, call in (("a search", search), ("a call that does nothing", lambda at: ours.door.nothing())):
        for at in range(CALLS // 10):
            call(at)
        begin, server, client = time.perf_counter(), ours.cpu_seconds(), time.process_time()
        for at in range(CALLS):
            call(at)
        took, of = time.perf_counter() - begin, 1e6 / CALLS
        server, client = ours.cpu_seconds() - server, time.process_time() - client
        yield f"processor time of {name}", (
            f"{server * of:,.0f} µs of the server, {client * of:,.0f} µs of grpcio's client; it takes {took * of:,.0f} µs"
        )


def clients(ours, queries, width):
    """Queries a second of one client and of two."""
    one = (search_for, (*ours.place(), queries, width, SECONDS))
    (alone, p99), = beside(one)
    two = beside(one, one)
    yield "one client", f"{alone:,.0f} queries/s, p99 {p99 * 1e3:.2f} ms"
    together = sum(qps for qps, _ in two)
    yield "two clients", f"{together:,.0f} queries/s, p99 {max(p for _, p in two) * 1e3:.2f} ms"


def writes_beside(ours, queries, vectors, width):
    """Searches while another client writes as fast as it can."""
    search = (search_for, (*ours.place(), queries, width, SECONDS))
    write = (upsert_for, (*ours.place(), 10 * len(vectors), vectors[:20_000], 100, SECONDS))
    (qps, p99), written = beside(search, write)
    yield "while 100 points a write come in", (
        f"{qps:,.0f} queries/s, p99 {p99 * 1e3:.2f} ms beside {written:,.0f} points/s"
    )


def lag(ours, queries):
    """From a write's acknowledgement until an eventual search finds it, on the replica that wrote."""
    waited, wrote = [], []
    for at in range(LAGS):
        # A little off a known vector: nearer to itself than to anything.
        vector = queries[at % len(queries)] + np.random.default_rng(at).normal(0, 0.02, queries.shape[1])
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        begin = time.perf_counter()
        ours.door.upsert([90_000_000 + at], [vector])
        acknowledged = time.perf_counter()
        while ours.door.search(vector, k=1) != [90_000_000 + at]:
            if time.perf_counter() - acknowledged > 30:
                raise AssertionError("a write was never seen")
        seen = time.perf_counter()
        wrote.append(seen - begin)
        waited.append(seen - acknowledged)
    ours.door.delete(range(90_000_000, 90_000_000 + LAGS))
    at = int(LAGS * 0.99)
    yield "write → visible, p99", (
        f"{sorted(wrote)[at] * 1e3:.1f} ms from the request, "
        f"{sorted(waited)[at] * 1e3:.1f} ms from its acknowledgement (the search itself included)"
    )


def churn(ours, vectors, queries, truth, width):
    """Three in ten points go and come again under new ids, a tenth at a time."""
    rows = len(vectors)
    begin = time.perf_counter()
    for tenth in range(3):
        ids = np.arange(tenth, rows, 10)
        for at in range(0, len(ids), WRITE):
            some = ids[at : at + WRITE]
            ours.door.delete(some)
            ours.door.upsert(some + rows * (tenth + 1), vectors[some])
    took = time.perf_counter() - begin
    found = [[item % rows for item in ours.door.search(query, width)] for query in queries]
    index = ours.door.stats()
    yield "recall after 30 % were replaced", (
        f"{data.recall(vectors, queries, truth, found, K):.4f} at ef {width or 'unset'} "
        f"({rows * 3 // 10:,} replaced in {took:.0f} s; {index.segments} segments, {index.head_points:,} in the head)"
    )


def memory(ours, rows, before):
    index = ours.door.stats()
    yield "memory", (
        f"{index.memory_bytes / index.points:.0f} B a vector in the index; the whole process "
        f"{ours.resident_bytes() / 1e6:,.0f} MB anonymous after the load, {before / 1e6:,.0f} MB before it"
    )


def cold(ours, queries):
    """From the process' start until the index, not the rows, answers."""
    begin = ours.restart()
    ready = time.perf_counter() - begin
    first = None
    while time.perf_counter() - begin < 120:
        answer = ours.door.answer(queries[0])
        if first is None:
            first = time.perf_counter() - begin, answer.explain.strategy
        if not answer.explain.strategy.startswith(("rows", "postgres")):
            break
    until = time.perf_counter() - begin
    yield "cold start", (
        f"serves after {ready:.2f} s, first answer after {first[0]:.2f} s ({first[1]}), "
        f"from the index after {until:.2f} s"
    )
