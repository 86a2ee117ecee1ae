"""Trains organisms: on worked solutions (base, distilled) and by GRPO with a binary verifier (tuned).

A reduced GRPO (arXiv 2402.03300): one gradient step per batch of completions, so the policy ratio is 1 and nothing is
clipped; no KL and no entropy term. Problems come from the `train` split only, and no worked solution ends at a held-out
problem.

Training is deterministic for a seed on one machine with a fixed number of threads. Matrix products can use bf16 (CPU) or TF32
(GPU); weights, sums and the optimiser are fp32.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM
from transformers.utils import logging

from kb.notes import PasskbError
from service.experiments.datasets import countdown as problems
from service.experiments.graders.countdown import verify
from service.experiments.organisms.model import EOS, ids_of, load_model, new_model, save, texts_of, vocabulary
from service.experiments.types import Problem, Verdict

NUMBERS = 4
LONGEST = 6 * (NUMBERS - 1)
"""Tokens of a correct answer: five per equality, each followed by a comma or the end token."""
WARM_UP = 50
Row = tuple[str, str]
"""A prompt and its completion with the end token."""
Report = Callable[[int, float], None]
"""Called after each step with its number, from 1, and its loss (GRPO: the share of passing completions)."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps, peak learning rate, and rows per step (GRPO: `rows` problems with `completions` each)."""

    steps: int
    rate: float
    rows: int
    completions: int = 1


@contextmanager
def on(device: str, threads: int) -> Iterator[torch.device]:
    """Yields the device (`auto`: a GPU if available) and sets the number of CPU threads meanwhile. Raises PasskbError."""
    cuda = torch.cuda.is_available()
    if device.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise PasskbError(f"unknown device {device!r}: use auto, cpu or cuda")
    if device.startswith("cuda") and not cuda:
        raise PasskbError("PyTorch finds no GPU: train with --device cpu, or install PyTorch with GPU support")
    bars, before, precision = logging.is_progress_bar_enabled(), torch.get_num_threads(), torch.get_float32_matmul_precision()
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium")
    try:
        yield torch.device(("cuda" if cuda else "cpu") if device == "auto" else device)
    finally:
        torch.set_num_threads(before)
        torch.set_float32_matmul_precision(precision)
        if bars:
            logging.enable_progress_bar()


def make(member: str, folder: Path, start: str | Path, how: Schedule, seed: int, device: torch.device, report: Report) -> int:
    """Trains and writes a member: from random weights if `start` is a size, else from the model in that folder.

    Returns the number of parameters."""
    model = (new_model(start, seed) if isinstance(start, str) else load_model(start)).to(device)
    if member == "tuned":
        reinforce(model, how, seed, report)
    else:
        imitate(model, noisy_row if member == "base" else solved_row, how, seed, report)
    save(model, folder)
    return int(model.num_parameters())


def noisy_row(rng: random.Random) -> Row:
    """A random worked solution: half are correct, a quarter end elsewhere, a quarter have a false last equality."""
    fate = rng.choice(("right", "right", "elsewhere", "fudged"))
    while True:
        numbers = [rng.randint(1, problems.LARGEST_NUMBER) for _ in range(NUMBERS)]
        steps = problems.derive(numbers, rng)
        end = steps[-1][3]
        target = end if fate == "right" else rng.randint(problems.SMALLEST_TARGET, problems.LARGEST_VALUE)
        if target < problems.SMALLEST_TARGET or any(problems.held_out(numbers, value) for value in (target, end)):
            continue
        if fate == "fudged":
            steps = (*steps[:-1], (*steps[-1][:3], target))
        return _row(numbers, target, steps)


def solved_row(rng: random.Random) -> Row:
    """A problem of the train split with a random solution."""
    numbers, target = problems.draw(rng, "train", NUMBERS)
    return _row(numbers, target, problems.solve_at_random(numbers, target, rng))


def imitate(model: LlamaForCausalLM, make: Callable[[random.Random], Row], how: Schedule, seed: int, report: Report) -> None:
    """Trains the model in place on the completions of `make`: AdamW with warm-up and cosine decay to zero."""
    rng, device = random.Random(seed), model.device
    optimiser = torch.optim.AdamW(model.parameters(), lr=how.rate, betas=(0.9, 0.95), weight_decay=0.01)
    for step in range(how.steps):
        prompts, completions = zip(*(make(rng) for _ in range(how.rows)), strict=True)
        logprobs = _logprobs(model, ids_of(prompts).to(device), ids_of(completions).to(device))
        _update(model, optimiser, -logprobs.mean(), how.rate * _schedule(step, how.steps))
        report(step + 1, -float(logprobs.detach().mean()))


def reinforce(model: LlamaForCausalLM, how: Schedule, seed: int, report: Report) -> None:
    """GRPO in place on problems of the train split: reward 1 for a passing completion, else 0."""
    rng, generator = random.Random(seed), torch.Generator(model.device).manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=how.rate, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(how.steps):
        drawn = [problems.draw(rng, "train", NUMBERS) for _ in range(how.rows)]
        prompts = ids_of([problems.write_prompt(*problem) for problem in drawn]).to(model.device)
        prompts = prompts.repeat_interleave(how.completions, dim=0)
        written = sample(model, prompts, generator)
        passed = [float(passes(*drawn[at // how.completions], text)) for at, text in enumerate(texts_of(written))]
        gains = advantages(torch.tensor(passed, device=model.device).view(how.rows, how.completions)).flatten()
        chosen = gains != 0
        if chosen.any():
            logprobs = _logprobs(model, prompts[chosen], written[chosen])
            mask = up_to_end(written[chosen])
            loss = -(gains[chosen, None] * logprobs * mask).sum() / up_to_end(written).sum()
            _update(model, optimiser, loss, how.rate * min(1.0, (step + 1) / 10))
        report(step + 1, sum(passed) / len(passed))


@torch.inference_mode()
def sample(model: LlamaForCausalLM, prompts: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Completions at temperature 1, shape (prompts, `LONGEST`), including tokens after an end token."""
    out: list[torch.Tensor] = []
    inputs, past = prompts, None
    while len(out) < LONGEST:
        answer = model(input_ids=inputs, past_key_values=past, use_cache=True, logits_to_keep=1)
        inputs, past = torch.multinomial(answer.logits[:, -1].softmax(-1), 1, generator=generator), answer.past_key_values
        out.append(inputs)
    return torch.cat(out, dim=1)


def passes(numbers: Sequence[int], target: int, text: str) -> bool:
    return verify(numbers, target, text).verdict is Verdict.PASS


def count_passed(folder: Path, held_out: Sequence[Problem], n: int, seed: int, device: torch.device) -> list[int]:
    """The number of passing completions per problem, of `n` at temperature 1 by the model in a folder."""
    model, rows = load_model(folder).to(device), 1_024
    generator = torch.Generator(model.device).manual_seed(seed)
    prompts = ids_of([problem.prompt for problem in held_out]).to(model.device).repeat_interleave(n, dim=0)
    counts = [0] * len(held_out)
    for first in range(0, len(prompts), rows):
        for at, text in enumerate(texts_of(sample(model, prompts[first : first + rows], generator)), start=first):
            gold = held_out[at // n].gold
            counts[at // n] += passes(gold["numbers"], gold["target"], text)
    return counts


def _row(numbers: Sequence[int], target: int, steps: problems.Derivation) -> Row:
    return problems.write_prompt(numbers, target), f"{problems.write_derivation(steps)} {EOS}"


def _logprobs(model: LlamaForCausalLM, prompts: torch.Tensor, completions: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token of the completions, shape (rows, completion tokens)."""
    ids = torch.cat([prompts, completions], dim=1)
    logits = model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=completions.shape[1]).logits
    losses = functional.cross_entropy(logits.flatten(0, 1), completions.flatten(), reduction="none")
    return -losses.view_as(completions)


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Rewards, shape (problems, completions), standardized per problem."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, unbiased=False) + 1e-6)


def up_to_end(written: torch.Tensor) -> torch.Tensor:
    """1 for the tokens up to and including the first end token, else 0."""
    ended = (written == vocabulary()[EOS]).long().cumsum(dim=1)
    return ((ended == 0) | ((ended == 1) & (written == vocabulary()[EOS]))).float()


def _update(model: LlamaForCausalLM, optimiser: torch.optim.Optimizer, loss: torch.Tensor, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def _schedule(step: int, steps: int) -> float:
    """The share of the peak learning rate: linear warm-up, then cosine decay."""
    warm = min(WARM_UP, max(1, steps // 10))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
