"""A sandbox that runs and tests programs written by models."""

from service.experiments.sandbox.bubblewrap import Limits, SandboxUnavailable, available
from service.experiments.sandbox.session import Case, Examiner, Outcome

__all__ = ["Case", "Examiner", "Limits", "Outcome", "SandboxUnavailable", "available"]
