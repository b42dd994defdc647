"""Vector search over gRPC, one query at a time and in batches, beside its peers in one run.

Prints Markdown tables. First, for each engine, the queries a second at the first width of the
walk that reaches a recall@10 of .95 and of .99 against the exact answer, its p99, and its build
time; a row that never gets there says so. Then the same under filters that keep 50, 7, 2 and
0.4 % of the points, at a recall of .98. Then what happens to our own space over its life.
"""

import argparse
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "harness/python"))
sys.path.insert(0, str(HERE))
import compiled  # noqa: E402
import data  # noqa: E402
import life  # noqa: E402
import peers  # noqa: E402
from door import K  # noqa: E402
from ours import Ours, where  # noqa: E402

RECALLS = (0.95, 0.99)
FILTERED_RECALL = 0.98
SHARES = (0.5, 0.07, 0.02, 0.004)
BATCH = 100
# Of the queries, those that are asked under filters one at a time.
FILTERED = 300


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the release binary")
    parser.add_argument("--data", help="a Parquet file with columns embedding and section")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dimension", type=int, default=384, help="of made data")
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--alone", action="store_true", help="without peers")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rows, chosen.queries = 3_000, 30
        life.SECONDS, life.LAGS, life.CALLS = 1, 20, 100
    return chosen


def measured(search, queries):
    """Queries a second, p99 in ms, and what was found."""
    found, took = [], []
    for query in queries:
        begin = time.perf_counter()
        found.append(search(query))
        took.append(time.perf_counter() - begin)
    return len(queries) / sum(took), 1e3 * sorted(took)[int(len(took) * 0.99)], found


def batched(search, batches):
    found, took = [], []
    for batch in batches:
        begin = time.perf_counter()
        found += search(batch)
        took.append(time.perf_counter() - begin)
    return len(found) / sum(took), 1e3 * statistics.median(took), found


def batches_of(door, queries):
    """The requests; as with single ones, making them is not measured."""
    return [door.prepared_batch(queries[at : at + BATCH]) for at in range(0, len(queries), BATCH)]


class World:
    """The points, the queries and the right answers."""

    def __init__(self, chosen):
        wanted = chosen.rows + chosen.queries
        if chosen.data:
            vectors, section = data.read(chosen.data, wanted)
        else:
            vectors, section = data.made(wanted, chosen.dimension)
        rng = np.random.default_rng(3)
        kept = np.ones(len(vectors), bool)
        kept[rng.permutation(len(vectors))[: chosen.queries]] = False
        self.queries = np.ascontiguousarray(vectors[~kept])
        self.vectors, self.section = np.ascontiguousarray(vectors[kept]), section[kept]
        self.part = rng.integers(0, 1_000, len(self.vectors)).astype(np.int32)
        self.truth = data.exact(self.vectors, self.queries, K)
        self.filtered_truth = {
            share: data.exact(self.vectors, self.queries, K, self.part < share * 1_000)
            for share in SHARES
        }

    def sweep(self, widths, run, recalls, truth):
        """What is the fastest that reaches each recall; else the best recall there was."""
        reached, best, short = {}, 0.0, 0
        for width in widths:
            qps, p99, found = run(width)
            recall = data.recall(self.vectors, self.queries[: len(found)], truth, found, K)
            best = max(best, recall)
            short = max(short, sum(len(ids) < K for ids in found))
            for least in recalls:
                if recall >= least and reached.get(least, (0,))[0] < qps:
                    reached[least] = (qps, p99, recall)
        cells = []
        for least in recalls:
            if least in reached:
                qps, p99, recall = reached[least]
                cells.append(f"{qps:,.0f} ({recall:.3f}, p99 {p99:.2f} ms)")
            else:
                cells.append(f"never; {best:.3f}")
        return cells, short

    def row(self, name, build, widths, run):
        cells, _ = self.sweep(widths, run, RECALLS, self.truth)
        return [name, f"{build:.1f} s", *cells]

    def filtered_row(self, name, widths, run):
        """`run` takes a width and the share that is kept."""
        cells = [name]
        for share, truth in self.filtered_truth.items():
            one = lambda width: run(width, share)  # noqa: B023,E731
            found, short = self.sweep(widths, one, (FILTERED_RECALL,), truth)
            cells.append(found[0] + (f"; up to {short} short answers" if short else ""))
        return cells

    def filtered_by(self, engine):
        """One query at a time, by an engine's own client."""
        some = [engine.prepare(query) for query in self.queries[:FILTERED]]
        run = lambda width, share: measured(lambda q: engine.filtered(q, K, width, share), some)  # noqa: E731
        return self.filtered_row(engine.name, engine.widths(), run)


def ours_rows(world, ours, client):
    queries = [ours.prepare(query) for query in world.queries]
    for width in (0, 64):
        measured(lambda q: ours.search(q, K, width), queries[:20])
    run = lambda width: measured(lambda q: ours.search(q, K, width), queries)  # noqa: E731
    yield world.row(f"{ours.name} (gRPC, one at a time)", ours.build, ours.widths(), run)
    if client:
        run = lambda width: client.run(K, width)  # noqa: E731
        yield world.row(client.name, ours.build, ours.widths(), run)
    batches = batches_of(ours.door, world.queries)
    run = lambda width: batched(lambda some: ours.door.found_batch(some, width), batches)  # noqa: E731
    yield world.row(f"{ours.name} (gRPC, batches of {BATCH})", ours.build, ours.widths(), run)


def ours_filtered(world, ours, client):
    """One at a time by both clients, then in batches: the peers in process pay for no call."""
    yield world.filtered_by(ours)
    if client:
        run = lambda width, share: client.run(K, width, where(share))  # noqa: E731
        yield world.filtered_row(client.name, ours.widths(), run)
    batches = batches_of(ours.door, world.queries)
    run = lambda width, share: batched(  # noqa: E731
        lambda some: ours.door.found_batch(some, width, where(share)), batches
    )
    yield world.filtered_row(f"{ours.name} (batches of {BATCH})", ours.widths(), run)


def compiled_rows(world, peer):
    """pgvector by pgbench: its row, and its row under filters."""
    queries = [peer.prepare(query) for query in world.queries]
    found = {
        width: [peer.search(query, K, width) for query in queries] for width in peer.widths()
    }
    client = compiled.PgBench(peer, world.queries)
    run = lambda width: (*client.run(K, width), found[width])  # noqa: E731
    row = world.row(client.name, peer.build, peer.widths(), run)
    run = lambda width, share: (  # noqa: E731
        *client.run(K, width, where(share)),
        [peer.filtered(query, K, width, share) for query in queries[:FILTERED]],
    )
    return row, world.filtered_row(client.name, peer.widths(), run)


def peer_rows(world, workdir):
    """Each peer's row, and its row under filters if it has them."""
    for kind in peers.ALL:
        try:
            peer = kind(world.vectors, world.part, workdir)
        except Exception as error:  # noqa: BLE001
            yield [kind.name, f"did not run: {type(error).__name__}: {error}", "", ""], None
            continue
        some = world.queries[:100] if kind is peers.SqliteVec else world.queries
        some = [peer.prepare(query) for query in some]
        run = lambda width: measured(lambda q: peer.search(q, K, width), some)  # noqa: B023,E731
        row = world.row(peer.name, peer.build, peer.widths(), run)
        yield row, world.filtered_by(peer) if hasattr(peer, "filtered") else None
        if kind is peers.Pgvector:
            yield compiled_rows(world, peer)
        peer.stop()


def lives(world, ours, before):
    """Ours over its life; what adds points that the right answers do not know comes last."""
    vectors, queries = world.vectors, world.queries
    yield from life.memory(ours, len(vectors), before)
    yield from life.costs(ours, queries, 64)
    yield from life.clients(ours, queries, 64)
    yield from life.lag(ours, queries)
    yield from life.churn(ours, vectors, queries, world.truth, 128)
    yield from life.cold(ours, queries)
    yield from life.writes_beside(ours, queries, vectors, 64)


def table(heads, rows):
    print("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)


def main():
    chosen = arguments()
    world = World(chosen)
    workdir = pathlib.Path(tempfile.mkdtemp(prefix="quarry-bench"))
    ours = Ours(chosen.binary, world.vectors, world.section, world.part)
    try:
        client = compiled.SearchClient(chosen.binary, ours, world.queries)
    except FileNotFoundError as missing:
        print(f"no compiled client: {missing}", file=sys.stderr)
        client = None
    try:
        rows = list(ours_rows(world, ours, client))
        filtered = list(ours_filtered(world, ours, client))
        for row, under_filters in [] if chosen.alone else peer_rows(world, workdir):
            rows.append(row)
            filtered += [under_filters] if under_filters else []
        # Again after the peers: both saw the same neighbours on the machine.
        again = list(ours_rows(world, ours, client)) if not chosen.alone else []
        rows += [[f"{row[0]}, again", *row[1:]] for row in again]
        size = f"{len(world.vectors):,} × {world.vectors.shape[1]}"
        print(f"\n{size}, {len(world.queries)} queries, recall@{K}, one client")
        table(["engine", "load and build", "queries/s at ≥ .95", "queries/s at ≥ .99"], rows)
        print(f"\nqueries/s at a recall of {FILTERED_RECALL} under a filter that keeps")
        table(["engine", *(f"{share:.1%}" for share in SHARES)], filtered)
        table(["ours, over its life", ""], lives(world, ours, ours.before))
    finally:
        ours.stop()
        shutil.rmtree(workdir, ignore_errors=True)


if __name__ == "__main__":
    main()
