"""The names of the tiers that are probed for."""

from __future__ import annotations

JAILS = ("namespaces", "landlock")
"""In the order in which `auto` tries them."""
TIERS = (*JAILS, "unsafe")
