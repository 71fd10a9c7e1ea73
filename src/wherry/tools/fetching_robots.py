"""What sites ask of programs that fetch their pages: robots.txt, by RFC 9309.

Kept for an hour a site. A site without one allows everything (any 4xx); one whose robots.txt fails (5xx) is left alone
until it can be had. Crawl delays are not kept: an agent reads single pages, and its limits bound how many.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wherry.errors import MissingExtra, ToolError
from wherry.tools.fetching import USER_AGENT, FetchRules, fetch, next_hop
from wherry.tools.values import brief

if TYPE_CHECKING:
    from protego import Protego

KEPT_SECONDS = 3_600.0
MOST_SITES = 256
MOST_BYTES = 500 * 1024
"""RFC 9309 asks for at least that much to be read."""


@dataclass(frozen=True, slots=True)
class _Known:
    until: float
    parsed: Protego | None
    """None: everything is allowed."""


class Robots:
    """Asks the sites' robots.txt."""

    def __init__(self, rules: FetchRules) -> None:
        self._rules = FetchRules(
            egress=rules.hosts,
            allow_private=map(str, rules.allowed.networks),
            max_bytes=MOST_BYTES,
            seconds=min(rules.seconds, 10.0),
            trust=rules.trust,
        )
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def check(self, url: str) -> None:
        """
        Raises:
            ToolError: The site asks programs not to fetch this page, or cannot say.
            MissingExtra: The extra `web` is not installed.
        """
        parts = urlsplit(url)
        site = f"{parts.scheme}://{parts.netloc}".lower()
        known = self._known.get(site)
        if known is None or known.until < time.monotonic():
            known = await self._asked(site)
            self._known[site] = known
            if len(self._known) > MOST_SITES:
                self._known.popitem(last=False)
        self._known.move_to_end(site)
        if known.parsed is not None and not known.parsed.can_fetch(url, USER_AGENT):
            raise ToolError(f"{brief(site, 200)} asks programs not to fetch this page (robots.txt)")

    async def _asked(self, site: str) -> _Known:
        try:
            from protego import Protego
        except ImportError as error:
            raise MissingExtra("reading robots.txt", "web") from error
        where = f"{site}/robots.txt"
        for _ in range(self._rules.max_redirects + 1):
            found = await fetch(where, self._rules)
            further = next_hop(found)
            if further is None:
                break
            where = further
        else:
            return _Known(time.monotonic() + KEPT_SECONDS, None)  # RFC 9309: as if there were none
        if found.status >= 500:
            raise ToolError(
                f"{brief(site, 200)} answers {found.status} for its robots.txt, so it is left alone for now"
            )
        parsed = None
        if found.status < 300:
            parsed = Protego.parse(found.data.decode("utf-8", "replace"))
        return _Known(time.monotonic() + KEPT_SECONDS, parsed)
