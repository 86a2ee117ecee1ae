"""Which grader judges which problems. Each is imported when it is asked for: what it needs may not be installed."""

from __future__ import annotations

from kb.notes import PasskbError
from service.experiments.graders.base import Grader
from service.experiments.types import ProblemSet

KINDS = ("maths", "code", "countdown")


def open_grader(problems: ProblemSet) -> Grader:
    """A grader for problems of one kind. Raises PasskbError where they are of several, or none there is a grader for."""
    kinds = sorted({problem.kind for problem in problems.problems})
    if len(kinds) != 1:
        found = f"problems of several kinds ({', '.join(kinds)})" if kinds else "no problems"
        raise PasskbError(f"{problems.name} has {found}: a grader judges one kind; make it a set of one")
    match kinds[0]:
        case "maths":
            from service.experiments.graders.math import MathsGrader

            return MathsGrader()
        case "code":
            from service.experiments.graders.code import CodeGrader

            return CodeGrader()
        case "countdown":
            from service.experiments.graders.countdown import CountdownGrader

            return CountdownGrader()
    raise PasskbError(f"{problems.name} has problems of kind {kinds[0]!r}; there are graders for {', '.join(KINDS)}")
