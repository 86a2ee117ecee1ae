"""Written answers on a true vLLM server: keys held while decoding, words as they come, stopping, dying, coming back.

Its model writes noise and is fond of keys, so whatever is right in an answer is due to the server's constraint and our checks.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kb.embedding import MiniLM
from kb.knowledge_base import KnowledgeBase
from service.answering.check.entailment import EmbeddedChecker, Pair
from service.answering.check.judge import make_judge
from service.answering.generate.citations import answer_pattern, parse_draft
from service.answering.generate.prompts import SCORING_RULES, scoring_prompt
from service.answering.generate.rerank import parse_scores, scores_pattern
from service.cli.main import main
from service.llm.client import Interrupted, LanguageModel, ModelError, Stopped, Timeouts
from service.llm.completion import complete
from tests.service.answering.served_by_vllm import WINDOW, VLLMServer, write_model
from tests.service.answering.zebras import FLIES, QUESTION

ROOT = Path(__file__).parents[4]
PATIENT = Timeouts(tries=3, backoff=1.0, first_output=240.0, between_outputs=120.0, model_list=60.0)
ENDLESS = "(?:(?:[a-z]+Y)+Z){40}"  # a Z behind a Y comes once in thousands of tokens, so that this goes on to the limit
LONG = 15_000  # tokens: many seconds of them, even where nothing else runs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    python = ROOT / ".venv-vllm" / "bin" / "python"
    if not python.is_file():
        pytest.skip("vLLM is not installed: `make vllm`")
    folder = tmp_path_factory.mktemp("served")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "samples" / "vault").glob("*.md"))[:20])
    made = VLLMServer(python, write_model(folder / "model", text), folder / "vllm.log")
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def warm(server: VLLMServer) -> LanguageModel:
    """Writes something else each time."""
    return LanguageModel(server.url, timeouts=PATIENT, temperature=1.0)


def drawn(model: LanguageModel, prompt: str, held: str, most: int = 120) -> tuple[str, bool]:
    """A text, and whether the model came to its end."""
    text = ""
    try:
        for piece in model.stream("Cite.", prompt, max_tokens=most, pattern=held):
            text += piece.text
    except Interrupted:
        return text, False
    return text, True


def test_the_server_says_what_it_serves(warm: LanguageModel) -> None:
    assert (warm.name, warm.context, warm.constrains) == ("tiny", WINDOW, True)


def test_constrained_keys_hold_on_200_generations(warm: LanguageModel) -> None:
    asked = [(count, f"Passage {i} of {count}?") for count in (1, 3, 12, 20) for i in range(50)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: drawn(warm, one[1], answer_pattern(one[0])), asked))
        free = list(pool.map(lambda one: drawn(warm, one[1], "")[0], asked[50:66]))
    for (count, _), (text, ended) in zip(asked, found, strict=True):
        keys = re.findall(r"\[([^\[\]]*)\]", text)
        assert all(key in map(str, range(1, count + 1)) for key in keys), text
        assert not re.search(r"[\[\]【】]", re.sub(r"\[\d+\]", "", text if ended else re.sub(r"\[\d*\Z", "", text))), text
        assert not ended or re.fullmatch(answer_pattern(count), text), text
        assert all(sentence.keys and not sentence.removed for sentence in parse_draft(text, range(1, count + 1)) if ended), text
    ends = sum(ended for _, ended in found)
    assert ends >= 50 and len({text for text, _ in found}) >= 150, (ends, found[:5])
    assert len({key for text, _ in found[150:] for key in re.findall(r"\[(\d+)\]", text)}) >= 10
    loose = [key for text in free for key in re.findall(r"\[([^\[\]]*)\]", text)]
    assert any(key not in ("1", "2", "3") for key in loose), "without the constraint this model invents keys"


def test_grades_and_scores_are_held_to_their_form(warm: LanguageModel, minilm: MiniLM) -> None:
    judged = make_judge(warm, EmbeddedChecker(minilm))
    sentences = [f"{FLIES[:-1]} and {thing}." for thing in ("horses", "tents", "cows", "goats", "lamps")]
    grades = judged.check([Pair(sentence, [FLIES]) for sentence in sentences])
    assert judged.read == 5 and judged.remarks() == [] and all(grade.detail for grade in grades)
    found = complete(
        warm, SCORING_RULES, scoring_prompt(QUESTION, [("Flies", FLIES)] * 8), max_tokens=200, pattern=scores_pattern(8)
    )
    assert len(parse_scores(found, 8) or ()) == 8


def test_words_come_while_the_server_works_and_stopping_frees_it(server: VLLMServer, warm: LanguageModel) -> None:
    pieces: list[str] = []
    before = server.finished()
    with pytest.raises(Stopped):
        for piece in warm.stream("", "Go on.", max_tokens=LONG, pattern=ENDLESS, stop=lambda: len(pieces) >= 5):
            pieces.append(piece.text)
    assert len(pieces) == 5 and all(pieces)
    eventually(lambda: server.running() == 0)
    assert server.finished() == before, "the words came before the last was written, and the last never was"


def eventually(holds: Callable[[], bool]) -> None:
    """The server tells its counts a little late."""
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_answer_from_a_model_that_writes_noise_is_honest(
    server: VLLMServer, zebras: KnowledgeBase, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--home", str(zebras.home), "ask", QUESTION, "--llm", server.url, "--rescore", "--judge", "--json"])
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["answered"] and status == (3 if answer["fault"] else 0) and answer["fault"] in told.err
    assert answer["mode"] == "quoted" and "the answer quotes the notes instead" in answer["fault"], answer
    for statement in (*answer["statements"], *answer["dropped"]):
        assert statement["support"] in ("quoted", "unsupported"), statement
        for citation in statement["citations"]:
            note = zebras.store.note(citation["note_id"])
            assert note is not None and note.text[citation["start"] : citation["end"]] == citation["quote"]


def test_a_server_that_is_killed_and_started_again(server: VLLMServer, warm: LanguageModel) -> None:
    """Last, as it takes the time of a start."""
    text = ""
    with pytest.raises(Interrupted, match="try again"):
        for i, piece in enumerate(warm.stream("", "Go on.", max_tokens=LONG, pattern=ENDLESS)):
            text += piece.text
            if i == 5:
                server.kill()
    assert re.fullmatch("[a-zYZ]{5,}", text)
    with pytest.raises(ModelError, match="does not respond"):
        drawn(warm, "Are you there?", answer_pattern(3))
    server.start()
    again, ended = drawn(warm, "And now?", answer_pattern(3))
    assert again and (not ended or re.fullmatch(answer_pattern(3), again))
