"""The form for a new experiment: example specs, a claim's test as YAML, and the cost and power of a spec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml
from markupsafe import Markup

from kb.knowledge_base import KnowledgeBase
from service.experiments.claims import claim_spec, find_claim
from service.experiments.spec import ExperimentSpec, read_spec
from service.web.components.formatting import count
from service.web.components.messages import error_html, message_html
from service.web.components.templates import render

MAX_SPEC = 100_000  # characters
PRESETS: Mapping[str, tuple[str, str]] = {
    "pair": ("Base against tuned", """\
name: base-vs-tuned-countdown
question: Does the base model overtake the tuned one at large k?
problems: {set: countdown, limit: 200}
models:
  # The first model is the base, the second the tuned one. Engines:
  # transformers, vllm, or openai with the url of a completions server.
  base: {model: ./models/base, engine: transformers}
  tuned: {model: ./models/tuned, engine: transformers}
sampling: {n: 64, temperature: 1.0, max_tokens: 512}
# Your prediction of the result. Other kinds:
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
    "dry": ("Dry run without models", """\
name: dry-run
question: Does a rule that is often right on few problems lose to one that is sometimes right on all?
problems: {set: countdown, limit: 200}
models:
  # Loads no model: each problem gets a pass rate from this distribution.
  base: {model: "beta:1,3", engine: scripted}
  tuned: {model: "beta:0.2,0.3", engine: scripted}
sampling: {n: 64}
prediction: {kind: crossover}
"""),
}  # fmt: skip


def presets_html() -> Markup:
    """The heading, and links that fill the form with an example."""
    return render("experiments/presets.html", presets=[(key, name) for key, (name, _) in PRESETS.items()])


def form_values(kb: KnowledgeBase, claim: str, preset: str, spec: str = "") -> tuple[str, str]:
    """The spec's text for a claim's test, an example or the JSON of a link, and an error message if there is one."""
    if spec and not claim:
        return _spec_from_link(spec)
    if not claim:
        return PRESETS.get(preset, PRESETS["pair"])[1], ""
    try:
        return _to_yaml(claim_spec(kb, claim[:1_000])), ""
    except Exception as error:
        return PRESETS["pair"][1], error_html(error)


def _spec_from_link(spec: str) -> tuple[str, str]:
    try:
        text = _to_yaml(json.loads(spec[:MAX_SPEC]))
    except (ValueError, RecursionError, yaml.YAMLError):
        message = "The spec in the link is not valid JSON; it may be truncated. Ask for a new link."
        return PRESETS["pair"][1], message_html(message)
    return f"# This spec came with a link. Read it before you start it.\n{text}", ""


def _to_yaml(spec: Any) -> str:
    text: str = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return text


def parse_spec(kb: KnowledgeBase, text: str) -> ExperimentSpec:
    """The spec in the form. Raises PasskbError or SpecError, also if the spec names an unknown claim."""
    spec = read_spec(str(text)[:MAX_SPEC])
    if spec.claim:
        find_claim(kb, spec.claim)
    return spec


def check_spec(kb: KnowledgeBase, text: str) -> tuple[Markup, bool]:
    """The plan of a spec or why it can't run, and whether it can."""
    from service.experiments.datasets.loader import load
    from service.experiments.planning import plan
    from service.experiments.preflight import preflight

    if not str(text).strip():
        return render("experiments/empty_spec.html"), False
    try:
        spec = parse_spec(kb, text)
        preflight(kb.home, spec, load(spec.problems), reach=False)
        return plan_html(plan(spec, kb.home)), True
    except Exception as error:
        return error_html(error), False


def plan_html(plan: Mapping[str, Any]) -> Markup:
    """The cost of a plan, its power, and the expected widths of the intervals."""
    basis = f"as measured in {plan['pilot']}" if plan["pilot"] else plan["assumption"]
    return render("experiments/plan.html", plan=plan, cost=cost_text(plan), basis=basis)


def cost_text(plan: Mapping[str, Any]) -> str:
    """The cost of a plan in words."""
    return f"{count(plan['cost']['attempts'], 'attempt')}, {plan['cost']['text']}"
