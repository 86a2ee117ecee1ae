"""Opens the grader for a problem set; graders are imported on demand."""

from __future__ import annotations

from kb.notes import PasskbError
from service.experiments.graders.base import Grader
from service.experiments.types import ProblemSet

KINDS = ("maths", "code", "countdown")


def open_grader(problems: ProblemSet) -> Grader:
    """A grader for problems of one kind. Raises PasskbError for several kinds or an unknown one."""
    kinds = sorted({problem.kind for problem in problems.problems})
    if len(kinds) != 1:
        content = f"problems of several kinds ({', '.join(kinds)})" if kinds else "no problems"
        raise PasskbError(f"{problems.name} has {content}: use problems of one kind")
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
