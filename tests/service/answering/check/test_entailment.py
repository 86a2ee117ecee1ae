"""The check of sentences against their spans: what is supported, what is refused and why, and the labelled pairs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb.embedding import HashedWords, MiniLM
from service.answering.answer import Support
from service.answering.check.clauses import split_clauses, strip_markup
from service.answering.check.entailment import EmbeddedChecker, Pair, Reason
from service.answering.check.error_rates import LABELLED_PAIRS as PAIRS_FILE
from service.answering.check.error_rates import count_grades, load_checker_rates, load_labelled_pairs, parse_labelled_pair
from service.answering.check.numbers import find_missing, parse_numbers

HERE = Path(__file__).parents[1]
VAULT = HERE.parents[2] / "samples" / "vault"
BLIND = [json.loads(line) for line in PAIRS_FILE.read_text(encoding="utf-8").splitlines()]
PAIRS = [json.loads(line) for line in (HERE / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
SPAN = "Larger batches raised accuracy from 36 % to 73.6 % on MATH500, and they never hurt coverage."


@pytest.fixture(scope="module")
def checker(minilm: MiniLM) -> EmbeddedChecker:
    return EmbeddedChecker(minilm)


def graded(checker: EmbeddedChecker, sentence: str, *spans: str) -> tuple[str, str]:
    checked = checker.check([Pair(sentence, spans)])[0]
    return str(checked.grade), str(checked.reason)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (SPAN, (Support.SUPPORTED, "")),
        ("According to the notes, larger batches lifted accuracy from 36.0 to 73.6 % on MATH500.", (Support.SUPPORTED, "")),
        ("Larger batches never hurt coverage.", (Support.SUPPORTED, "")),
        ("Larger batches raised accuracy from 36 % to 76.3 % on MATH500.", (Support.UNSUPPORTED, Reason.NUMBER)),
        ("Larger batches lowered accuracy on MATH500.", (Support.UNSUPPORTED, Reason.DIRECTION)),
        ("Smaller batches raised accuracy on MATH500.", (Support.UNSUPPORTED, Reason.DIRECTION)),
        ("Larger batches did not raise accuracy on MATH500.", (Support.UNSUPPORTED, Reason.DIRECTION)),
        ("Larger batches raised accuracy from 36 % to 73.6 % on GSM8K.", (Support.UNSUPPORTED, Reason.SUBJECT)),
        ("Larger batches raised accuracy on MATH500, and the ministry paid for it.", (Support.PARTIAL, Reason.PARTLY)),
        ("The harbour was closed for repairs in winter.", (Support.UNSUPPORTED, Reason.NOT_COVERED)),
    ],
)  # fmt: skip
def test_a_sentence_is_graded_by_what_its_span_says(checker: EmbeddedChecker, sentence: str, expected: tuple[str, str]) -> None:
    assert graded(checker, sentence, SPAN) == expected


@pytest.mark.parametrize(
    ("sentence", "span"),
    [
        ("Llama beats Qwen on Minerva.", "Qwen beats Llama on Minerva."),
        ("Qwen is overtaken by Llama at large k.", "Qwen overtakes Llama at large k."),
        ("Voting tends to zero, while coverage tends to one.", "Coverage tends to zero, while voting tends to one."),
        ("The trace is an argument and not a computation.", "The trace is a computation and not an argument."),
        ("The task is unsolvable by search.", "The task is solvable by search."),
        ("The sampler held in more than 7 per cent of runs.", "The sampler held in 7 per cent of runs."),
    ],
)
def test_what_is_turned_round_is_another_direction(checker: EmbeddedChecker, sentence: str, span: str) -> None:
    assert graded(checker, sentence, span) == (Support.UNSUPPORTED, Reason.DIRECTION)
    assert graded(checker, span, span) == (Support.SUPPORTED, "")


@pytest.mark.parametrize(
    ("sentence", "span"),
    [
        ("All samplers lose coverage when they are tuned.", "Most samplers lose coverage when they are tuned."),
        ("Tuning always narrows the samples.", "Tuning often narrows the samples."),
        ("Only tuning narrows the samples.", "Tuning narrows the samples."),
        ("Tuning narrows the samples.", "Tuning may narrow the samples."),
        ("It is proven that tuning narrows the samples.", "Tuning probably narrows the samples."),
        ("High entropy causes high coverage.", "High entropy correlates with high coverage."),
        ("Coverage was completely flat in the trials.", "Coverage was nearly flat in the trials."),
    ],
)
def test_what_goes_beyond_its_span_claims_more(checker: EmbeddedChecker, sentence: str, span: str) -> None:
    assert graded(checker, sentence, span) == (Support.UNSUPPORTED, Reason.STRONGER)
    assert graded(checker, span, span) == (Support.SUPPORTED, "")
    assert graded(checker, span, sentence)[1] != Reason.STRONGER


@pytest.mark.parametrize(
    ("sentence", "span", "reason"),
    [
        (
            "Distillation reliably raises coverage but raises accuracy only with new knowledge.",
            "Distillation reliably raises accuracy but raises coverage only with new knowledge.",
            Reason.DIRECTION,
        ),
        (
            "Tuning brought OLMo 21.4 points, the report says.",
            "Tuning brought Qwen 21.4 points, while OLMo gained little, the report says.",
            Reason.SUBJECT,
        ),
        (
            "Zhao and colleagues taught a model string functions.",
            "Yuan and colleagues taught a model string functions.",
            Reason.SUBJECT,
        ),
    ],
)
def test_what_is_said_of_another_is_refused(checker: EmbeddedChecker, sentence: str, span: str, reason: str) -> None:
    assert graded(checker, sentence, span) == (Support.UNSUPPORTED, reason)
    assert graded(checker, span, span) == (Support.SUPPORTED, "")


def test_a_wording_too_free_to_be_sure_of_is_not_called_supported(checker: EmbeddedChecker) -> None:
    span = "Majority voting picks the answer that most samples give, which hides rare correct ones."
    assert graded(checker, "Rare correct answers stay hidden from majority voting.", span) == (Support.PARTIAL, Reason.FAR)
    assert graded(checker, "Majority voting picks the answer that most samples give.", span) == (Support.SUPPORTED, "")


def test_without_a_span_there_is_no_citation(checker: EmbeddedChecker) -> None:
    assert graded(checker, SPAN) == graded(checker, SPAN, "  \n") == (Support.UNSUPPORTED, Reason.NO_CITATION)


def test_several_spans_are_one_ground(checker: EmbeddedChecker) -> None:
    sentence = "HumanEval holds 164 problems, and the paper prints no intervals."
    one, other = "HumanEval holds 164 hand-written problems.", "The paper prints no confidence intervals."
    assert graded(checker, sentence, one)[0] != Support.SUPPORTED
    assert graded(checker, sentence, one, other) == (Support.SUPPORTED, "")


def test_pairs_are_graded_in_order_with_one_call_to_the_embedder(minilm: MiniLM) -> None:
    calls = []

    def count_grades(texts: Sequence[str]) -> object:
        calls.append(len(texts))
        return minilm(texts)

    pairs = [Pair(SPAN, [SPAN]), Pair(SPAN, []), Pair(SPAN.replace("36", "38"), [SPAN])]
    grades = [checked.grade for checked in EmbeddedChecker(count_grades).check(pairs)]  # type: ignore[arg-type]
    assert grades == [Support.SUPPORTED, Support.UNSUPPORTED, Support.UNSUPPORTED] and len(calls) == 1
    assert EmbeddedChecker(count_grades).check([]) == [] and len(calls) == 1  # type: ignore[arg-type]


@given(st.text(max_size=120), st.lists(st.text(max_size=120), max_size=3))
def test_any_text_gets_a_grade(sentence: str, spans: list[str]) -> None:
    checked = EmbeddedChecker(HashedWords()).check([Pair(sentence, spans)])[0]
    assert checked.grade in (Support.SUPPORTED, Support.PARTIAL, Support.UNSUPPORTED)
    assert bool(checked.reason) == (checked.grade != Support.SUPPORTED)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("36 % of 1,024 draws", [36, 1024]),
        ("thirty-six per cent of two hundred and five", [36, 205]),
        ("12 billion, 7B and 32k", [12e9, 7e9, 32e3]),
        ("one in a thousand, tenfold", [0.001, 10]),
        ("from 2e-21 to $3\\cdot 10^{-5}$", [2e-21, 3e-5]),
        ("GPT-4, AIME24, pass@16 and Qwen2.5 on several hundred of one kind", []),
        ("50–90 % at n=k=128", [50, 90, 128]),
    ],
)
def test_numbers_are_read_as_values(text: str, values: list[float]) -> None:
    assert [number.value for number in parse_numbers(text)] == pytest.approx(values)


@pytest.mark.parametrize(
    ("stated", "given", "lacks"),
    [
        ("36 %", "36.0 percent", False),
        ("99.9 %", "a reliability of 0.999", False),
        ("about 29 points", "28.8 points", False),
        ("exactly 29 points", "28.8 points", True),
        ("8 percent", "8 points", True),
        ("seventy-eight", "78", False),
        ("87", "78", True),
    ],
)
def test_numbers_agree_across_spellings(stated: str, given: str, lacks: bool) -> None:
    assert bool(find_missing(parse_numbers(stated), parse_numbers(given))) == lacks


@given(st.integers(2, 10**9))
def test_an_integer_is_the_same_with_and_without_thousands(value: int) -> None:
    assert not find_missing(parse_numbers(f"{value:,} runs"), parse_numbers(f"{value} runs"))
    assert find_missing(parse_numbers(f"{value + 1} runs"), parse_numbers(f"{value} runs"))


@given(st.text(max_size=200))
def test_clauses_keep_to_the_text(text: str) -> None:
    words = strip_markup(text)
    assert all(word.text in words for clause in split_clauses(words) for word in clause.words)


def test_the_pairs_quote_their_notes_and_no_span_is_on_both_sides() -> None:
    notes = {path.stem: path.read_text(encoding="utf-8") for path in VAULT.rglob("*.md")}
    split: dict[str, str] = {}
    for entry in (*PAIRS, *BLIND):
        assert entry["spans"], entry["id"]
        for span in entry["spans"]:
            assert span["quote"] in notes[span["note"]], entry["id"]
            if entry.get("split") in ("development", "held-out"):
                assert split.setdefault(span["quote"], entry["split"]) == entry["split"], entry["id"]
    assert len({entry["id"] for entry in (*PAIRS, *BLIND)}) == len(PAIRS) + len(BLIND) >= 1300
    assert not {entry["sentence"] for entry in PAIRS} & {entry["sentence"] for entry in BLIND}
    kinds = Counter(entry["kind"] for entry in BLIND)
    assert len(BLIND) == 160 and kinds["true"] == 72 and len(kinds) >= 8


def test_the_figures_that_the_app_shows_are_those_of_this_check(checker: EmbeddedChecker) -> None:
    """To a pair or two: another processor rounds otherwise."""
    shown, pairs = load_checker_rates(), load_labelled_pairs()
    now = count_grades("embedded", pairs, checker.check([entry.pair for entry in pairs]))
    assert shown.pairs == now.pairs == 160 and shown.check == "embedded"
    for label, row in now.counts.items():
        assert all(abs(shown.counts[label][grade] - count) <= 2 for grade, count in row.items()), (label, row)


def test_supported_is_right_in_nine_of_ten_on_sentences_it_never_saw(checker: EmbeddedChecker) -> None:
    figures = count_grades("embedded", load_labelled_pairs(), checker.check([entry.pair for entry in load_labelled_pairs()]))
    assert figures.precision("supported").share >= 0.9 and figures.recall("supported").share >= 0.5


def test_what_was_learned_is_not_forgotten(checker: EmbeddedChecker) -> None:
    pairs = [parse_labelled_pair(entry) for entry in PAIRS]
    figures = count_grades("embedded", pairs, checker.check([entry.pair for entry in pairs]))
    assert figures.precision("supported").share >= 0.94 and figures.recall("supported").share >= 0.7
