"""The embedder: unit vectors that agree with sentence-transformers', from verified weights, without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kb.embedding import HashedWords, MiniLM, Vectors, model_folder
from kb.notes import PasskbError

ROOT = Path(__file__).parents[2]
REFERENCE = Path(__file__).with_name("reference_vectors.json")
TEXTS = [
    "pass@k counts a problem as solved when any of k attempts is right.",
    "short",
    "A paragraph of middling length on how a base model and its tuned sibling compare as the number of draws grows. " * 3,
    "",
    "Ünïcödé, 数学, and \U0001f642 \ud83d alone.",
]


def test_vectors_agree_with_sentence_transformers(minilm: MiniLM) -> None:
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    cosines = np.sum(minilm(reference["texts"]) * np.array(reference["vectors"]), axis=1)
    assert len(cosines) == 4 and cosines.min() > 0.999, cosines


@pytest.mark.parametrize("embedder", [MiniLM(), HashedWords()], ids=lambda embedder: embedder.name)
def test_a_batch_gives_each_text_its_own_unit_vector_in_order(embedder: MiniLM | HashedWords) -> None:
    batch = embedder(TEXTS)
    assert batch.shape == (len(TEXTS), embedder.size) and batch.dtype == np.float32
    assert np.allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-3)
    single = np.concatenate([embedder([text]) for text in TEXTS])
    nearness = single @ batch.T
    assert np.diag(nearness).min() > 0.999
    assert list(nearness.argmax(axis=1)) == list(range(len(TEXTS)))
    assert embedder([]).shape == (0, embedder.size)


def test_many_texts_of_all_lengths_are_batched_without_mixing_them_up(minilm: MiniLM) -> None:
    texts = [f"text number {i} " + "and more words " * (i * 7 % 60) for i in range(120)]
    batch = minilm(texts)
    for i in (0, 17, 59, 119):
        assert float(batch[i] @ minilm([texts[i]])[0]) > 0.999


def test_what_exceeds_the_model_is_cut_off_not_refused(minilm: MiniLM) -> None:
    long = "coverage and capability " * 300
    one, other = minilm([long + "zebra", long])
    assert float(one @ other) > 0.9999
    assert float(minilm([long[:400] + "zebra"])[0] @ minilm([long[:400]])[0]) < 0.9999


def test_changed_or_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder(), folder)
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    with pytest.raises(PasskbError, match=r"model\.safetensors is not the published all-MiniLM-L6-v2 .* reinstall"):
        MiniLM(folder)(["anything"])
    weights.unlink()
    with pytest.raises(PasskbError, match=r"model\.safetensors is missing"):
        MiniLM(folder)(["anything"])


def test_embedding_never_asks_for_pytorch() -> None:
    program = """
import sys
asked = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "sentence_transformers"):
            asked.append(name)
sys.meta_path.insert(0, Watch())
from kb.embedding import MiniLM
assert MiniLM()(["a text"]).shape == (1, 384)
print(asked)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_few_texts_get_through_while_many_are_embedded(minilm: MiniLM) -> None:
    """Batch by batch in turn: whoever asks a question does not wait for all notes that are being indexed."""
    many = [f"Otters number {i} keep a stone in a pouch beneath the arm, and crack mussels on it." for i in range(1500)]
    few = [f"Herons number {i} stand still." for i in range(3)]
    made: list[Vectors] = []
    begun = threading.Event()

    def embed() -> None:
        begun.set()
        made.append(minilm(many))

    minilm(few)
    thread = threading.Thread(target=embed)
    thread.start()
    assert begun.wait(60)
    beside = [minilm(few) for _ in range(3)]
    assert thread.is_alive() and not made
    thread.join()
    assert all(np.allclose(vectors, beside[0], atol=1e-2) for vectors in beside)
    assert np.allclose(made[0][::300], minilm(many[::300]), atol=2e-2)


def test_a_process_waits_at_its_end_for_callbacks_that_still_return() -> None:
    """A thread that returns into a Python that shuts down aborts the process."""
    program = """
import os
import time
from kb import embedding
count = embedding._Latch.count
def slow(latch):
    count(latch)
    time.sleep(0.5)
    os.write(1, b"returned")
embedding._Latch.count = slow
embedding.MiniLM()(["one", "two"])
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "returned")
