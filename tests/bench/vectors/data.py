"""Vectors with neighbourhoods: real ones from a file, or made ones that have topics as texts have.

Random vectors have no neighbourhoods, and mislead; what is made here are mixtures of topics with
a few directions each, of unit length, so that near ones exist and are not all alike.
"""

import numpy as np

# Vectors that are worked on at once.
SOME = 50_000
QUERIES = 100


def made(rows, dimension=384, seed=7):
    rng = np.random.default_rng(seed)
    topics = max(8, rows // 150)
    centres = rng.standard_normal((topics, dimension)) * (np.arange(dimension) + 1.0) ** -0.35
    centres = centres.astype(np.float32)
    directions = rng.standard_normal((topics, 6, dimension), dtype=np.float32) * np.float32(0.35)
    topic = (topics * rng.random(rows) ** 1.7).astype(int)
    vectors = np.empty((rows, dimension), np.float32)
    for at in range(0, rows, SOME):
        of = topic[at : at + SOME]
        some = rng.standard_normal((len(of), dimension), dtype=np.float32) * np.float32(0.05)
        some += centres[of]
        for way in range(6):
            some += rng.standard_normal((len(of), 1), dtype=np.float32) * directions[of, way]
        some /= np.linalg.norm(some, axis=1, keepdims=True)
        vectors[at : at + SOME] = some
    section = np.array(["s%02d" % at for at in range(20)])
    return vectors, section[np.minimum(19, (topic**0.6).astype(int))]


def read(path, rows):
    import pyarrow.parquet as parquet

    table = parquet.read_table(path, columns=["embedding", "section"]).slice(0, rows)
    embedding = table["embedding"].combine_chunks()
    flat = embedding.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors = flat.reshape(len(table), -1)
    # Halves are of unit length only roughly; the peers' metrics should agree with ours.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, np.array(table["section"].to_pylist())


def exact(vectors, queries, k, kept=None):
    """The k-th highest similarity of each query, among those that are kept; ties count as hits."""
    kth = []
    for at in range(0, len(queries), QUERIES):
        scores = queries[at : at + QUERIES] @ vectors.T
        if kept is not None:
            scores[:, ~kept] = -2
        kth.append(-np.partition(-scores, k - 1, axis=1)[:, k - 1])
    return np.concatenate(kth)


def recall(vectors, queries, kth, found, k):
    hits = 0
    for query, least, ids in zip(queries, kth, found):
        ids = np.asarray(ids[:k], dtype=np.int64)
        hits += min(k, int(np.sum(vectors[ids] @ query >= least - 1e-5)))
    return hits / (k * len(found))
