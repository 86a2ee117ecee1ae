"""What the form of an experiment holds: examples to begin with, a claim's test as YAML, and what a spec would cost.

Starts nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from kb.knowledge_base import KnowledgeBase
from service.experiments.claims import claim_named, spec_of
from service.experiments.spec import ExperimentSpec, read_spec
from service.web.components.html import counted, explained, sentence, text

LONGEST = 100_000  # characters of a spec
PRESETS: Mapping[str, tuple[str, str]] = {
    "pair": ("Base against tuned", """\
name: base-vs-tuned-countdown
question: Does the base model overtake the tuned one at large k?
problems: {set: countdown, limit: 200}
models:
  # The first is the base, the second the tuned one. Engines: transformers,
  # vllm, or openai with the url of a completions server.
  base: {model: ./models/base, engine: transformers}
  tuned: {model: ./models/tuned, engine: transformers}
sampling: {n: 64, temperature: 1.0, max_tokens: 512}
# What will come out, said before the run. Other kinds:
# higher {model, k}, no_difference {k, margin}, subset.
prediction: {kind: crossover}
"""),
    "one": ("One model", """\
name: one-model-countdown
question: What does the model solve in n attempts?
problems: {set: countdown, limit: 200}
models:
  base: {model: ./models/base, engine: transformers}
sampling: {n: 64, temperature: 1.0, max_tokens: 512}
"""),
    "file": ("Problems from a file", """\
name: my-problems
question: Does the base model overtake the tuned one at large k?
# Formats: gsm8k, math, humaneval, mbpp, countdown.
problems: {file: problems.jsonl, format: gsm8k}
models:
  base: {model: ./models/base, engine: transformers}
  tuned: {model: ./models/tuned, engine: transformers}
sampling: {n: 64, temperature: 0.6, top_p: 0.95, max_tokens: 1024}
prediction: {kind: crossover}
"""),
    "dry": ("A dry run without models", """\
name: dry-run
question: Does a rule that is often right on few problems lose to one that is sometimes right on all?
problems: {set: countdown, limit: 200}
models:
  # Pass rates by rule, one drawn for each problem; no model is loaded.
  base: {model: "beta:1,3", engine: scripted}
  tuned: {model: "beta:0.2,0.3", engine: scripted}
sampling: {n: 64}
prediction: {kind: crossover}
"""),
}  # fmt: skip


def presets_html() -> str:
    """The examples, each a link that fills the form."""
    links = "".join(
        f'<li><a href="/?run=" data-fill="" data-preset="{key}">{text(name)}</a></li>' for key, (name, _) in PRESETS.items()
    )
    claim = '<li><a href="/" data-tab="claims">The test of a claim</a></li>'
    return f'<p class="quiet">Begin with an example, or with the test of a claim:</p><ul class="presets">{links}{claim}</ul>'


def filled(kb: KnowledgeBase, claim: str, preset: str, spec: str = "") -> tuple[str, str]:
    """The spec's text for a claim's test, an example or the JSON of a link, and what went wrong, if anything."""
    if spec and not claim:
        return _proposed(spec)
    if not claim:
        return PRESETS.get(preset, PRESETS["pair"])[1], ""
    try:
        return _written(spec_of(kb, claim[:1_000])), ""
    except Exception as error:
        return PRESETS["pair"][1], sentence(explained(error))


def _proposed(spec: str) -> tuple[str, str]:
    """A spec that somebody else wrote says so, where it is read."""
    try:
        return (
            f"# This came with the link that you opened: read it before you start it.\n{_written(json.loads(spec[:LONGEST]))}",
            "",
        )
    except (ValueError, RecursionError, yaml.YAMLError):
        return PRESETS["pair"][1], sentence("The link's spec is not JSON, perhaps cut short: have it proposed again.")


def _written(spec: Any) -> str:
    written: str = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return written


def read(kb: KnowledgeBase, written: str) -> ExperimentSpec:
    """The spec as written in the form. Raises PasskbError or SpecError, also for a claim that no note makes."""
    spec = read_spec(str(written)[:LONGEST])
    if spec.claim:
        claim_named(kb, spec.claim)
    return spec


def checked_html(kb: KnowledgeBase, written: str) -> tuple[str, bool]:
    """What the spec would cost and could show, or why it can't be run, and whether it can."""
    from service.experiments.datasets.loader import load
    from service.experiments.planning import plan
    from service.experiments.preflight import preflight

    if not str(written).strip():
        return '<p class="quiet">Write a spec, or begin with an example.</p>', False
    try:
        spec = read(kb, written)
        preflight(kb.home, spec, load(spec.problems), reach=False)
        return plan_html(plan(spec, kb.home)), True
    except Exception as error:
        return sentence(explained(error)), False


def plan_html(found: Mapping[str, Any]) -> str:
    """What a plan says: the cost first, then whether it would decide anything, then how wide the intervals would be."""
    each, models = f"{found['problems']:,} problems, {found['attempts']:,} attempts each", len(found["models"])
    of = f", {counted(models, 'model')}" if models > 1 else ""
    rows = "".join(_width(row) for row in found["widths"])
    head = "".join(f'<th scope="col">{name}</th>' for name in ("k", "pass@k", *(["difference"] if models > 1 else [])))
    widths = (
        "<details><summary>How wide the intervals would be</summary>"
        f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="quiet">Full widths of the 95 % intervals, in points; {text(_rests(found))}. * above n/2.</p></details>'
    )
    return f'<div class="plan"><p>{each}{of}: {text(cost_of(found))}.</p><p>{text(found["advice"])}</p>{widths}</div>'


def cost_of(found: Mapping[str, Any]) -> str:
    """The cost of a plan in words."""
    return f"{counted(found['cost']['attempts'], 'attempt')}, {found['cost']['text']}"


def _width(row: Mapping[str, Any]) -> str:
    shown = [row["pass_at_k"], *([row["difference"]] if row["difference"] is not None else [])]
    cells = "".join(f"<td>{100 * width:.1f}</td>" for width in shown)
    return f'<tr><th scope="row">{row["k"]}{"*" if row["noisy"] else ""}</th>{cells}</tr>'


def _rests(found: Mapping[str, Any]) -> str:
    return f"as measured in {found['pilot']}" if found["pilot"] else str(found["assumption"])
