"""Rules of what a run may do and spend."""

from __future__ import annotations

from wherry.policy.account import Account, Need, Reservation
from wherry.policy.limits import Limits

__all__ = ["Account", "Limits", "Need", "Reservation"]
