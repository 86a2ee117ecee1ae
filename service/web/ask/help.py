"""How answers come about and are checked, and how often the check errs: the page's own help."""

from __future__ import annotations

from pathlib import Path

from kb.notes import PasskbError
from service.answering.check.error_rates import describe, load_checker_rates, load_judge_rates
from service.config import read_config
from service.web.components.html import text


def help_html(home: Path) -> str:
    return (
        '<details id="help" class="help"><summary>How answers are checked</summary>'
        "<p>A quoted answer is made of your notes’ own sentences, character for character; a number opens the sentence in its "
        "note. Whether the notes hold an answer at all is judged first: where they don’t, you see the nearest notes.</p>"
        "<p>A written answer is worded by the model that you set up. It gets numbered sentences of your notes and may cite "
        "those numbers only; each of its sentences is then compared with the sentences it cites: words, numbers, negations, "
        "directions and meaning. The mark behind a sentence says what came of it:</p>"
        '<dl class="marks-explained"><dt>✓</dt><dd>supported by what it cites</dd>'
        "<dt>◐</dt><dd>only a part of it is</dd>"
        "<dt>✗</dt><dd>not supported, or without a citation: an opinion of the model’s</dd>"
        "<dt>”</dt><dd>a quote, word for word</dd></dl>"
        "<p>A sentence that its source contradicts (another number, the other direction) is written again once, and left out "
        "when that does not mend it; what was left out stays listed below the answer. What the notes disagree on is told from "
        "both sides, by their authors’ links. Earlier questions help to understand a follow-up and are never cited. Nothing "
        "that a note or a model says can start an experiment: only your click does.</p>"
        f"{_figures(home)}</details>"
    )


def _figures(home: Path) -> str:
    """The check's own errors as they were measured, and those of a model that judges too."""
    parts = ["<h3>How often the check errs</h3>", _told(describe(load_checker_rates()))]
    try:
        measured, judges = load_judge_rates(home), read_config(home).llm_judge
    except PasskbError as error:
        return "".join([*parts, f'<p class="message">{text(error)}</p>'])
    for name, figures in measured.items():
        parts += [f"<h3>How often {text(name)} errs as a judge</h3>", _told(describe(figures))]
    if judges and not measured:
        told = "The model judges too (llm_judge). How often it errs was not measured here: passkb judge-check does that."
        parts.append(_told([told]))
    return "".join(parts)


def _told(sentences: list[str]) -> str:
    return f"<p>{text(' '.join(sentences))}</p>"
