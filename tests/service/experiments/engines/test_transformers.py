"""The embedded engine on a true, tiny Llama: against model.generate, its own scores, and what goes wrong."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments.engines.base import EngineError, Request, Settings
from service.experiments.engines.batching import Job, MemoryUse, Row, Workers, batch_size
from service.experiments.engines.factory import open_engine
from service.experiments.engines.memory import free_memory, weights_bytes
from service.experiments.engines.stream import Channel
from service.experiments.spec import ModelSpec
from service.experiments.types import Completion, Problem

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
engines = pytest.importorskip("service.experiments.engines.transformers")

PROMPTS = ["1 2 3 -> 6 :", "4 5 -> 9 :", "10 11 12 13 -> 46 :", "7 -> 7 :"]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Any]:
    opened = engines.TransformersEngine(ModelSpec(str(tiny_model)), str(tiny_model))
    yield opened
    opened.close()


def requests(n: int, stop: tuple[str, ...] = (), prompts: Sequence[str] = PROMPTS) -> list[Request]:
    return [Request(Problem(f"p{i}", "maths", prompt, {}, stop), prompt, 0, n, 1000 * i) for i, prompt in enumerate(prompts)]


def drawn(engine: Any, asked: Sequence[Request], **more: Any) -> list[Completion]:
    found = [c for completions in engine.sample(asked, Settings(**{"max_tokens": 12, **more})) for c in completions]
    return sorted(found, key=lambda c: (c.problem_id, c.attempt))


def test_greedy_is_what_generate_writes(engine: Any, tiny_model: Path) -> None:
    """Prompts of different lengths share a batch, padded on the left; generate gets each by itself."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    for prompt, found in zip(PROMPTS, drawn(engine, requests(1), temperature=0), strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        made = model.generate(ids, do_sample=False, max_new_tokens=12, attention_mask=torch.ones_like(ids))[0, ids.shape[1] :]
        text = tokenizer.decode(made, skip_special_tokens=True)
        assert (found.text.strip(), found.tokens) == (text.strip(), len(made))


def test_a_completions_logprob_is_its_score(engine: Any) -> None:
    """At temperature 1 the sum that sampling collected is what a forward pass over the text gives; and top-p changes it."""
    found = [c for c in drawn(engine, requests(16), logprobs=True) if c.finish == "length"]
    scores = engine.score([(PROMPTS[int(c.problem_id[1])], c.text) for c in found])
    same = [(c.logprob, total) for c, (total, tokens) in zip(found, scores, strict=True) if tokens == c.tokens]
    assert len(same) >= 20 and all(one == pytest.approx(other, abs=1e-3) for one, other in same)
    assert all(c.logprob is None for c in drawn(engine, requests(1)))


def test_neither_batch_nor_request_decides_what_an_attempt_draws(engine: Any, tiny_model: Path) -> None:
    """Alone, in chunks with the same seed, in another order: the same tokens."""
    whole = drawn(engine, requests(12))
    small = engines.TransformersEngine(ModelSpec(str(tiny_model)), str(tiny_model), rows=5)
    parts = [Request(r.problem, r.prompt, first, 4, r.seed) for r in reversed(requests(12)) for first in (8, 0, 4)]
    assert drawn(small, parts) == whole and len({c.text for c in whole}) > 40
    small.close()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.5, 1.0, 1.7]), st.sampled_from([0.3, 0.8, 1.0]))
def test_tokens_are_drawn_as_often_as_their_probability_says(seed: int, temperature: float, top_p: float) -> None:
    """20,000 draws from evenly spread numbers hit each token's share to within the spacing; log-probabilities are exact."""
    n = 20_000
    logits = torch.randn(9, generator=torch.Generator().manual_seed(seed)) * 2
    probabilities = torch.softmax(logits.double() / temperature, -1)
    order = probabilities.sort(descending=True).indices.tolist()
    kept, mass = [], 0.0
    for token in order:
        if mass < top_p:
            kept.append(token)
            mass += float(probabilities[token])
    uniform = ((torch.arange(n) + 0.5) / n)[:, None]
    chosen, logprob = engines.sample_token(logits.expand(n, -1), uniform, temperature, top_p)
    share = torch.bincount(chosen, minlength=9) / n
    for token in range(9):
        wanted = float(probabilities[token]) / mass if token in kept else 0.0
        assert float(share[token]) == pytest.approx(wanted, abs=2 / n)
        if wanted > 1e-3:
            assert float(logprob[chosen == token][0]) == pytest.approx(math.log(wanted), abs=1e-4)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_edges_of_a_draw_hit_only_tokens_that_can_come(uniform: float) -> None:
    logits = torch.tensor([[-math.inf, 0.0, 1.0, -math.inf]])
    for top_p in (1.0, 0.99):
        chosen, logprob = engines.sample_token(logits, torch.tensor([[uniform]]), 1.0, top_p)
        assert int(chosen) in (1, 2) and float(logprob) > -math.inf


def test_stops_end_a_completion_and_are_not_in_it(engine: Any) -> None:
    free, ended = drawn(engine, requests(32)), drawn(engine, requests(32, stop=(" 7", "->")))
    assert {c.finish for c in ended} == {"stop", "length"}
    for before, after in zip(free, ended, strict=True):
        places = [before.text.find(stop) for stop in (" 7", "->") if stop in before.text]
        assert after.text == (before.text[: min(places)] if places else before.text)
        assert (after.finish == "stop") == bool(places) or before.finish == "stop"
        assert after.tokens <= before.tokens


def test_the_end_of_a_text_is_a_token_that_counts(engine: Any) -> None:
    found = drawn(engine, requests(64), max_tokens=40)
    ended = [c for c in found if c.finish == "stop"]
    assert ended and all(c.tokens <= 40 and "</s>" not in c.text for c in ended)
    assert {c.tokens for c in found if c.finish == "length"} <= {40}


def test_chat_puts_the_prompt_into_the_models_template(tiny_model: Path) -> None:
    chat = engines.TransformersEngine(ModelSpec(str(tiny_model), chat=True), str(tiny_model))
    plain = drawn(chat, requests(1, prompts=["1 2"]), temperature=0)
    assert chat.texts.prompt_ids("1 2") == chat.texts.tokenizer("user : 1 2 assistant :")["input_ids"] and plain
    chat.close()


def test_leaving_takes_less_than_two_seconds_and_the_engine_goes_on(engine: Any) -> None:
    stream = engine.sample(requests(400), Settings(max_tokens=110))
    threading.Timer(0.3, stream.close).start()
    began = time.monotonic()
    assert len(list(stream)) < 4 and time.monotonic() - began < 2
    assert len(drawn(engine, requests(2))) == 8


def test_a_closed_engine_says_so(tiny_model: Path) -> None:
    """In a stream that never ends by itself, wherever it is; in a new one; and when asked to score."""
    opened = engines.TransformersEngine(ModelSpec(str(tiny_model)), str(tiny_model))
    stream = opened.sample(itertools.cycle(requests(4)), Settings(max_tokens=12))
    threading.Timer(0.2, opened.close).start()
    with pytest.raises(EngineError, match="closed"):
        for _ in stream:
            pass
    with pytest.raises(EngineError, match="closed"):
        next(opened.sample(requests(1), Settings(max_tokens=4)))
    with pytest.raises(EngineError, match="closed"):
        opened.score([("1", "2")])


def test_who_has_left_gets_no_thread_and_who_comes_late_is_told() -> None:
    """Sending ahead and leaving are different threads: what is sent after leaving must not be drawn for nobody."""
    drawn: list[Row] = []
    workers = Workers(lambda rows, stop: drawn.extend(rows) or [])  # type: ignore[func-returns-value]
    left, late = Channel(workers.leave), Channel(workers.leave)
    left.stop()
    workers.add(left, [Job(requests(1)[0], Settings(), left, [1])])
    workers.close()
    late.sent(1)
    workers.add(late, [Job(requests(1)[0], Settings(), late, [1])])
    with pytest.raises(EngineError, match="closed"):
        late.read()
    assert drawn == []


def test_short_memory_halves_the_rows_and_changes_nothing(
    engine: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forward pass of more than 6 rows fails as PyTorch does; the attempts come out the same. One row too many is told."""
    small = engines.TransformersEngine(ModelSpec(str(tiny_model)), str(tiny_model))
    limit, forward = 6, small.forward

    def short(model: Any, ids: Any, mask: Any, cache: Any) -> Any:
        if len(ids) > limit:
            raise torch.OutOfMemoryError("out of memory")
        return forward(model, ids, mask, cache)

    monkeypatch.setattr(small, "forward", short)
    assert drawn(small, requests(10)) == drawn(engine, requests(10)) and small.rows <= 10
    limit = 0
    with pytest.raises(EngineError, match=r"lower sampling\.max_tokens"):
        drawn(small, requests(1))
    small.close()


def test_a_prompt_that_does_not_fit_is_told(engine: Any) -> None:
    with pytest.raises(EngineError, match=r"problem p0 \(6 tokens\) with max_tokens 125 .*context of 128: lower"):
        drawn(engine, requests(1), max_tokens=125)
    with pytest.raises(EngineError, match="remove perplexity"):
        engine.score([("1 " * 100, "2 " * 29)])


def broken(tiny_model: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of the model with other entries in its config.json."""
    folder = shutil.copytree(tiny_model, tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return Path(folder)


def opened(model: str, tmp_path: Path, **more: Any) -> Any:
    return open_engine(ModelSpec(model, **more), Settings(), home_or_log_folder=tmp_path, seed=0)


def test_opening_records_what_is_in_force(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_model.parent)
    one = opened(f"./{tiny_model.name}", tmp_path, max_model_len=64)
    assert {"max_model_len": 64, "temperature": 1.0, "model": "./tiny"}.items() <= one.effective.items()
    assert "torch" in one.version and one.device and one.effective["dtype"] == "float32"
    one.close()


@pytest.mark.parametrize(
    "changes, more, told",
    [
        ({"model_type": "hal9000"}, {}, "can't be loaded .*hal9000"),
        ({"num_hidden_layers": 3}, {}, "lacks weights"),
        ({"intermediate_size": 7}, {}, "can't be loaded"),
        ({}, {"dtype": "float8"}, "unknown dtype 'float8'"),
        ({}, {"max_model_len": 500}, "more than the 128 tokens"),
    ],
)
def test_a_model_that_can_not_be_used_is_told(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], more: dict[str, Any], told: str
) -> None:
    with pytest.raises(EngineError, match=told):
        opened(str(broken(tiny_model, tmp_path, **changes)), tmp_path, **more)


def test_a_model_without_a_chat_template_is_told(tiny_model: Path, tmp_path: Path) -> None:
    folder = broken(tiny_model, tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(EngineError, match="no chat template"):
        opened(str(folder), tmp_path, chat=True)


def test_a_model_that_does_not_fit_is_told_before_it_is_read(tiny_model: Path, tmp_path: Path) -> None:
    folder = broken(tiny_model, tmp_path, dtype="bfloat16")
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.truncate(2**42)
    assert weights_bytes(folder, 4) == 2**43 and weights_bytes(folder, 0) == 2**42
    with pytest.raises(EngineError, match=r"needs 8796.1 GB as float32, but .* are free"):
        opened(str(folder), tmp_path)


@pytest.mark.parametrize(
    "model, told",
    [
        ("nobody/nothing", "neither a folder nor in the Hugging Face cache.*hf download nobody/nothing"),
        ("./nothing", "does not exist: correct the path"),
        ("/nothing/here", "does not exist: correct the path"),
        ("no model!", "neither a folder nor a valid hub name"),
    ],
)
def test_a_model_that_is_not_there_is_told(model: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=told):
        opened(model, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match=r"no config\.json"):
        opened(str(tmp_path / "empty"), tmp_path)


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 30)), min_size=1, max_size=8),
    st.integers(1, 64),
    st.integers(0, 10**6),
)
def test_a_batch_keeps_to_its_bounds(prompts: list[tuple[int, int]], most: int, free: int) -> None:
    """At least one row, never more than `most`, and otherwise within memory and the tokens read at once."""
    jobs = [
        Job(Request(Problem("p", "maths", ""), "", 0, n, 0), Settings(max_tokens=10), Channel(lambda _: None), [0] * length)
        for length, n in sorted(prompts)
    ]
    rows, need = [Row(job, i) for job in jobs for i in range(job.request.n)], MemoryUse(3, 50, 500)
    many = batch_size(rows, most, free, need)
    assert 1 <= many <= min(most, len(rows))
    longest = len(rows[many - 1].job.ids)
    if many > 1:
        assert many * (2 * (longest + 10) * 3 + 50) <= 0.6 * free
        assert len({id(row.job) for row in rows[:many]}) * longest <= 500


def test_memory_is_what_the_kernel_or_the_control_group_leaves(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  4 kB\n")
    assert free_memory(tmp_path) == 4096
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("3000\n")
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("1000\n")
    assert free_memory(tmp_path) == 2000 and free_memory() > 0
