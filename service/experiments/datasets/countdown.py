"""Countdown problems (reach a target, use each number exactly once): generator, solver and file format.

Rules of the generator: numbers are sampled from 1..13 with replacement. A step replaces two of the available values, in either
order, by `a + b`, `a - b`, `a * b` or `a / b`, where every result is a whole number from 0 to 99 and divisions have no
remainder. A derivation of `size` numbers has `size - 1` steps; the last result is the target. The grader
(`graders.countdown`) is more permissive: intermediate results may be any fraction.

One problem in sixteen is held out by a hash of its target and its sorted numbers, so that no problem of the `test` split is a
permutation of one in the `train` split.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import Any

from kb.notes import PasskbError
from service.experiments.types import Problem, ProblemSet, problem_set, seed_of

LARGEST_NUMBER = 13
LARGEST_VALUE = 99
SMALLEST_TARGET = 10
SIZES = range(2, 7)
SPLITS = ("test", "train")
HELD_OUT_SHARE = 16

Step = tuple[int, str, int, int]
"""`(a, operator, b, result)`, with `a operator b == result`."""
Derivation = tuple[Step, ...]


def held_out(numbers: Sequence[int], target: int) -> bool:
    """Whether the problem is in the test split (1 in 16), whatever the order of `numbers`."""
    key = f"{' '.join(map(str, sorted(numbers)))} -> {target}"
    return hashlib.sha256(key.encode()).digest()[0] % HELD_OUT_SHARE == 0


def write_prompt(numbers: Sequence[int], target: int) -> str:
    """`3 7 12 6 -> 45 :`, which a model continues with a derivation."""
    return f"{' '.join(map(str, numbers))} -> {target} :"


def write_derivation(steps: Derivation) -> str:
    """`3 + 7 = 10 , 10 - 6 = 4 , 4 * 12 = 48`."""
    return " , ".join(f"{a} {operator} {b} = {result}" for a, operator, b, result in steps)


@cache
def steps_from(a: int, b: int) -> tuple[Step, ...]:
    """The valid steps on `a` and `b` in this order, at most four."""
    out = []
    if a + b <= LARGEST_VALUE:
        out.append((a, "+", b, a + b))
    if a >= b:
        out.append((a, "-", b, a - b))
    if a * b <= LARGEST_VALUE:
        out.append((a, "*", b, a * b))
    if b and a % b == 0:
        out.append((a, "/", b, a // b))
    return tuple(out)


def derive(numbers: Sequence[int], rng: random.Random) -> Derivation:
    """A random derivation: each step is uniform over the valid ones, with either order of the operands."""
    values, out = list(numbers), []
    while len(values) > 1:
        step, values = rng.choice(list(_moves(values)))
        out.append(step)
    return tuple(out)


def solve(numbers: Sequence[int], target: int) -> Iterator[Derivation]:
    """Every derivation that ends at `target`, each once, in a fixed order that does not depend on the order of `numbers`."""
    values = sorted(numbers)
    if len(values) == 1:
        yield from [()] * (values[0] == target)
    for step, after in {(step, tuple(sorted(after))): None for step, after in _moves_towards(target, values)}:
        yield from ((step, *rest) for rest in solve(after, target))


def solve_at_random(numbers: Sequence[int], target: int, rng: random.Random) -> Derivation:
    """A random solution: each step keeps the target reachable. Raises PasskbError for an unsolvable problem."""
    values, out = list(numbers), []
    while len(values) > 1:
        moves = list(_moves_towards(target, values))
        if not moves:
            raise PasskbError(f"{write_prompt(numbers, target)[:-2]} has no solution under the generator's rules")
        step, values = rng.choice(moves)
        out.append(step)
    return tuple(out)


def reachable(numbers: Sequence[int]) -> frozenset[int]:
    """Every possible result of a derivation of `numbers`."""
    return _reachable(tuple(sorted(numbers)))


def draw(rng: random.Random, split: str, size: int = 4) -> tuple[tuple[int, ...], int]:
    """A solvable problem of the split: numbers uniform in 1..13, target (10 or more) from a random derivation.

    Targets with many derivations are more frequent. Raises PasskbError after 100,000 draws without a problem.
    """
    for _ in range(100_000):
        numbers = tuple(rng.randint(1, LARGEST_NUMBER) for _ in range(size))
        target = derive(numbers, rng)[-1][3]
        if target >= SMALLEST_TARGET and held_out(numbers, target) is (split == "test"):
            return numbers, target
    raise PasskbError(f"the {split} split has no countdown problem of {size} numbers")


def countdown(limit: int, seed: int = 0, size: int = 4, split: str = "test") -> ProblemSet:
    """`limit` solvable problems of the split, distinct up to the order of their numbers.

    The set depends only on the arguments; a larger limit appends problems. Raises PasskbError.
    """
    _check(limit, size, split)
    rng = random.Random(seed_of("countdown", seed, size, split))
    problems: dict[tuple[tuple[int, ...], int], Problem] = {}
    misses = 0
    while len(problems) < limit:
        numbers, target = draw(rng, split, size)
        key = tuple(sorted(numbers)), target
        misses = misses + 1 if key in problems else 0
        if misses > 2_000:
            raise PasskbError(
                f"countdown's {split} split has about {len(problems)} problems of {size} numbers: lower problems.limit"
            )
        problems.setdefault(key, _problem(numbers, target))
    return problem_set(f"countdown-{size}-{split}-{seed}", problems.values())


def read_countdown(lines: Iterable[str], name: str = "countdown") -> ProblemSet:
    """The problems of a JSONL file: each line an object with `numbers` (or `nums`) and `target`, positive whole numbers.

    They need not follow the generator's rules. Raises PasskbError with the line.
    """
    problems: dict[str, Problem] = {}
    for at, line in enumerate(lines, start=1):
        if line.strip():
            problem = _problem(*_read_line(line, f"{name}, line {at}"))
            if problem.id in problems:
                raise PasskbError(f"{name}, line {at}: duplicate problem: remove one of the two")
            problems[problem.id] = problem
    if not problems:
        raise PasskbError(f"{name} has no problems: write a line such as {{'numbers': [3, 7, 12, 6], 'target': 45}} for each")
    return problem_set(name, problems.values())


def _moves(values: Sequence[int]) -> Iterator[tuple[Step, list[int]]]:
    """Each valid step with the values that are available after it."""
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            if i != j:
                rest = [value for at, value in enumerate(values) if at not in (i, j)]
                yield from ((step, [*rest, step[3]]) for step in steps_from(a, b))


def _moves_towards(target: int, values: Sequence[int]) -> Iterator[tuple[Step, list[int]]]:
    return (move for move in _moves(values) if target in reachable(move[1]))


@lru_cache(maxsize=65_536)
def _reachable(values: tuple[int, ...]) -> frozenset[int]:
    if len(values) == 1:
        return frozenset(values)
    return frozenset().union(*(_reachable(after) for after in {tuple(sorted(after)) for _, after in _moves(values)}))


def _problem(numbers: Sequence[int], target: int) -> Problem:
    name = f"countdown-{len(numbers)}-{'_'.join(map(str, numbers))}-{target}"
    return Problem(name, "countdown", write_prompt(numbers, target), {"numbers": list(numbers), "target": target})


def _check(limit: int, size: int, split: str) -> None:
    if limit < 1:
        raise PasskbError("countdown needs problems.limit, for example 200")
    if size not in SIZES:
        raise PasskbError(f"countdown problems have {SIZES[0]} to {SIZES[-1]} numbers, not {size}: set problems.size")
    if split not in SPLITS:
        raise PasskbError(f"countdown's splits are {' and '.join(SPLITS)}, not {split!r}: set problems.split")


def _read_line(line: str, where: str) -> tuple[list[int], int]:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PasskbError(f"{where} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise PasskbError(f"{where} is not an object with 'numbers' and 'target'")
    numbers, target = value.get("numbers", value.get("nums")), value.get("target")
    if not isinstance(numbers, list) or not 2 <= len(numbers) <= 20 or not all(_is_positive(number) for number in numbers):
        raise PasskbError(f"{where}: 'numbers': expected 2 to 20 positive whole numbers, not {numbers!r:.80}")
    if not isinstance(target, int) or not _is_positive(target):
        raise PasskbError(f"{where}: 'target': expected a positive whole number, not {target!r:.80}")
    return numbers, target


def _is_positive(value: Any) -> bool:
    return type(value) is int and 0 < value < 10**9
