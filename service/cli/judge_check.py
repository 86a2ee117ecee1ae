"""The command `judge-check`: measures the accuracy of the language model as judge of sentences."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kb.notes import PasskbError
from service.cli.invocation import DONE, PART
from service.config import home_folder

if TYPE_CHECKING:
    from service.llm.client import Model


def add_command(commands: Any, run_model: Callable[[argparse.Namespace], Model | None]) -> None:
    """Adds the command. `run_model` returns the language model for the parsed options, or None."""
    help_ = "measure how well the language model judges sentences, on labelled pairs"
    command = commands.add_parser("judge-check", help=help_, description=help_)
    command.add_argument("--llm", metavar="URL", help="OpenAI-compatible server, or PROVIDER/MODEL such as ollama/llama3.2")
    command.add_argument("--model", metavar="NAME", help="name of the model; optional if the server has only one")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=lambda options: _judge_check(options, run_model(options)))


def _judge_check(options: argparse.Namespace, model: Model | None) -> int:
    if model is None:
        raise PasskbError("judge-check needs a language model: add --llm URL or set PASSKB_LLM_URL")
    from kb.embedding import MiniLM
    from service.answering.check.entailment import EmbeddedChecker
    from service.answering.check.error_rates import count_grades, describe, load_labelled_pairs, save_judge_rates
    from service.answering.check.judge import make_judge

    pairs = load_labelled_pairs()
    judged = make_judge(model, EmbeddedChecker(MiniLM()))
    started = time.perf_counter()
    grades = judged.check([entry.pair for entry in pairs])
    if not judged.read:
        raise PasskbError(f"{model.name} returned no usable grade: {' '.join(judged.remarks()) or 'use another model'}")
    figures = count_grades(model.name, pairs, grades, time.perf_counter() - started, judged.read)
    save_judge_rates(home_folder(options.home), figures)
    for remark in judged.remarks():
        print(f"passkb: {remark}", file=sys.stderr)
    print(json.dumps(figures.to_json(), ensure_ascii=False) if options.json else "\n".join(describe(figures)))
    return PART if judged.remarks() else DONE
