"""An answer as HTML: statements with citations, disagreements with both sides, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kb.notes import Note, NoteKind
from service.answering.answer import (
    Answer,
    Citation,
    Disagreement,
    EvidenceItem,
    Experiment,
    SourceNote,
    Statement,
    Support,
)
from service.answering.check.error_rates import describe, load_checker_rates, save_judge_rates
from service.web.ask.answer import Offer, answer_html
from service.web.ask.help import help_html
from service.web.ask.progress import MAX_QUESTION, history_html, question_problem
from service.web.ask.source_panel import Finding, source_articles_html, sources_html

TEXT = "Intro words.\n\nPass@k **shows reach**. It hides the rest.\n"
QUOTE = "Pass@k **shows reach**."


def citation(number: int = 1, note_id: str = "v/a", title: str = "Note A") -> Citation:
    start = TEXT.index(QUOTE)
    return Citation(number, note_id, title, start, start + len(QUOTE), QUOTE)


def answer(evil: str = "") -> Answer:
    first, second = citation(1, f"v/a{evil}", f"Note A{evil}"), citation(2, "v/b", "Note B")
    return Answer(
        question=f"What does pass@k show?{evil}",
        answered=True,
        statements=(
            Statement(QUOTE + evil, Support.QUOTED, (first,), "lede"),
            Statement("It hides the rest.", Support.PARTIAL, (second,)),
        ),
        disagreements=(
            Disagreement("v/b", f"v/a{evil}", "contradicts", f"because it counts luck{evil}", "Note B", f"Note A{evil}",
                         second, first),
        ),
        evidence=(EvidenceItem("v/e", f"Run{evil}", "r1", "v/a#c", f"Claim{evil}", "underpowered", f"2026-01-02{evil}"),),
        experiments=(Experiment("v/a#c", f"Claim{evil}", "Q?", f"A million draws{evil}", {}),),
        sources=(SourceNote(f"v/a{evil}", f"Note A{evil}", NoteKind.NOTE, f"gist{evil}"),),
        follow_ups=(f"And then?{evil}",),
        inquiries=(SourceNote("v/i", f"Asked{evil}", NoteKind.INQUIRY, ""),),
        seconds=0.4,
    )  # fmt: skip


def refusal(evil: str = "") -> Answer:
    nearest = (SourceNote("v/a", f"Note A{evil}", NoteKind.NOTE, f"gist{evil}"),)
    return Answer("Bread?", False, nearest=nearest, missing=(f"sourdough{evil}",), reason=f"The notes are about models.{evil}")


def test_every_statement_carries_marks_that_name_their_source(audit: Any) -> None:
    html = answer_html(answer(), "a1")
    assert '<a class="cite" href="#source-a1-1" data-cite="1" aria-label="Source 1: Note A"' in html
    assert '<p class="lede"><span class="statement">Pass@k <strong>shows reach</strong>.' in html
    assert 'aria-label="only partly supported by its sources"' in html
    audit(html)


def test_disagreement_names_both_sides_and_the_reason() -> None:
    html = answer_html(answer(), "a1")
    assert 'data-note="v/b">Note B</a> <em>contradicts</em> it' in html
    assert "because it counts luck." in html
    assert html.count("because") == 1


def test_streaming_shows_only_statements() -> None:
    html = answer_html(answer(), "a1", 1)
    assert "shows reach" in html and "It hides" not in html and "Where the notes disagree" not in html


def test_a_source_shows_its_paragraph_with_the_sentence_marked(audit: Any) -> None:
    notes = {"v/a": Note("v/a", "Note A", NoteKind.PAPER, TEXT)}
    html = source_articles_html(answer(), "a1", notes, lambda _: lambda target: None)
    assert audit(html).marked == "Pass@k shows reach."
    assert 'id="source-a1-1"' in html and "It hides the rest." in html and "Intro words" not in html
    assert "paper" in html and "Open note" in html


def test_a_refusal_shows_its_reason_and_the_closest_notes() -> None:
    html = answer_html(refusal(), "a1")
    assert "The notes are about models." in html and "<strong>sourdough</strong>" in html and "Note A" in html
    assert "What the notes say" not in html and sources_html(refusal()) == sources_html()
    assert "Sources" not in sources_html(refusal()) and 'class="slot"' in sources_html(refusal())


def test_nothing_in_an_answer_runs(evil: str, harmless: Callable[[str], None]) -> None:
    notes = {f"v/a{evil}": Note(f"v/a{evil}", f"Note A{evil}", text=TEXT + evil)}
    hostile = answer(evil)
    harmless(answer_html(hostile, "a1"))
    harmless(sources_html(hostile))
    harmless(source_articles_html(hostile, "a1", notes, lambda _: lambda target: target))
    harmless(answer_html(refusal(evil), "a1"))
    harmless(history_html([]))


def test_empty_and_long_questions_are_rejected() -> None:
    assert "Enter a question" in question_problem("")
    assert "2,000 characters" in question_problem("word " * 10_000) and question_problem("w" * MAX_QUESTION) == ""


def test_an_open_claim_offers_its_test_with_what_it_costs() -> None:
    html = answer_html(answer(), "a1", None, {"v/a#c": Offer("4,000 attempts, tokens unknown")})
    assert '<button type="button" class="act" data-start="v/a#c" aria-label="Run this experiment: Claim">' in html
    assert "4,000 attempts" in html and 'href="/?claim=v%2Fa%23c" data-fill="v/a#c"' in html
    again = answer_html(answer(), "a1", None, {"v/a#c": Offer("4,000 attempts", has_run=True)})
    assert 'data-start="v/a#c" data-again' in again and "Run again with a new seed</button>" in again


def test_a_test_that_cannot_run_shows_why_and_has_no_button() -> None:
    html = answer_html(answer(), "a1", None, {"v/a#c": Offer("", problem="there is no key 'limitt'")})
    assert "there is no key &#39;limitt&#39;" in html and "data-start" not in html
    assert "data-start" not in answer_html(answer(), "a1")


def test_evidence_has_its_own_citation_that_opens(audit: Any) -> None:
    findings = {"v/e": Finding(citation(3, "v/e", "Run"), Markup("<svg></svg>"))}
    html = answer_html(answer(), "a1", None, None, findings)
    assert 'data-cite="3"' in html and '<div class="curve"><svg></svg></div>' in html and "2026-01-02" in html
    notes = {"v/e": Note("v/e", "Run", NoteKind.EVIDENCE, TEXT), "v/a": Note("v/a", "Note A", text=TEXT)}
    articles = source_articles_html(answer(), "a1", notes, lambda note_id: lambda target: None, findings)
    assert 'id="source-a1-3" data-number="3"' in articles and "<mark>Pass@k </mark>" in articles
    audit(html)


def test_hostile_offers_are_escaped(evil: str, harmless: Callable[[str], None]) -> None:
    item = answer(evil)
    offers = {"v/a#c": Offer(evil, evil)}
    harmless(answer_html(item, "a1", None, offers, {"v/e": Finding(citation(3, f"v/e{evil}", evil))}))
    harmless(answer_html(item, "a1", None, {"v/a#c": Offer(evil)}))


def test_the_help_shows_error_rates(home: Path, audit: Any) -> None:
    figures = load_checker_rates()
    html = help_html(home)
    audit(html)
    assert describe(figures)[1] in html and "as a judge" not in html
    save_judge_rates(home, replace(figures, check="<b>judge", read=150))
    assert "Error rates of &lt;b&gt;judge as a judge" in help_html(home) and "150 of them" in help_html(home)
    (home / "judge_figures.json").write_text("{")
    assert "cannot be read" in help_html(home)


def test_the_help_mentions_an_unmeasured_judge(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("llm_judge = true\n")
    assert "has not been measured here" in help_html(home)
