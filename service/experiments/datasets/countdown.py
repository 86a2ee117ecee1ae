"""Countdown: reach a target from a few numbers, each used exactly once. The generator, the solver and the files. Pure.

The rules of the problems made here. Numbers are drawn from 1..13, with repeats. A step takes two of the values at hand, in
either order, and puts their result in their place: `a + b`, `a - b`, `a * b` or `a / b`, where every result is a whole number
from 0 to 99 and a division has no rest. A derivation of `size` numbers is `size - 1` steps; the last result is the target.
Whoever answers is held to less (`grading.countdown`): results there may be any fraction.

One problem in sixteen is held out, by a hash of its target and its numbers in rising order, so that no problem of the `test`
split is a problem of the `train` split with its numbers in another order.

Knows nothing of models, graders or runs.
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
    """Whether the problem is of the test split: 1 in 16, whatever the order of `numbers`."""
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
    """The steps that the rules allow on `a` and `b`, in this order: at most four."""
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
    """A derivation at random: at each step one of all those that the rules allow, in either order of the operands."""
    values, out = list(numbers), []
    while len(values) > 1:
        step, values = rng.choice(list(_moves(values)))
        out.append(step)
    return tuple(out)


def solve(numbers: Sequence[int], target: int) -> Iterator[Derivation]:
    """Every derivation that ends at `target`, each once, in a fixed order; none where the problem has no solution.

    `numbers` in another order, and equal numbers changed for each other, give the same derivations.
    """
    values = sorted(numbers)
    if len(values) == 1:
        yield from [()] * (values[0] == target)
    for step, after in {(step, tuple(sorted(after))): None for step, after in _moves_towards(target, values)}:
        yield from ((step, *rest) for rest in solve(after, target))


def solve_at_random(numbers: Sequence[int], target: int, rng: random.Random) -> Derivation:
    """One solution: at each step one of those after which the target can still be reached. Raises PasskbError if none can."""
    values, out = list(numbers), []
    while len(values) > 1:
        moves = list(_moves_towards(target, values))
        if not moves:
            raise PasskbError(f"{write_prompt(numbers, target)[:-2]} has no solution under the generator's rules")
        step, values = rng.choice(moves)
        out.append(step)
    return tuple(out)


def reachable(numbers: Sequence[int]) -> frozenset[int]:
    """Every value at which a derivation of `numbers` can end."""
    return _reachable(tuple(sorted(numbers)))


def draw(rng: random.Random, split: str, size: int = 4) -> tuple[tuple[int, ...], int]:
    """One solvable problem of the split: numbers uniform in 1..13, the target where a derivation at random ends, from 10 on.

    Targets that many derivations reach are therefore the more frequent ones. Raises PasskbError when a hundred thousand draws
    find none.
    """
    for _ in range(100_000):
        numbers = tuple(rng.randint(1, LARGEST_NUMBER) for _ in range(size))
        target = derive(numbers, rng)[-1][3]
        if target >= SMALLEST_TARGET and held_out(numbers, target) is (split == "test"):
            return numbers, target
    raise PasskbError(f"no countdown problem of {size} numbers was found in the {split} split")


def countdown(limit: int, seed: int = 0, size: int = 4, split: str = "test") -> ProblemSet:
    """`limit` solvable problems of the split, no two alike up to the order of their numbers.

    The same arguments make the same set on every machine, and a larger limit only adds to its end. Raises PasskbError.
    """
    _check(limit, size, split)
    rng = random.Random(seed_of("countdown", seed, size, split))
    found: dict[tuple[tuple[int, ...], int], Problem] = {}
    missed = 0
    while len(found) < limit:
        numbers, target = draw(rng, split, size)
        key = tuple(sorted(numbers)), target
        missed = missed + 1 if key in found else 0
        if missed > 2_000:
            raise PasskbError(f"countdown's {split} split has about {len(found)} problems of {size} numbers: ask for no more")
        found.setdefault(key, _problem(numbers, target))
    return problem_set(f"countdown-{size}-{split}-{seed}", found.values())


def read_countdown(lines: Iterable[str], name: str = "countdown") -> ProblemSet:
    """Problems of a JSONL file: each line a mapping with `numbers` (or `nums`) and `target`, whole numbers above zero.

    They keep their order, and need not keep to the generator's rules. Raises PasskbError that names the line.
    """
    problems: dict[str, Problem] = {}
    for at, line in enumerate(lines, start=1):
        if line.strip():
            problem = _problem(*_read_line(line, f"{name}, line {at}"))
            if problem.id in problems:
                raise PasskbError(f"{name}, line {at}: the same problem stands above; leave one of the two out")
            problems[problem.id] = problem
    if not problems:
        raise PasskbError(f"{name} holds no problems: give a line such as {{'numbers': [3, 7, 12, 6], 'target': 45}} for each")
    return problem_set(name, problems.values())


def _moves(values: Sequence[int]) -> Iterator[tuple[Step, list[int]]]:
    """Each step that can be made, with the values that are at hand after it."""
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
        raise PasskbError("countdown makes as many problems as it is asked for: say problems.limit, for example 200")
    if size not in SIZES:
        raise PasskbError(f"countdown problems have {SIZES[0]} to {SIZES[-1]} numbers, not {size}: set problems.size")
    if split not in SPLITS:
        raise PasskbError(f"countdown's splits are {' and '.join(SPLITS)}, not {split!r}: set problems.split")


def _read_line(line: str, where: str) -> tuple[list[int], int]:
    try:
        given: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PasskbError(f"{where} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise PasskbError(f"{where} is not a mapping with 'numbers' and 'target'")
    numbers, target = given.get("numbers", given.get("nums")), given.get("target")
    if not isinstance(numbers, list) or not 2 <= len(numbers) <= 20 or not all(_counts(number) for number in numbers):
        raise PasskbError(f"{where}: 'numbers' wants 2 to 20 whole numbers above zero, got {numbers!r:.80}")
    if not isinstance(target, int) or not _counts(target):
        raise PasskbError(f"{where}: 'target' wants a whole number above zero, got {target!r:.80}")
    return numbers, target


def _counts(value: Any) -> bool:
    return type(value) is int and 0 < value < 10**9
