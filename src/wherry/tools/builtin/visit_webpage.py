"""`visit_webpage`: the text of a page, fetched so that neither this network nor the sites are harmed (extra `web`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from wherry.errors import ToolError
from wherry.tools.builtin.visit_webpage_text import text_of
from wherry.tools.context import current_context
from wherry.tools.fetching import Fetched, FetchRules, fetch, next_hop
from wherry.tools.fetching_robots import Robots
from wherry.tools.kept import KeptResults
from wherry.tools.threads import OutOfTimeError, run_in_thread
from wherry.tools.tool import Tool
from wherry.tools.values import brief

if TYPE_CHECKING:
    import ssl

READING_SECONDS = 30.0
"""What making text of a page may take."""


class VisitWebpage(Tool):
    """Fetches a page and gives its text as Markdown, marked as data from outside.

    Only http and https; only public addresses, looked at after names are resolved and again at every redirect; no more
    than `max_bytes`, `seconds` and `max_redirects`. Pages that a site's robots.txt asks programs to leave alone are.

    Args:
        cache: Seconds that a page is given again, from the run's store; None: it is fetched anew each time.
        robots: False reads pages whatever robots.txt says: for your own sites.
        egress: Hosts that may be reached: `example.org`, `*.example.org`; empty: all. A policy's list holds besides.
        allow_private: Addresses and networks that may be reached although they are not public: `("127.0.0.1",)`.
        max_bytes: Of one page, unpacked; the rest is left out, and that is said.
        seconds: For one page, with its redirects.
        max_redirects: Of one page.
        trust: Certificates that servers are checked against; None: the machine's.

    Raises:
        ConfigurationError: A number, host or address that cannot be.
    """

    name = "visit_webpage"
    description = "Fetch a web page and read its text."
    untrusted = True
    network = ("url",)

    def __init__(
        self,
        *,
        cache: float | None = 3_600.0,
        robots: bool = True,
        egress: Iterable[str] = (),
        allow_private: Iterable[str] = (),
        max_bytes: int = 5_000_000,
        seconds: float = 30.0,
        max_redirects: int = 5,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.rules = FetchRules(
            egress=egress,
            allow_private=allow_private,
            max_bytes=max_bytes,
            seconds=seconds,
            max_redirects=max_redirects,
            trust=trust,
        )
        self.timeout = seconds + READING_SECONDS
        self.keep = cache
        # Not the tool's own `cache`, which knows nothing of where this tool may go and where another one may.
        self._robots = Robots(self.rules) if robots else None

    async def forward(self, url: str) -> str:
        """Fetch a page.

        Args:
            url: the whole address, https://...
        """
        address = self.rules.check(url.strip())
        kept = KeptResults(self.schema, {"url": address, "rules": f"{self.rules};{self._robots is None};{_policies()}"})
        if self.keep is not None and (found := kept.get()) is not None:
            return str(found[0])
        clock = asyncio.timeout(self.rules.seconds)
        try:
            async with clock:
                page = await self._fetched(address)
        except TimeoutError:
            if not clock.expired():
                raise
            raise ToolError(f"{brief(url, 200)} did not come within {self.rules.seconds:g} s") from None
        if page.status >= 400:
            raise ToolError(f"{brief(page.url, 200)} answered {page.status}{_meaning(page)}")
        try:
            # In a thread: a large page takes a second, which other runs would wait for.
            text = str(await run_in_thread(partial(text_of, page), timeout=READING_SECONDS))
        except OutOfTimeError:
            raise ToolError(f"{brief(page.url, 200)} could not be read within {READING_SECONDS:g} s") from None
        told = f"{page.url}\n\n{text or '(no text)'}"
        if page.cut:
            told += f"\n\n[cut: {page.cut}]"
        if self.keep is not None:
            kept.keep(told, self.keep)
        return told

    async def _fetched(self, url: str) -> Fetched:
        for _ in range(self.rules.max_redirects + 1):
            if self._robots is not None:
                await self._robots.check(url)
            page = await fetch(url, self.rules)
            further = next_hop(page)
            if further is None:
                return page
            url = self.rules.check(further)
        raise ToolError(f"{brief(url, 200)} redirects more than {self.rules.max_redirects} times")


def _policies() -> str:
    """The lists of hosts that hold over this run: what one run may read is not kept for another that may not."""
    try:
        lists = current_context().egress
    except ToolError:
        return ""
    return ";".join(",".join(one.patterns) for one in lists)


def _meaning(page: Fetched) -> str:
    if page.status == 404 or page.status == 410:
        return ": there is no such page"
    if page.status in (401, 403, 407, 451):
        return ": the page is not for everybody"
    if page.status == 429:
        wait = page.headers.get("retry-after", "")
        return f": too many requests{f', try again in {wait} s' if wait.isdigit() else ''}"
    return ": the server failed" if page.status >= 500 else ""
