"""Writes the golden files beside it: the same twelve vectors in each kind of index.

    python make.py      with faiss-cpu 1.15.1 and numpy
"""

import pathlib

import faiss
import numpy as np

HERE = pathlib.Path(__file__).parent
D = 6
VECTORS = ((np.arange(12 * D) * 37 % 101) / 50 - 1).astype("float32").reshape(12, D)
IDS = np.arange(12) * 10 + 7
INNER, L2 = faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2


def save(name, index, ids=None):
    if not index.is_trained:
        index.train(VECTORS)
    index.add(VECTORS) if ids is None else index.add_with_ids(VECTORS, ids)
    faiss.write_index(index, str(HERE / f"{name}.index"))
    if name.startswith(("sq", "ivf-sq", "centred")):
        restored = np.array([index.reconstruct(i) for i in range(12)]) if "ivf" not in name else None
        if restored is None:
            index.make_direct_map()
            restored = np.array([index.reconstruct(i) for i in range(12)])
        restored.astype("<f4").tofile(HERE / f"{name}.f32")


VECTORS.tofile(HERE / "vectors.f32")
save("flat-ip", faiss.IndexFlatIP(D))
save("flat-l2", faiss.IndexFlatL2(D))
save("flat-l1", faiss.IndexFlat(D, faiss.METRIC_L1))
save("id-map", faiss.IndexIDMap(faiss.IndexFlatL2(D)), IDS)
save("id-map-2", faiss.IndexIDMap2(faiss.IndexFlatIP(D)), IDS)
save("hnsw", faiss.IndexHNSWFlat(D, 4))
save("id-map-hnsw", faiss.IndexIDMap(faiss.IndexHNSWFlat(D, 4, INNER)), IDS)
coarse = faiss.IndexFlatL2(D)
save("ivf-full", faiss.IndexIVFFlat(coarse, D, 2), IDS)
coarse_2 = faiss.IndexFlatL2(D)
sparse = faiss.IndexIVFFlat(coarse_2, D, 11)
sparse.train(VECTORS)
save("ivf-many", sparse, IDS)
quantiser = faiss.ScalarQuantizer
for name, kind in [
    ("8bit", quantiser.QT_8bit), ("4bit", quantiser.QT_4bit), ("6bit", quantiser.QT_6bit),
    ("8bit-uniform", quantiser.QT_8bit_uniform), ("4bit-uniform", quantiser.QT_4bit_uniform),
    ("fp16", quantiser.QT_fp16), ("bf16", quantiser.QT_bf16),
]:
    save(f"sq-{name}", faiss.IndexScalarQuantizer(D, kind))
coarse_3 = faiss.IndexFlatL2(D)
save("ivf-sq", faiss.IndexIVFScalarQuantizer(coarse_3, D, 2, quantiser.QT_8bit))
normalise = faiss.NormalizationTransform(D, 2.0)
flat = faiss.IndexFlatIP(D)
save("normalised", faiss.IndexPreTransform(normalise, flat))
centre = faiss.CenteringTransform(D)
flat_2 = faiss.IndexFlatL2(D)
save("centred", faiss.IndexPreTransform(centre, flat_2))
save("pq", faiss.IndexPQ(D, 2, 2))
rotation = faiss.PCAMatrix(D, 3)
flat_3 = faiss.IndexFlatL2(3)
save("pca", faiss.IndexPreTransform(rotation, flat_3))
