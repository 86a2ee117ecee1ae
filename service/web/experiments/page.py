"""One run as a page, and the list of runs, as HTML. Pure: everything is in the RunView; the curve is drawn elsewhere.

While a run goes on its page keeps its elements and changes their words, so that neither focus nor a listener's place is lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from service.experiments.execution.run_store import RunStatus
from service.web.components.formatting import day, duration, percent
from service.web.components.html import counted, note_link, run_link, sentence, text
from service.web.components.markdown import inline
from service.web.experiments.run_view import RunLine, RunView

_STATES: Mapping[str, str] = {
    "queued": "Waiting for a worker",
    "running": "Running",
    "succeeded": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled; what was drawn is kept",
    "interrupted": "Interrupted; the next worker goes on from where it stands",
}
_LEDE = 220  # characters
_TOY = "A toy family: {} made from nothing, to show the mechanism. What comes out says nothing about large models."
_SCRIPTED = "A dry run: the scripted engine makes completions up by a rule. What comes out says nothing about any model."


def status_word(word: str, label: str = "") -> str:
    """A verdict or status as a word with a sign of its own shape."""
    return f'<span class="status {text(word)}">{text(label or word)}</span>' if word else ""


# -- the list --------------------------------------------------------------------------------------------------------


def list_html(lines: Sequence[RunLine], shown: str = "") -> str:
    """The runs, newest first; `shown` is the one that is open."""
    new = '<p><a href="/?run=" data-new>New experiment</a></p>'
    if not lines:
        return f'<h2>Runs</h2>{new}<p class="quiet">No experiment was run here yet.</p>'
    items = "".join(_listed(line, line.id == shown) for line in lines)
    return f'<h2>Runs <span class="count">{len(lines)}</span></h2>{new}<ul class="link-list runs">{items}</ul>'


def _listed(line: RunLine, shown: bool) -> str:
    share = "" if line.share is None or line.status != "running" else f", {100 * line.share:.0f} %"
    word = status_word(line.verdict) if line.verdict else status_word(line.status, f"{line.status}{share}")
    current = ' aria-current="page"' if shown else ""
    link = run_link(line.id, line.name or line.id)
    return f'<li{current}>{link} {word} <span class="quiet when">{text(day(line.created))}</span></li>'


# -- one run ---------------------------------------------------------------------------------------------------------


def title_html(view: RunView) -> str:
    """What is asked, of what, and where it is claimed."""
    spec = view.spec
    where = note_link(view.claim.rsplit("#", 1)[0], view.claim) if view.claim else ""
    claim = f'<p class="quiet">On the claim {where}</p>' if where else ""
    question = f'<p class="gist">{inline(spec.question)}</p>' if spec.question else ""
    created = day(str(view.state.get("created", "")))
    return f'<p class="overline">experiment · {text(created)}</p><h1>{text(spec.name or view.id)}</h1>{question}{claim}'


def status_html(view: RunView, trouble: str = "") -> str:
    """The verdict in a sentence, where the run stands, and what to do about what went wrong. `trouble`: with the worker."""
    done = view.status is RunStatus.SUCCEEDED
    said, more = in_short(str(view.prediction.get("sentence") or "")) if done else (_so_far(view), "")
    verdict = status_word(str(view.prediction.get("verdict") or "")) if done else ""
    error = str(view.state.get("error") or "") if view.status is RunStatus.FAILED else ""
    problems = [error, view.problem, trouble if view.status in (RunStatus.QUEUED, RunStatus.INTERRUPTED) else ""]
    toys, share = _toy(view), _share(view)
    return (
        f'<p class="lede"{"" if said else " hidden"}>{text(said)}</p>'
        f'<p class="more"{"" if more else " hidden"}>{text(more)}</p>'
        f'<p class="where">{verdict} <span>{text(_where(view))}</span></p>'
        f'<p class="bar"{"" if view.live else " hidden"}><progress max="1000" value="{share * 1000:.0f}" aria-label="Progress">'
        f"</progress></p>"
        f'<p class="for-listeners" role="status">{text(_heard(view, share))}</p>'
        f'<div class="problems">{"".join(map(sentence, filter(None, problems)))}</div>'
        f'<p class="toy"{"" if toys else " hidden"}>{text(toys)}</p>'
    )


def in_short(said: str) -> tuple[str, str]:
    """The first sentence or two, and the rest."""
    sentences = re.split(r"(?<=[.:]) (?=[A-Z])", said)
    first = 1 + (len(sentences) > 1 and len(sentences[0]) + len(sentences[1]) <= _LEDE)
    return " ".join(sentences[:first]), " ".join(sentences[first:])


def _so_far(view: RunView) -> str:
    """The smallest and the largest claimed k as they stand; no verdict, which a glance at a curve in progress would bias."""
    models = view.result.get("models") or ()
    curves = {str(model["name"]): {entry["k"]: entry["estimate"] for entry in model["pass_at_k"]} for model in models}
    curves = {name: curve for name, curve in curves.items() if any(value is not None for value in curve.values())}
    ks = [k for k in view.spec.claimed_ks if all(curve.get(k) is not None for curve in curves.values())] if curves else []
    told = (
        f"pass@{k}: " + ", ".join(f"{name} {percent(curve[k])}" for name, curve in curves.items())
        for k in dict.fromkeys((*ks[:1], *ks[-1:]))
    )
    return f"So far {'; '.join(told)}." if ks else ""


def _toy(view: RunView) -> str:
    """What says nothing about large models says so."""
    if view.toys:
        return _TOY.format(f"{' and '.join(view.toys)} {'were' if len(view.toys) > 1 else 'was'}")
    return _SCRIPTED if any(model.engine == "scripted" for model in view.spec.models.values()) and not view.imported else ""


def _share(view: RunView) -> float:
    total = view.progress.get("total") or 0
    return min(1.0, view.progress.get("done", 0) / total) if total else 0.0


def _where(view: RunView) -> str:
    """`Running, base: 3,200 of 6,400 attempts, 120 a second, about 30 s left, 12,000 tokens.`"""
    words, progress = _STATES[view.status], view.progress
    if view.status is RunStatus.SUCCEEDED and not view.evidence:
        words = "All attempts are made; the evidence note is being written"
    if not progress or view.status is RunStatus.QUEUED:
        return f"{words}."
    if view.status is RunStatus.RUNNING:
        words += f", {progress.get('model', '')}{' (starting)' if progress.get('doing') == 'starting' else ''}"
    done, total = progress.get("done", 0), progress.get("total", 0)
    parts = [f"{words}: {done:,} of {counted(total, 'attempt')}" if done < total else f"{words}: {counted(done, 'attempt')}"]
    if view.status is RunStatus.RUNNING and progress.get("rate"):
        parts.append(f"{progress['rate']:,.0f} a second")
    if view.status is RunStatus.RUNNING and progress.get("eta_s") is not None:
        parts.append(f"about {duration(progress['eta_s'])} left")
    if progress.get("tokens"):
        parts.append(counted(progress["tokens"], "token"))
    if view.status in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED) and view.state.get("seconds"):
        parts.append(f"in {duration(float(view.state['seconds']))}")
    return f"{', '.join(parts)}."


def _heard(view: RunView, share: float) -> str:
    """For screen readers: changes with the status and every tenth, not with every attempt."""
    if view.status is RunStatus.RUNNING:
        return f"Running, {10 * int(10 * share)} percent"
    return _STATES[view.status]
