"""Running programs that models wrote, where they can do no harm and decide nothing."""

from service.experiments.sandbox.bubblewrap import Limits, SandboxUnavailable, available
from service.experiments.sandbox.session import Case, Examiner, Outcome

__all__ = ["Case", "Examiner", "Limits", "Outcome", "SandboxUnavailable", "available"]
