"""Organisms: a family made from nothing, loads anywhere, never saw a held-out problem; the shipped one shows its mechanism."""

from __future__ import annotations

import hashlib
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.notes import PasskbError
from service.experiments.datasets.countdown import countdown, held_out
from service.experiments.graders.countdown import verify
from service.experiments.organisms.family import CAUTION, MEMBERS, Plan, describe, train_family
from service.experiments.types import Verdict

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from service.experiments.organisms import model as models  # noqa: E402
from service.experiments.organisms import training  # noqa: E402

SHIPPED = Path(__file__).parents[3] / "samples" / "models" / "countdown"
STEPS = {"base": 3, "tuned": 2, "distilled": 2}
QUICK: dict[str, Any] = {"size": "tiny", "steps": STEPS, "problems": 3, "attempts": 4, "device": "cpu"}
PROMPT = "3 7 12 6 -> 45 :"


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("organisms") / "quick"
    train_family(out, **QUICK, command="a test")
    return out


def load(folder: Path) -> tuple[Any, Any]:
    return (
        transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True),
        transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True),
    )


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_loads_by_the_auto_classes_and_writes(family: Path, member: str) -> None:
    model, tokenizer = load(family / member)
    given = tokenizer([PROMPT, "1 2 3 4 -> 10 :"], return_tensors="pt")
    torch.manual_seed(0)
    written = model.generate(**given, do_sample=True, max_new_tokens=5)
    assert written.shape[0] == 2 and 8 <= written.shape[1] <= 12
    files = "config.json generation_config.json model.safetensors organism.json tokenizer.json tokenizer_config.json"
    assert sorted(path.name for path in (family / member).iterdir()) == files.split()
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (family / member).iterdir())


def test_the_tokenizer_keeps_one_token_a_number_and_adds_nothing(family: Path) -> None:
    _, tokenizer = load(family / "base")
    ids = tokenizer(PROMPT)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == PROMPT.split(" ") and tokenizer.decode(ids) == PROMPT
    assert ids == models.ids_of([PROMPT])[0].tolist() and models.texts_of(torch.tensor([ids])) == [PROMPT]
    answer = "3 + 7 = 10 , 10 - 6 = 4 , 4 * 12 = 48"
    assert tokenizer.decode(tokenizer(answer)["input_ids"]) == answer
    # An engine that joins prompt and completion without a space between them still means the same tokens.
    assert tokenizer(PROMPT + answer)["input_ids"] == tokenizer(f"{PROMPT} {answer}")["input_ids"]
    assert (
        len(tokenizer) == models.ROWS and tokenizer.bos_token is None and tokenizer.eos_token_id == models.vocabulary()["<eos>"]
    )
    assert "<unk>" in tokenizer.convert_ids_to_tokens(tokenizer("100 apples")["input_ids"])


def test_the_small_size_is_the_one_that_was_tried() -> None:
    assert models.new_model("small", 0).num_parameters() == 656_256


def test_a_family_records_how_it_was_made_and_measured(family: Path) -> None:
    told = describe(family)
    assert (
        list(told["members"]) == list(MEMBERS)
        and CAUTION in told["sentences"]
        and set(told["compared"]) == {"tuned", "distilled"}
    )
    for member, record in told["members"].items():
        assert (
            record["lineage"] == Plan(0, "tiny", STEPS).lineage(member)
            and record["command"] == "a test"
            and record["device"] == "cpu"
        )
        assert record["measured"]["problems_sha256"] == countdown(3).sha256 and len(record["measured"]["passed"]) == 3
        assert {"torch", "transformers", "seconds", "held_out"} <= record.keys()
        assert describe(family / member)["caution"] == CAUTION


def test_training_again_makes_nothing_and_another_seed_is_refused(family: Path) -> None:
    lines: list[str] = []
    before = {member: weights(family / member) for member in MEMBERS}
    train_family(family, **QUICK, progress=lines.append)
    assert not any("step" in line for line in lines) and before == {member: weights(family / member) for member in MEMBERS}
    with pytest.raises(PasskbError, match=r"has another organism .*seed 0.*use another folder"):
        train_family(family, **QUICK, seed=1)


def test_an_interrupted_family_goes_on_after_its_finished_stages_and_comes_out_the_same(family: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    def stop_in_tuned(line: str) -> None:
        lines.append(line)
        if line.startswith("tuned: step 2 of 2") and len(lines) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_family(tmp_path, **QUICK, progress=stop_in_tuned)
    assert [path.name for path in tmp_path.iterdir()] == ["base"] and describe(tmp_path)["compared"] == {}
    train_family(tmp_path, **QUICK, progress=stop_in_tuned)
    assert Counter(line.partition(":")[0] for line in lines if " step " in line) == {"base": 3, "tuned": 4, "distilled": 2}
    assert [weights(tmp_path / member) for member in MEMBERS] == [weights(family / member) for member in MEMBERS]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size": "huge"}, "unknown size 'huge'"),
        ({"steps": {"tunde": 3}}, "unknown stage 'tunde'"),
        ({"steps": {"tuned": 0}}, "stage tuned needs at least one step"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_what_can_not_be_trained_is_said_before_anything_is_made(
    tmp_path: Path, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PasskbError, match=sentence):
        train_family(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(PasskbError, match="is not an organism: train into another folder"):
        train_family(tmp_path, **QUICK)
    with pytest.raises(PasskbError, match="is not an organism: train one"):
        describe(tmp_path)
    for text in ("{", "[]", '{"member": "base"}'):
        (tmp_path / "base" / "organism.json").write_text(text)
        with pytest.raises(PasskbError, match=r"train (it|the organism) again"):
            describe(tmp_path)


def test_without_pytorch_a_family_is_described_and_training_says_what_to_install(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.experiments import organisms

    for name in ("training", "model"):
        monkeypatch.delitem(sys.modules, f"service.experiments.organisms.{name}")
        monkeypatch.delattr(organisms, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert describe(family)["members"]
    with pytest.raises(PasskbError, match="training needs torch: pip install"):
        train_family(tmp_path, **QUICK)


# What they are taught


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_no_row_of_worked_solutions_touches_a_held_out_problem(seed: int) -> None:
    rng = random.Random(seed)
    for row in (training.noisy_row(rng), training.solved_row(rng)):
        numbers, target, ends = taken_apart(row)
        assert not any(held_out(numbers, end) for end in (target, ends))


def test_half_of_the_noisy_rows_are_right_and_all_of_the_solvers() -> None:
    rng = random.Random(0)

    def right(row: training.Row) -> bool:
        numbers, target, _ = taken_apart(row)
        return verify(numbers, target, row[1].removesuffix(" <eos>")).verdict is Verdict.PASS

    noisy = [right(training.noisy_row(rng)) for _ in range(2_000)]
    assert 0.46 < sum(noisy) / len(noisy) < 0.56
    assert all(right(training.solved_row(rng)) for _ in range(100))


def taken_apart(row: training.Row) -> tuple[list[int], int, int]:
    """The numbers, the target that is asked for, and what the last equality really comes to."""
    prompt, completion = row
    assert completion.endswith(" <eos>") and len(completion.split(" ")) == training.LONGEST
    left, right = prompt.removesuffix(" :").split(" -> ")
    a, sign, b = completion.removesuffix(" <eos>").split(" ")[-5:-2]
    worth = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": int(a) // (int(b) or 1)}
    return [int(number) for number in left.split(" ")], int(right), worth[sign]


def test_advantages_are_within_a_problem_and_none_where_all_fare_alike() -> None:
    found = training.advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    assert found[0].tolist() == pytest.approx([3**0.5, *[-(3**-0.5)] * 3], abs=1e-4)
    assert found[1:].tolist() == [[0.0] * 4] * 2


def test_only_tokens_up_to_the_first_end_mark_count() -> None:
    end = models.vocabulary()["<eos>"]
    mask = training.up_to_end(torch.tensor([[5, end, 7, end], [5, 6, 7, 8], [end, end, 5, 5]]))
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


# The shipped family


@pytest.mark.parametrize("member", MEMBERS)
def test_the_shipped_family_answers_in_its_format(member: str) -> None:
    model, tokenizer = load(SHIPPED / member)
    problem = countdown(1).problems[0]
    given = tokenizer([problem.prompt] * 64, return_tensors="pt")
    torch.manual_seed(0)
    written = model.generate(**given, do_sample=True, max_new_tokens=24)[:, given["input_ids"].shape[1] :]
    texts = tokenizer.decode(written, skip_special_tokens=True)
    judged = [verify(problem.gold["numbers"], problem.gold["target"], text) for text in texts]
    assert sum(judgement.formatted for judgement in judged) >= 60, texts[:4]


def test_the_shipped_tuned_model_is_ahead_of_its_base_at_one_attempt() -> None:
    asked, n = countdown(128).problems[:48], 16
    with training.on("cpu", 1) as device:
        rates = {
            member: sum(training.count_passed(SHIPPED / member, asked, n, 1, device)) / (len(asked) * n) for member in MEMBERS
        }
    assert rates["base"] + 0.05 < rates["tuned"]
    for member, rate in rates.items():
        claimed = describe(SHIPPED / member)["measured"]
        assert claimed["problems_sha256"] == countdown(128).sha256
        assert rate == pytest.approx(sum(claimed["passed"][:48]) / (48 * claimed["n"]), abs=0.06)


def test_the_shipped_family_follows_from_the_plan_it_names() -> None:
    told = describe(SHIPPED)
    for member, record in told["members"].items():
        assert record["lineage"] == Plan().lineage(member) and record["parameters"] == 656_256
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 9_000_000
