"""faiss-cpu itself: what it wrote comes in and is found as it finds it, what we wrote it reads."""

import json
import pickle

import faiss
import numpy as np
import pytest

ROWS, DIMENSION, K = 2_000, 24, 10


def vectors():
    """Clusters; no two distances are alike."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(40, DIMENSION))
    made = centres[rng.integers(40, size=ROWS)] + 0.3 * rng.normal(size=(ROWS, DIMENSION))
    return made.astype(np.float32)


def flat(base, ids):
    index = faiss.IndexFlatL2(DIMENSION)
    index.add(base)
    return index, np.arange(len(base))


def identified(base, ids):
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(DIMENSION))
    index.add_with_ids(base, ids)
    return index, ids


def hnsw(base, ids):
    index = faiss.IndexHNSWFlat(DIMENSION, 16)
    index.add(base)
    return index, np.arange(len(base))


def inverted(base, ids):
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIMENSION), DIMENSION, 16)
    index.train(base)
    index.add_with_ids(base, ids)
    return index, ids


def normalised(base, ids):
    index = faiss.IndexPreTransform(
        faiss.NormalizationTransform(DIMENSION, 2.0), faiss.IndexFlatIP(DIMENSION)
    )
    index.add(base)
    return index, np.arange(len(base))


@pytest.mark.parametrize("make", [flat, identified, hnsw, inverted, normalised])
def test_a_round_trip(server, namespace, tmp_path, make):
    base = vectors()
    index, ids = make(base, np.random.default_rng(6).permutation(10 * ROWS)[:ROWS])
    file = tmp_path / "faiss_index.bin"
    faiss.write_index(index, str(file))
    server.cli("namespaces", "create", namespace)
    space = f"{namespace}/s"
    report = server.json("vectors", "import-faiss", file, space)
    assert report["files"][0]["inserted"] == ROWS, report
    # The exact neighbours of some vectors: FAISS' own by a flat index of the same metric.
    exact = faiss.IndexFlatIP(DIMENSION) if index.metric_type == faiss.METRIC_INNER_PRODUCT else (
        faiss.IndexFlatL2(DIMENSION))
    stored = base.copy()
    if make is normalised:
        faiss.normalize_L2(stored)
    exact.add(stored)
    for query in (3, 500, 1_999):
        _, expected = exact.search(stored[query : query + 1], K)
        path = tmp_path / "query.json"
        path.write_text(json.dumps(stored[query].tolist()))
        found = server.json("vectors", "search", "--space", space, "--vector", path, "-k", K, "--exact")
        assert [int(hit["item_id"]) for hit in found["results"]] == ids[expected[0]].tolist()
    # Back: FAISS reads it, with the same ids and the same bits.
    out = tmp_path / "out.index"
    made = server.json("vectors", "export-faiss", space, out)
    assert made["vectors"] == ROWS and made["ids_are_items"], made
    back = faiss.read_index(str(out))
    assert (back.ntotal, back.d, back.metric_type) == (ROWS, DIMENSION, index.metric_type)
    order = faiss.vector_to_array(back.id_map)
    inner = faiss.downcast_index(back.index)
    rows = inner.reconstruct_n(0, ROWS)
    at = {int(item): row for row, item in enumerate(order)}
    assert sorted(at) == sorted(ids.tolist())
    came_back = rows[[at[int(item)] for item in ids]]
    if make is normalised:
        # Normalised anew: the same but for the rounding of FAISS' own sums.
        np.testing.assert_allclose(came_back, stored, rtol=1e-6, atol=1e-7)
    else:
        np.testing.assert_array_equal(came_back, stored)


def test_metadata_in_a_pickle_of_plain_data(server, namespace, tmp_path):
    """`faiss_index.bin` and `metadata.pkl`, as such pipelines leave them."""
    base = vectors()[:50]
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(base)
    file, metadata = tmp_path / "faiss_index.bin", tmp_path / "metadata.pkl"
    faiss.write_index(index, str(file))
    rows = [
        {"image_path": f"data/{at}.jpg", "width": at, "tags": ["a", "b"], "score": at / 7, "ok": at > 3}
        for at in range(50)
    ]
    server.cli("namespaces", "create", namespace)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        metadata.write_bytes(pickle.dumps(rows, protocol=protocol))
        space = f"{namespace}/p{protocol}"
        report = server.json("vectors", "import-faiss", file, space, "--metadata", metadata)
        assert report["files"][0]["inserted"] == 50, report
        found = server.json("vectors", "search", "--space", space, "--item", "7", "-k", 1, "--payload",
                            "--filter", 'width = 9 AND tags:"b"')
        assert found["results"][0]["payload"]["image_path"] == "data/9.jpg", found
    # One that would run something, and one that names a class, are read by nobody.
    metadata.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    refused = server.cli("vectors", "import-faiss", file, f"{namespace}/no", "--metadata", metadata, check=False)
    assert refused.returncode == 7 and "os system" in refused.stderr, refused
    assert not (tmp_path / "ran").exists()
