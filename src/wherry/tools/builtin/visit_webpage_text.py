"""The text of a page: what a person would read of it, as Markdown.

What a page hides from people and shows to programs goes first: scripts, comments, elements that are not displayed, of
no size, or of the colour of their background in their own style. Style sheets are not evaluated, so a class that hides
its element is not known to; what is read is data from outside all the same.
"""

from __future__ import annotations

import codecs
import re
from typing import Any, cast
from urllib.parse import urljoin

from wherry.errors import MissingExtra, ToolError
from wherry.tools.fetching import Fetched
from wherry.tools.values import brief

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXT = re.compile(
    r"text/.+|application/(?:[a-z0-9.+-]*[+.-])?(?:json|xml|yaml|toml|javascript|ecmascript|sql|rtf|ndjson|jsonl|csv)"
    r"|application/(?:json|x-ndjson|x-yaml|rss|atom|ld)(?:\+(?:json|xml))?"
)
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,8}=\s{0,8}["']?\s{0,8}([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# As in the Encoding Standard: what calls itself Latin-1 is Windows-1252, and nothing is read in an encoding in which a
# page could write what its server and every filter before it did not see, as UTF-7, EBCDIC and Python's own escapes.
_RENAMED = {"iso8859-1": "cp1252", "ascii": "cp1252", "utf-16": "utf-16-le", "shift_jis": "cp932", "gb2312": "gb18030"}
_CODECS = frozenset(
    re.findall(
        r"\S+",
        "utf-8 utf-16-le utf-16-be cp866 koi8-r koi8-u mac-roman mac-cyrillic cp874 gbk gb18030 big5 big5hkscs euc_jp "
        "iso2022_jp cp932 euc_kr cp949 tis-620 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 "
        + " ".join(f"iso8859-{number}" for number in range(2, 17)),
    )
)
_UNREAD = frozenset(
    {"script", "style", "noscript", "template", "iframe", "object", "embed", "svg", "canvas", "math", "link"}
)
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote body br caption dd div dl dt fieldset figcaption figure footer form h1 h2 h3 "
        "h4 h5 h6 header hr li main nav ol option p pre section summary table tbody td tfoot th thead title tr ul",
    )
)
_LEAST_ARTICLE = 500
"""Characters; of pages that are no articles (forms, lists, short ones) the extraction leaves next to nothing."""
_NOT_SHOWN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0?\.?0+(?![.\d])"
    r"|font-size\s*:\s*0*\.?0*(?:px|pt|em|rem|%)?\s*(?:;|!|$)|(?:^|[;\s])(?:width|height)\s*:\s*[01]?(?:px)?\s*(?:;|!|$)"
    r"|text-indent\s*:\s*-\d{3,}|(?:left|top|right|bottom)\s*:\s*-\d{3,}|clip\s*:\s*rect\(\s*0|clip-path\s*:\s*inset\(\s*(?:50|100)%"
    r"|color\s*:\s*transparent",
    re.IGNORECASE,
)
_COLOUR = re.compile(r"(?:^|[;\s])color\s*:\s*([^;!]{1,40})", re.IGNORECASE)
_BACKGROUND = re.compile(r"background(?:-color)?\s*:\s*([^;!]{1,40})", re.IGNORECASE)


def text_of(page: Fetched) -> str:
    """What a page says.

    Raises:
        ToolError: It is no text.
        MissingExtra: The extra `web` is not installed.
    """
    kind = page.media_type
    if kind in _HTML or (not kind and page.data[:512].lstrip()[:1] == b"<"):
        return _of_html(decoded(page), page.url)
    if kind and not _TEXT.fullmatch(kind):
        raise ToolError(f"{brief(page.url, 200)} is {brief(kind, 80)}, {len(page.data):,} bytes: no text to read")
    if b"\0" in page.data[:1024] and not page.data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ToolError(f"{brief(page.url, 200)} calls itself {brief(kind or 'nothing', 80)} and is no text")
    return decoded(page)


def decoded(page: Fetched) -> str:
    """The text of the bytes, by the mark at their beginning, what the server says, what the page says, or UTF-8."""
    for mark, name in _MARKS:
        if page.data.startswith(mark):
            return page.data.decode(name, "replace")
    said = re.search(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", page.headers.get("content-type", ""))
    within = _META.search(page.data[:2048])
    for found, by_itself in ((said[1] if said else "", False), (within[1].decode("ascii") if within else "", True)):
        known = _codec(found)
        if known is not None and not (by_itself and known.startswith("utf-16")):  # it was read as ASCII just now
            return page.data.decode(known, "replace")
    try:
        return page.data.decode()
    except UnicodeDecodeError as error:
        # Cut in the middle of a letter, or mostly UTF-8 with a few broken bytes; else the web's old habit.
        mostly = error.start > len(page.data) - 4 or page.data[: error.start].isascii() is False
        return page.data.decode("utf-8" if mostly else "cp1252", "replace")


def _codec(name: str) -> str | None:
    try:
        found = codecs.lookup(name.lower().removeprefix("x-")).name
    except (LookupError, ValueError):
        return None
    found = _RENAMED.get(found, found)
    return found if found in _CODECS else None


def _of_html(text: str, url: str) -> str:
    try:
        import trafilatura
        from lxml import html as lxml_html
    except ImportError as error:
        raise MissingExtra("reading web pages", "web") from error
    # lxml takes no text that says of itself in which encoding it is.
    source = re.sub(r"^\s*<\?xml[^>]{0,200}\?>", "", text.replace("\0", ""), count=1)
    if not source.strip():
        return ""
    html = cast("Any", lxml_html)  # Any: it has no types
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=False)
    try:
        tree: Any = html.fromstring(source.encode("utf-8", "replace"), parser=parser)
    except Exception as error:
        raise ToolError(f"{brief(url, 200)} is no page that can be read: {brief(str(error), 200)}") from error
    title = " ".join(str(tree.findtext(".//title") or "").split())[:300]
    _remove_hidden(tree)
    found = trafilatura.extract(
        tree,
        url=url,
        output_format="markdown",
        include_links=True,
        include_tables=True,
        include_images=False,
        include_comments=False,
    )
    body = (found or "").strip()
    if len(body) < _LEAST_ARTICLE:
        body = _plain(tree, url) or body
    return f"# {title}\n\n{body}" if title and not body.startswith(f"# {title}") else body


def _remove_hidden(tree: Any) -> None:  # Any: lxml's elements have no types
    for element in list(tree.iter()):
        if not isinstance(element.tag, str) or element.tag in _UNREAD or _is_hidden(element):
            parent = element.getparent()
            if parent is not None:
                element.drop_tree()


def _is_hidden(element: Any) -> bool:
    attributes = element.attrib
    if "hidden" in attributes or attributes.get("aria-hidden", "").lower() == "true":
        return True
    if element.tag == "input" and attributes.get("type", "").lower() == "hidden":
        return True
    style = attributes.get("style", "")
    if not style:
        return False
    if _NOT_SHOWN.search(style):
        return True
    colour, background = _COLOUR.search(style), _BACKGROUND.search(style)
    return bool(colour and background and colour[1].strip().lower() == background[1].strip().lower())


def _plain(tree: Any, url: str) -> str:
    """All text of a page, a line a block, with its links."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType] - without types

    body = tree.find(".//body")
    root = tree if body is None else body
    parts: list[str] = []
    for event, element in cast("Any", etree).iterwalk(root, events=("start", "end")):
        block = "\n" if element.tag in _BLOCKS else ""
        href = element.get("href", "") if element.tag == "a" else ""
        link = href if href and not href.startswith(("#", "javascript:")) else ""
        if event == "start":
            parts += (block, "[" if link else "", (element.text or "").replace("\n", " "))
        else:
            tail = "" if element is root else (element.tail or "").replace("\n", " ")
            parts += (f"]({_joined(url, link)})" if link else "", block, tail)
    lines = (" ".join(line.split()) for line in "".join(parts).split("\n"))
    return "\n".join(line for line in lines if line)


def _joined(url: str, link: str) -> str:
    try:
        return urljoin(url, link)
    except ValueError:
        return link
