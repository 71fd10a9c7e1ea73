"""The context bound for programs that are written with something else."""

from __future__ import annotations

from wherry.guard.conversation import Change
from wherry.guard.fitting import Fitted, Fitter, fit

__all__ = ["Change", "Fitted", "Fitter", "fit"]
