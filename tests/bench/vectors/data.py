"""Vectors with neighbourhoods: real ones from a file, or made ones that have topics as texts have.

Random vectors have no neighbourhoods, and mislead; what is made here are mixtures of topics with
a few directions each, of unit length, so that near ones exist and are not all alike.
"""

import numpy as np


def made(rows, dimension=384, seed=7):
    rng = np.random.default_rng(seed)
    topics = max(8, rows // 150)
    centres = rng.standard_normal((topics, dimension)) * (np.arange(dimension) + 1.0) ** -0.35
    directions = rng.standard_normal((topics, 6, dimension)) * 0.35
    topic = (topics * rng.random(rows) ** 1.7).astype(int)
    weights = rng.standard_normal((rows, 6))
    vectors = centres[topic] + np.einsum("rk,rkd->rd", weights, directions[topic])
    vectors += rng.standard_normal((rows, dimension)) * 0.05
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    section = np.array(["s%02d" % min(19, int(t**0.6)) for t in topic])
    return vectors.astype(np.float32), section


def read(path, rows):
    import pyarrow.parquet as parquet

    table = parquet.read_table(path, columns=["embedding", "section"]).slice(0, rows)
    embedding = table["embedding"].combine_chunks()
    flat = embedding.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return flat.reshape(len(table), -1), np.array(table["section"].to_pylist())


def exact(vectors, queries, k):
    """The k nearest by cosine, for recall; ties count as hits."""
    scores = queries @ vectors.T
    kth = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    return scores, kth


def recall(scores, kth, found, k):
    hits = 0
    for row, ids in enumerate(found):
        hits += min(k, sum(scores[row, i] >= kth[row] - 1e-5 for i in ids[:k]))
    return hits / (k * len(found))
