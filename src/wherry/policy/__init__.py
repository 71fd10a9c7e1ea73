"""Rules of what a run may do and spend."""

from __future__ import annotations

from wherry.policy.account import Account, Need, Reservation
from wherry.policy.limits import Limits
from wherry.policy.policy import Policy
from wherry.policy.rules import Rule

__all__ = ["Account", "Limits", "Need", "Policy", "Reservation", "Rule"]
