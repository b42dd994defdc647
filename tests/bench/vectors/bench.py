"""Vector search over gRPC, one query at a time and in batches, beside its peers in one run.

Prints one Markdown table: for each engine the queries a second at the first width of the walk
that reaches a recall@10 of .95 and of .99 against the exact answer, its p99, and its build time.
A row that never gets there says so.
"""

import argparse
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "harness/python"))
sys.path.insert(0, str(HERE))
import data  # noqa: E402
import peers  # noqa: E402
import quarry_server  # noqa: E402

K = 10
RECALLS = (0.95, 0.99)
BATCH = 100


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the release binary")
    parser.add_argument("--data", help="a Parquet file with columns embedding and section")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rows, chosen.queries = 3_000, 30
    return chosen


class Ours:
    """A Quarry whose space is loaded from a dataset, over gRPC by reflection."""

    def __init__(self, binary, vectors, section):
        import grpc
        import pyarrow as pa
        import pyarrow.flight as flight
        from google.protobuf import descriptor_pool, message_factory
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
            ProtoReflectionDescriptorDatabase,
        )

        self.server = quarry_server.Server(executable=binary)
        run = lambda *args: subprocess.run(  # noqa: E731
            [binary, "--server", self.server.url, "--token", self.server.token, *args],
            check=True, stdout=subprocess.DEVNULL,
        )
        run("namespaces", "create", "bench")
        flat = pa.array(vectors.reshape(-1))
        table = pa.table({
            "id": np.arange(len(vectors)),
            "section": section,
            "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        })
        client = flight.connect(self.server.flight)
        options = flight.FlightCallOptions(
            headers=[(b"authorization", f"Bearer {self.server.token}".encode())]
        )
        descriptor = flight.FlightDescriptor.for_path("bench", "d")
        writer, _ = client.do_put(descriptor, table.schema, options)
        writer.write_table(table, max_chunksize=10_000)
        writer.close()
        begin = time.perf_counter()
        size = str(vectors.shape[1])
        run("spaces", "create", "bench/d/s", "--dimension", size, "--metric", "cosine")
        run("vectors", "load", "bench/d", "--space", "s", "--vector-column", "embedding",
            "--id-column", "id")
        self.build = time.perf_counter() - begin
        self.channel = grpc.insecure_channel(
            self.server.address, options=[("grpc.max_receive_message_length", 1 << 28)]
        )
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        service = pool.FindServiceByName("quarry.vectors.v1.SearchService")
        self.metadata = [("authorization", f"Bearer {self.server.token}")]
        self.calls = {}
        for method in service.methods:
            request = message_factory.GetMessageClass(method.input_type)
            answer = message_factory.GetMessageClass(method.output_type)
            call = self.channel.unary_unary(
                f"/{service.full_name}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            self.calls[method.name] = (request, call)

    def widths(self):
        return [0, 32, 64, 128, 256, 512]

    def _fill(self, request, width):
        request.namespace, request.dataset, request.space, request.k = "bench", "d", "s", K
        request.ef = max(width, 0)
        return request

    def search(self, query, k, width):
        kind, call = self.calls["Search"]
        request = self._fill(kind(), width)
        request.query.vector.values.extend(query)
        return [int(hit.item_id) for hit in call(request, metadata=self.metadata).hits]

    def search_batch(self, queries, width):
        kind, call = self.calls["SearchBatch"]
        request = self._fill(kind(), width)
        for query in queries:
            request.queries.add().vector.values.extend(query)
        results = call(request, metadata=self.metadata).results
        return [[int(hit.item_id) for hit in result.hits] for result in results]

    def stop(self):
        self.channel.close()
        self.server.stop()


def measured(search, queries):
    """Queries a second, p99 in ms, and what was found."""
    found, took = [], []
    for query in queries:
        begin = time.perf_counter()
        found.append(search(query))
        took.append(time.perf_counter() - begin)
    return len(queries) / sum(took), 1e3 * sorted(took)[int(len(took) * 0.99)], found


def batched(search, queries):
    found, took = [], []
    for at in range(0, len(queries), BATCH):
        begin = time.perf_counter()
        found += search(queries[at : at + BATCH])
        took.append(time.perf_counter() - begin)
    return len(queries) / sum(took), 1e3 * statistics.median(took), found


def sweep(name, build, widths, run, truth):
    """A row of the table."""
    reached = {}
    best = 0.0
    for width in widths:
        qps, p99, found = run(width)
        recall = data.recall(*truth, found, K)
        best = max(best, recall)
        for least in RECALLS:
            if recall >= least and reached.get(least, (0,))[0] < qps:
                reached[least] = (qps, p99, recall)
    cells = [name, f"{build:.1f} s"]
    for least in RECALLS:
        if least in reached:
            qps, p99, recall = reached[least]
            cells.append(f"{qps:,.0f} ({recall:.3f}, p99 {p99:.2f} ms)")
        else:
            cells.append(f"never; {best:.3f}")
    return cells


def main():
    args = arguments()
    if args.data:
        vectors, section = data.read(args.data, args.rows + args.queries)
    else:
        vectors, section = data.made(args.rows + args.queries)
    held_out = np.random.default_rng(3).permutation(len(vectors))[: args.queries]
    queries = vectors[held_out]
    kept = np.ones(len(vectors), bool)
    kept[held_out] = False
    vectors, section = np.ascontiguousarray(vectors[kept]), section[kept]
    truth = data.exact(vectors, queries, K)
    rows = []
    workdir = pathlib.Path(tempfile.mkdtemp(prefix="quarry-bench"))
    ours = Ours(args.binary, vectors, section)
    try:
        for width in (0, 64):
            measured(lambda q: ours.search(q, K, width), queries[:20])
        rows.append(sweep(
            "**quarry** (gRPC, one at a time)", ours.build, ours.widths(),
            lambda width: measured(lambda q: ours.search(q, K, width), queries), truth,
        ))
        rows.append(sweep(
            f"**quarry** (gRPC, batches of {BATCH})", ours.build, ours.widths(),
            lambda width: batched(lambda some: ours.search_batch(some, width), queries), truth,
        ))
        for kind in peers.ALL:
            try:
                peer = kind(vectors, section, workdir)
            except Exception as error:  # noqa: BLE001
                rows.append([kind.name, f"did not run: {type(error).__name__}: {error}", "", ""])
                continue
            some = queries[:100] if kind is peers.SqliteVec else queries
            of = (truth[0][: len(some)], truth[1][: len(some)])
            run = lambda width: measured(lambda q: peer.search(q, K, width), some)  # noqa: B023,E731
            rows.append(sweep(peer.name, peer.build, peer.widths(), run, of))
            getattr(peer, "stop", lambda: None)()
    finally:
        ours.stop()
        shutil.rmtree(workdir, ignore_errors=True)
    print(f"\n{len(vectors):,} × {vectors.shape[1]}, {len(queries)} queries, recall@{K}, one client\n")
    print("| engine | load and build | queries/s at ≥ .95 | queries/s at ≥ .99 |\n|---|---|---|---|")
    for cells in rows:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
