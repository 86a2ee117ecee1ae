"""The command `passkb judge-check`: how often the language model is right as judge of sentences, measured where it runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from kb.notes import PasskbError
from service.config import home_folder


def add_command(commands: Any, run_model: Any) -> None:
    """Adds the command; `run_model` gives the language model that the options name, or None."""
    help_ = "measure the model as judge of written sentences, on sentences that ship with passkb"
    command = commands.add_parser("judge-check", help=help_, description=help_)
    command.add_argument("--llm", metavar="URL", help="the server of the model (OpenAI's protocol)")
    command.add_argument("--model", metavar="NAME", help="which of its models; needless where it serves one only")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    command.set_defaults(run=lambda options: _judge_check(options, run_model(options)))


def _judge_check(options: argparse.Namespace, model: Any) -> int:
    if model is None:
        raise PasskbError("judge-check measures a model: add --llm URL, or set PASSKB_LLM_URL")
    from kb.embedding import MiniLM
    from service.answering.check.entailment import EmbeddedChecker
    from service.answering.check.error_rates import count_grades, describe, load_labelled_pairs, save_judge_rates
    from service.answering.check.judge import make_judge

    pairs = load_labelled_pairs()
    judged = make_judge(model, EmbeddedChecker(MiniLM()))
    started = time.perf_counter()
    grades = judged.check([entry.pair for entry in pairs])
    if not judged.read:
        raise PasskbError(f"{model.name} gave no grade that can be used: {' '.join(judged.remarks()) or 'use another model'}")
    figures = count_grades(model.name, pairs, grades, time.perf_counter() - started, judged.read)
    save_judge_rates(home_folder(options.home), figures)
    for remark in judged.remarks():
        print(f"passkb: {remark}", file=sys.stderr)
    print(json.dumps(figures.to_json(), ensure_ascii=False) if options.json else "\n".join(describe(figures)))
    return 3 if judged.remarks() else 0
