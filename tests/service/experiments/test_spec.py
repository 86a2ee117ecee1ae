"""The spec: what is asked is what is run; an unknown or impossible wish is named before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.experiments.spec import SpecError, default_ks, from_mapping, read_spec

WHOLE = """
name: base-vs-tuned-countdown
question: Does the base model overtake the tuned one at large k?
claim: samples/does-rlvr-expand#crossover
problems: {set: countdown, limit: 200, seed: 0}
models:
  base:  {model: Qwen/Qwen2.5-1.5B, engine: vllm}
  tuned: {model: ./checkpoints/rlvr, engine: vllm}
sampling: {n: 128, temperature: 0.6, top_p: 0.95, max_tokens: 2048, seed: 0}
ks: [1, 2, 4, 8, 16, 32, 64]
prediction: {kind: crossover}
"""


def with_(**changes: Any) -> dict[str, Any]:
    small: dict[str, Any] = {"problems": {"set": "countdown"}, "models": {"base": "a", "tuned": "b"}}
    return {**small, **changes}


def test_the_contracts_own_example_is_read_and_round_trips() -> None:
    spec = read_spec(WHOLE)
    assert (spec.sampling.n, spec.models["tuned"].model, spec.ks[-1]) == (128, "./checkpoints/rlvr", 64)
    assert from_mapping(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"modles": {}}, "unknown key 'modles', did you mean 'models'"),
        ({"sampling": {"temprature": 1}}, r"unknown key 'sampling\.temprature', did you mean 'temperature'"),
        ({"sampling": {"n": 32}, "ks": [1, 64]}, "'ks' go up to 64, but there are only n = 32 attempts"),
        ({"sampling": {"n": "many"}}, r"'sampling\.n' must be a whole number, not 'many'"),
        ({"sampling": {"n": True}}, r"'sampling\.n' must be a whole number, not True"),
        ({"sampling": {"temperature": 0, "n": 8}}, "at temperature 0 all attempts are the same"),
        ({"sampling": {"screen": 64}}, "'screen' must be less than n"),
        ({"models": {}}, "one model, or two"),
        ({"models": {"a": "x", "b": "y", "c": "z"}}, "one model, or two"),
        ({"models": {"Base": "x", "base": "y"}}, "too similar for file names"),
        ({"models": {"base": "x", "base direct": "y"}}, "too similar for file names"),
        ({"models": {"a": {"model": "x", "engine": "vlm"}}}, "did you mean 'vllm'"),
        ({"models": {"a": {"model": "x", "engine": "openai"}}}, "models.a: the openai engine needs the 'url'"),
        ({"models": {"a": {"engine": "vllm"}}}, r"'models\.a\.model' is missing"),
        ({"models": {"a": {"model": "x", "template": "nothing"}}}, r"\{prompt\}"),
        ({"problems": {}}, "either 'set' or 'file'"),
        ({"problems": {"file": "x.jsonl"}}, "needs its 'format'"),
        ({"problems": 7}, "'problems' must be a mapping"),
        ({"direct": 4}, "for gsm8k and math only"),
        ({"prediction": {"kind": "crosover"}}, "did you mean 'crossover'"),
        ({"prediction": {"kind": "higher", "model": "other"}}, "one of base, tuned"),
        ({"prediction": {"kind": "no_difference", "k": 60}}, "must be from 1 to n/2 = 32"),
        ({"models": {"a": "x"}, "prediction": {"kind": "crossover"}}, "add a second model"),
        ({"ks": []}, "a list of whole numbers"),
        ({"ks": [0]}, "above zero"),
        ({"claim": 3}, "'claim' must be a text"),
    ],
)
def test_what_can_not_be_run_is_named_before_it_starts(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        from_mapping(with_(**change))


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "models: &m [*m]", "7", "&a [*a]", "\x00"])
def test_text_that_is_no_spec_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(SpecError, match="the spec"):
        read_spec(text)


@given(st.integers(1, 100_000))
def test_default_ks_are_powers_of_two_up_to_half_of_n_and_n_as_the_noisy_edge(n: int) -> None:
    ks = default_ks(n)
    assert ks[0] == 1 and ks[-1] == n and list(ks) == sorted(set(ks))
    assert all(k & (k - 1) == 0 and k <= max(1, n // 2) for k in ks[:-1])
    assert n < 4 or ks[-2] * 4 > n


def test_the_hash_is_of_what_decides_the_outcome() -> None:
    spec = from_mapping(with_())
    assert spec.sha256 == from_mapping(with_(name="other", question="?", claim="a#b")).sha256
    assert spec.sha256 != from_mapping(with_(sampling={"seed": 1})).sha256
    assert spec.sha256 != from_mapping(with_(models={"base": "a", "tuned": "c"})).sha256


def test_hashes_of_version_0_2_stay_so_that_its_runs_are_recognised() -> None:
    assert from_mapping(with_()).sha256 == "698b530841613aeceab89f5bbc8cdc03aa7acb46b543cfdf3aa5e1048313df49"
    assert read_spec(WHOLE).sha256 == "f0b5bc847fd0e0d661b55eb745e5ae9abcab308267b1d2e03ef4ed793bf3b993"
