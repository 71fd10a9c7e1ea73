"""Drawing how a context grew: on a terminal, and as one page of HTML without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from wherry.doctor.growth import Growth, Request, Weight

WIDTH, HEIGHT = 72, 10
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def drawn(requests: Sequence[Request], *, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """The curve of the requests' sizes in lines of text, the window as its upper edge.

    Longer runs are drawn by the largest request of each column.
    """
    if not requests:
        return []
    columns = _columns([request.counted for request in requests], width)
    top = max(*columns, *(request.window for request in requests))
    label = f"{top:,}"
    lines: list[str] = []
    for row in range(height, 0, -1):
        cells = "".join(_cell(value / top * height - (row - 1)) for value in columns)
        left = label if row == height else "0".rjust(len(label)) if row == 1 else " " * len(label)
        lines.append(f"{left} ┤{cells}".rstrip())
    lines.append(f"{' ' * len(label)} └{'─' * len(columns)}")
    end = f"{len(requests):,}"
    axis = f"1{end.rjust(max(len(end) + 1, len(columns) - 1))}" if len(requests) > 1 else "1"
    lines.append(f"{' ' * len(label)}  {axis}")
    return lines


def _columns(values: Sequence[int], width: int) -> list[int]:
    if len(values) <= width:
        return list(values)
    return [max(values[n * len(values) // width : (n + 1) * len(values) // width]) for n in range(width)]


def _cell(filled: float) -> str:
    return _EIGHTHS[max(0, min(8, round(filled * 8)))]


PARTS = ("system", "tools", "task", "summary", "turns")
_COLOURS = {"system": "#4c6ef5", "tools": "#7950f2", "task": "#12b886", "summary": "#fab005", "turns": "#adb5bd"}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#212529;"
    "background:#fff}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #dee2e6}"
    "td.t,th.t{text-align:left}td.h{max-width:28rem;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}"
    ".key span{display:inline-block;width:.8rem;height:.8rem;margin:0 .3rem 0 1rem}svg{width:100%;height:auto}"
    "div.wide{overflow-x:auto}h2{margin-top:2rem}"
)


def page(growth: Growth) -> str:
    """A run's growth as one HTML file."""
    requests = growth.requests
    rows = "".join(
        f"<tr><td>{r.number}</td><td>{r.step}</td><td>{r.counted:,}</td>"
        f"<td>{'' if r.reported is None else f'{r.reported:,}'}</td><td>{r.cached:,}</td>"
        + "".join(f"<td>{getattr(r, part):,}</td>" for part in PARTS)
        + f"<td>{r.reserved:,}</td><td>{r.window:,}</td><td class=t>{escape(r.failed)}</td></tr>"
        for r in requests
    )
    head = "".join(f"<th>{name}</th>" for name in ("call", "step", "counted", "reported", "cached", *PARTS))
    key = "".join(f'<span style="background:{_COLOURS[part]}"></span>{part}' for part in PARTS)
    moves = "".join(
        f"<li>after call {move.call}: {escape(move.what)}, {move.tokens_before:,} to {move.tokens_after:,} tokens</li>"
        for move in growth.moves
    )
    sources = "".join(
        f"<tr><td class=t>{escape(source)}</td><td>{number:,}</td><td>{tokens:,}</td></tr>"
        for source, number, tokens in growth.sources
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{escape(growth.run_id)}</title><style>{_STYLE}</style>"
        f"<h1>Run {escape(growth.run_id)}</h1><p>{escape(growth.agent)} on {escape(growth.model)},"
        f" {escape(growth.status)}, {len(requests):,} requests</p>"
        f"{_svg(requests)}<p class=key>{key}; the line is the window</p>"
        f"<h2>The largest messages</h2><div class=wide><table><tr><th>tokens<th>call<th class=t>from<th class=t>begins"
        f"{''.join(_weight_row(weight) for weight in growth.largest)}</table></div>"
        f"<h2>Where it came from</h2><div class=wide><table><tr><th class=t>source<th>messages<th>tokens{sources}"
        f"</table></div><h2>What made it smaller</h2><ul>{moves or '<li>nothing: it never had to be</li>'}</ul>"
        f"<h2>Every request</h2><div class=wide><table><tr>{head}<th>reserved<th>window<th class=t>failed</tr>{rows}"
        "</table></div></html>\n"
    )


def _weight_row(weight: Weight) -> str:
    return (
        f"<tr><td>{weight.tokens:,}<td>{weight.call}<td class=t>{escape(weight.source)}"
        f"<td class='t h'>{escape(weight.head)}</tr>"
    )


def _svg(requests: Sequence[Request]) -> str:
    """Stacked areas of the parts of each request, as bars that touch."""
    if not requests:
        return ""
    top = max(max(r.counted, r.window) for r in requests)
    wide, high = 1000, 300
    step = wide / len(requests)
    bars: list[str] = []
    for number, request in enumerate(requests):
        below = 0.0
        for part in PARTS:
            size = getattr(request, part) / top * high
            if size:
                bars.append(
                    f'<rect x="{number * step:.2f}" y="{high - below - size:.2f}" width="{step + 0.05:.2f}"'
                    f' height="{size:.2f}" fill="{_COLOURS[part]}"/>'
                )
                below += size
    line = " ".join(f"{(n + 0.5) * step:.2f},{high - r.window / top * high:.2f}" for n, r in enumerate(requests))
    return (
        f'<svg viewBox="0 0 {wide} {high}" role=img aria-label="size of each request">{"".join(bars)}'
        f'<polyline points="{line}" fill="none" stroke="#e03131" stroke-width="2"/></svg>'
    )
