"""How answers come about and are checked, and how often the check errs: the page's own help. Pure."""

from __future__ import annotations


def help_html(figures: str = "") -> str:
    """`figures`: HTML of the check's measured errors."""
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
        f"{figures}</details>"
    )
