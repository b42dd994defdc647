"""The index beside hnswlib, faiss, usearch and qdrant-edge, in process, one thread, in turns.

All get the same vectors and the same held-out queries. Rates are queries per second of
processor time, which neighbours on the machine disturb less than the clock; a peer's includes
its Python call, batched where it has a batch. Prints Markdown tables.

    bench.py --binary target/release/examples/ann-bench [--data FILE.parquet] [--quick]

`--data` is a table with an embedding column, as `tokens.py` makes by the million; without it the
vectors are made here: points near a few thousand curved clusters, kinder than real text.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import faiss
import hnswlib
import numpy as np
import pyarrow.parquet as parquet
import qdrant_edge as edge
from usearch.index import Index as Usearch

K = 10
LINKS, BUILD_EF = 16, 128
EFS = [16, 24, 32, 48, 64, 96, 128, 200, 300]
SHARES = [0.5, 0.07, 0.02, 0.004]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, help="ann-bench, an example of the crate ann")
    parser.add_argument("--data", help="a Parquet table with real embeddings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=60_000, help="of made data")
    parser.add_argument("--dimension", type=int, default=384, help="of made data")
    parser.add_argument("--peers", help="of all, with commas, e.g. hnswlib: of a million rows the others build for an hour")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rows, chosen.rounds = 3_000, 1
    return chosen


def vectors(chosen):
    """Base, queries and what each was taken from, of length one."""
    random = np.random.default_rng(1)
    if chosen.data:
        table = parquet.read_table(chosen.data, columns=["embedding"])
        values = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        values = values.astype("float32").reshape(len(table), -1)
        if chosen.quick:
            values = values[: chosen.rows]
    else:
        centres = random.normal(size=(chosen.rows // 20 + 1, 24))
        points = centres[random.integers(len(centres), size=chosen.rows)]
        points = np.tanh(points + 0.4 * random.normal(size=points.shape))
        shape = (24, chosen.dimension)
        values = points @ random.normal(size=shape) + 0.05 * random.normal(size=(chosen.rows, chosen.dimension))
        values = values.astype("float32")
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    order = random.permutation(len(values))
    held = min(1_000, len(values) // 10)
    return np.ascontiguousarray(values[np.sort(order[held:])]), values[order[:held]]


class Truth:
    """The exact answer; a found vector is right if it is as near as the last of it."""

    def __init__(self, base, queries, allowed=None):
        self.base, self.queries = base, queries
        hidden = np.zeros(len(base), bool)
        if allowed is not None:
            hidden[:] = True
            hidden[allowed] = False
        order, limit = [], []
        # Some at a time: all similarities of a million vectors are gigabytes.
        for some in np.array_split(queries, -(-len(queries) // 50)):
            similarity = some @ base.T
            similarity[:, hidden] = -2
            nearest = np.argpartition(-similarity, K, axis=1)[:, :K]
            order.append(nearest)
            limit.append(np.take_along_axis(similarity, nearest, 1).min(1) - 1e-6)
        self.limit, self.order = np.concatenate(limit), np.concatenate(order).astype("<u4")

    def recall(self, found):
        right = 0
        for query, limit, ids in zip(self.queries, self.limit, found):
            ids = np.asarray([i for i in ids if i >= 0], dtype=np.int64)
            right += int(np.sum(self.base[ids] @ query >= limit)) if len(ids) else 0
        return min(right / (K * len(self.queries)), 1.0)


class Hnswlib:
    name = "hnswlib f32"

    def __init__(self, base):
        self.index = hnswlib.Index(space="cosine", dim=base.shape[1])
        self.index.init_index(len(base), M=LINKS, ef_construction=BUILD_EF)
        self.index.add_items(base, num_threads=1)

    def search(self, queries, ef, allowed):
        self.index.set_ef(ef)
        return self.index.knn_query(queries, K, num_threads=1)[0].astype(np.int64)


class Faiss:
    name = "faiss HNSW f32"

    def __init__(self, base):
        faiss.omp_set_num_threads(1)
        self.index = self.made(base.shape[1])
        self.index.hnsw.efConstruction = BUILD_EF
        self.index.train(base)
        self.index.add(base)

    def made(self, dimension):
        return faiss.IndexHNSWFlat(dimension, LINKS, faiss.METRIC_INNER_PRODUCT)

    def search(self, queries, ef, allowed):
        selector = None if allowed is None else faiss.IDSelectorBatch(allowed)
        chosen = faiss.SearchParametersHNSW(efSearch=ef, sel=selector)
        return self.index.search(queries, K, params=chosen)[1]


class FaissSq(Faiss):
    name = "faiss HNSW SQ8"

    def made(self, dimension):
        kind = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexHNSWSQ(dimension, kind, LINKS, faiss.METRIC_INNER_PRODUCT)


class UsearchF32:
    name, dtype = "usearch f32", "f32"

    def __init__(self, base):
        self.index = Usearch(
            ndim=base.shape[1], metric="ip", dtype=self.dtype, connectivity=LINKS,
            expansion_add=BUILD_EF,
        )
        self.index.add(np.arange(len(base)), base, threads=1)

    def search(self, queries, ef, allowed):
        self.index.expansion_search = ef
        return self.index.search(queries, K, threads=1).keys.astype(np.int64)


class UsearchI8(UsearchF32):
    name, dtype = "usearch i8", "i8"


class QdrantEdge:
    name, quantised = "qdrant-edge f32", False

    def __init__(self, base):
        self.folder = tempfile.TemporaryDirectory()
        quantised = None
        if self.quantised:
            quantised = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, always_ram=True)
        graph = edge.HnswIndexConfig(
            m=LINKS, ef_construct=BUILD_EF, full_scan_threshold=10, max_indexing_threads=1
        )
        config = edge.EdgeConfig(
            vectors={"": edge.EdgeVectorParams(size=base.shape[1], distance=edge.Distance.Cosine)},
            hnsw_config=graph, quantization_config=quantised, max_search_threads=1,
            optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1),
        )
        self.shard = edge.EdgeShard.create(self.folder.name, config)
        parts = np.random.default_rng(5).random(len(base))
        for begin in range(0, len(base), 1_000):
            points = [
                edge.Point(i, base[i].tolist(), {"part": part_of(parts[i])})
                for i in range(begin, min(begin + 1_000, len(base)))
            ]
            self.shard.update(edge.UpdateOperation.upsert_points(points))
        kind = edge.PayloadSchemaType.Keyword
        self.shard.update(edge.UpdateOperation.create_field_index("part", kind))
        self.shard.optimize()

    def search(self, queries, ef, allowed):
        wanted = None
        if allowed is not None:
            match = edge.MatchAny([f"below {share}" for share in SHARES[SHARES.index(self.share):]])
            wanted = edge.Filter(must=[edge.FieldCondition("part", match=match)])
        found = []
        for query in queries.tolist():
            request = edge.QueryRequest(
                limit=K, query=edge.Query.Nearest(query), filter=wanted,
                params=edge.SearchParams(hnsw_ef=ef),
            )
            hits = self.shard.query(request)
            found.append([hit.id for hit in hits])
        return found


class QdrantEdgeSq(QdrantEdge):
    name, quantised = "qdrant-edge SQ8", True


def part_of(drawn):
    """The smallest share that a drawn number falls below."""
    return next((f"below {share}" for share in reversed(SHARES) if drawn < share), "above")


def peers(base, wanted):
    """Each peer whose name begins with one that is wanted, with its build's processor seconds."""
    for kind in [Hnswlib, Faiss, FaissSq, UsearchF32, UsearchI8, QdrantEdge, QdrantEdgeSq]:
        if wanted is not None and not kind.name.startswith(tuple(wanted.split(","))):
            continue
        begin = time.process_time()
        peer = kind(base)
        peer.build_seconds = time.process_time() - begin
        yield peer


def rates(peer, queries, truth, ef, rounds, allowed=None):
    """Queries per processor second, and recall."""
    taken = []
    for _ in range(rounds):
        begin = time.process_time()
        found = peer.search(queries, ef, allowed)
        taken.append(time.process_time() - begin)
    return len(queries) / statistics.median(taken), truth.recall(found)


class Ours:
    name = "quarry ann"

    def __init__(self, binary, folder, base, queries, extra=()):
        self.binary, self.folder = binary, pathlib.Path(folder)
        np.save(self.folder / "base.npy", base)
        np.save(self.folder / "queries.npy", queries)
        self.file = str(self.folder / "base.segment")
        built = self.run("build", self.folder / "base.npy", self.file, "threads=1", *extra)[0]
        self.build_seconds, self.built = built["cpu_seconds"], built

    def run(self, *words):
        command = [self.binary, *map(str, words)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in output.splitlines()]

    def search(self, truth, efs, rounds, allowed=None):
        np.save(self.folder / "truth.npy", truth.order)
        words = ["k=10", f"rounds={rounds}", "ef=" + ",".join(map(str, efs))]
        words.append(f"ids={self.folder / 'found.npy'}")
        if allowed is not None:
            np.save(self.folder / "allowed.npy", allowed.astype("<u4"))
            words.append(f"allowed={self.folder / 'allowed.npy'}")
        queries, truth_file = self.folder / "queries.npy", self.folder / "truth.npy"
        lines = self.run("search", self.file, queries, truth_file, *words)
        found = np.load(self.folder / "found.npy").reshape(len(efs), -1, K)
        return [
            (line["ef"], line["cpu_qps"], truth.recall(ids.astype(np.int64) - 1), line["strategy"])
            for line, ids in zip(lines, found)
        ]


def at_recall(results, recall):
    """The best rate with at least this recall."""
    good = [rate for _, rate, reached, *_ in results if reached >= recall]
    return max(good, default=None)


def shown(rate):
    return "–" if rate is None else f"{rate:,.0f}"


def main():
    chosen = arguments()
    base, queries = vectors(chosen)
    truth = Truth(base, queries)
    drawn = np.random.default_rng(5).random(len(base))
    filters = {share: np.flatnonzero(drawn < share) for share in SHARES}
    filtered_truth = {share: Truth(base, queries, allowed) for share, allowed in filters.items()}
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(chosen.binary, folder, base, queries)
        rows = {ours.name: (ours.build_seconds, ours.search(truth, EFS, chosen.rounds))}
        filtered = {ours.name: {}}
        for share, allowed in filters.items():
            filtered[ours.name][share] = ours.search(
                filtered_truth[share], [40, 64, 128], chosen.rounds, allowed
            )
        for peer in peers(base, chosen.peers):
            results = [(ef, *rates(peer, queries, truth, ef, chosen.rounds)) for ef in EFS]
            rows[peer.name] = (peer.build_seconds, results)
            if isinstance(peer, (Faiss, QdrantEdge)):
                filtered[peer.name] = {}
                for share, allowed in filters.items():
                    peer.share = share
                    filtered[peer.name][share] = [
                        (ef, *rates(peer, queries, filtered_truth[share], ef, 1, allowed))
                        for ef in [64, 128, 300]
                    ]
            # Ours again after each peer, so that both saw the same neighbours.
            again = ours.search(truth, EFS, chosen.rounds)
            rows[ours.name][1].extend(again)
        churn = ours.run("churn", ours.folder / "base.npy", ours.folder / "queries.npy", folder)[0]
        opened = ours.run("open", ours.file)[0]
    report(base, queries, ours, rows, filtered, churn, opened)


def report(base, queries, ours, rows, filtered, churn, opened):
    print(f"\n{len(base):,} × {base.shape[1]}, {len(queries):,} held-out queries, k = {K}, one thread")
    print(f"\n| index | build s | QPS at ≥ .95 | at ≥ .99 | recall at ef {EFS[-1]} |")
    print("|---|---|---|---|---|")
    for name, (build, results) in rows.items():
        if name == ours.name:
            # Several turns: the median of each ef.
            by_ef = {}
            for ef, rate, recall, *_ in results:
                by_ef.setdefault(ef, []).append((rate, recall))
            results = [
                (ef, statistics.median(r for r, _ in turns), turns[0][1])
                for ef, turns in by_ef.items()
            ]
        best = [at_recall(results, recall) for recall in (0.95, 0.99)]
        print(f"| {name} | {build:.1f} | {shown(best[0])} | {shown(best[1])} | {results[-1][2]:.4f} |")
    print("\n| filter | " + " | ".join(filtered) + " |")
    print("|---|" + "---|" * len(filtered))
    for share in SHARES:
        cells = []
        for results in filtered.values():
            rate = at_recall(results[share], 0.98)
            best = max(results[share], key=lambda result: result[2])
            cells.append(f"{shown(rate)} (recall to {best[2]:.4f})")
        print(f"| {share:.1%} | " + " | ".join(cells) + " |")
    print(f"\nresident {ours.built['resident_bytes_per_vector']:.0f} B a vector; ", end="")
    print(f"recall after 30 % churn {churn['recall']:.4f}; first answer after {opened['seconds']:.3f} s")


if __name__ == "__main__":
    main()
