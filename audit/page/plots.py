"""The report's figures, as SVG that stands in the page: no script, colours from the page's style, titles to hover over.

Every figure has a sentence for those who don't see it, and a table with the same numbers beside it in the page. Long
histories are drawn in at most `MAXIMUM_BARS` steps. Sizes in CSS pixels of a `viewBox` that scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

MAXIMUM_BARS = 240
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 48, 12, 26, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One step of a bar chart: parts from the bottom up as (CSS class, height), and what to say when pointed at."""

    label: str
    parts: tuple[tuple[str, float], ...]
    title: str

    @property
    def height(self) -> float:
        """All parts together."""
        return sum(height for _, height in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time on a row of a timeline (unix seconds), drawn in a CSS class."""

    start: float
    end: float
    style: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment on a row of a timeline (unix seconds)."""

    time: float
    style: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a timeline."""

    label: str
    spans: tuple[Span, ...]
    marks: tuple[Mark, ...]


def bars(series: Sequence[Bar], *, summary: str, unit: str, line: float | None = None, height: int = 200) -> Markup:
    """A bar chart; `line`: a height to mark across it (a minimum); `unit`: what the upright axis counts."""
    top = max([1e-9, *(bar.height for bar in series), *([] if line is None else [line])])
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    step = inner_width / max(1, len(series))
    shapes = []
    for number, bar in enumerate(series):
        base = float(_TOP + inner_height)
        rects = []
        for style, value in bar.parts:
            size = inner_height * value / top
            base -= size
            rects.append(_rect(_LEFT + number * step + step * 0.1, base, step * 0.8, size, style))
        shapes.append(f"<g><title>{escape(bar.title)}</title>{''.join(rects)}</g>")
    ticks = [_tick(value, _TOP + inner_height * (1 - value / top)) for value in _round_values(top)]
    labels = [
        _text(_LEFT + (number + 0.5) * step, height - 10, series[number].label, "middle")
        for number in _spread(len(series), 8)
    ]
    rule = "" if line is None else _rule(_TOP + inner_height * (1 - line / top), "minimum")
    return _svg(height, summary, [*ticks, *shapes, *labels, rule, _text(4, 14, unit, "start")])


def timeline(
    rows: Sequence[Row], *, start: float, end: float, labels: Sequence[tuple[float, str]], summary: str
) -> Markup:
    """Rows of spans and marks over one axis of time; `labels`: (unix seconds, text) along it."""
    left, line_height = 140, 28
    length, height = max(end - start, 1.0), _TOP + line_height * len(rows) + _BOTTOM

    def place(time: float) -> float:
        return left + (_WIDTH - left - _RIGHT) * min(max((time - start) / length, 0.0), 1.0)

    shapes = []
    for number, row in enumerate(rows):
        middle = _TOP + line_height * (number + 0.5)
        shapes.append(_text(left - 8, middle + 4, row.label, "end"))
        shapes.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{middle:.1f}" y2="{middle:.1f}"/>')
        for span in row.spans:
            width = max(2.0, place(span.end) - place(span.start))
            shape = _rect(place(span.start), middle - 7, width, 14, span.style)
            shapes.append(f"<g><title>{escape(span.title)}</title>{shape}</g>")
        for mark in row.marks:
            x = place(mark.time)
            shape = f'<path class="{mark.style}" d="M{x:.1f} {middle - 9:.1f}l6 9l-6 9l-6 -9z"/>'
            shapes.append(f"<g><title>{escape(mark.title)}</title>{shape}</g>")
    texts = [_text(place(time), height - 10, text, "middle") for time, text in labels]
    return _svg(height, summary, [*shapes, *texts])


def merged(series: Sequence[Bar]) -> list[Bar]:
    """The series in at most `MAXIMUM_BARS` steps, each the mean of its members."""
    size = -(-len(series) // MAXIMUM_BARS)
    if size <= 1:
        return list(series)
    return [_mean(series[first : first + size]) for first in range(0, len(series), size)]


def _mean(group: Sequence[Bar]) -> Bar:
    styles = dict.fromkeys(style for bar in group for style, _ in bar.parts)
    parts = tuple(
        (style, sum(height for bar in group for found, height in bar.parts if found == style) / len(group))
        for style in styles
    )
    title = f"{group[0].label} to {group[-1].label}, on average: " + ", ".join(f"{h:.1f} {s}" for s, h in parts)
    return Bar(label=group[0].label, parts=parts, title=title)


def _svg(height: int, summary: str, shapes: Sequence[str | Markup]) -> Markup:
    head = f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(summary)}">'
    # Every text in here went through `escape`, every number through a format.
    return Markup(head + "".join(shapes) + "</svg>")  # noqa: S704


def _rect(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect class="{style}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _tick(value: float, y: float) -> str:
    grid = f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return grid + _text(_LEFT - 6, y + 4, f"{value:g}", "end")


def _rule(y: float, style: str) -> str:
    return f'<line class="{style}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _round_values(top: float) -> list[float]:
    """Three to five round numbers from 0 up to `top`."""
    step = 10.0 ** len(str(int(top)))
    while top / step < 2.5:
        step /= 2 if str(step).lstrip("0.").startswith(("1", "2")) else 2.5
    return [number * step for number in range(int(top / step) + 1)]


def _spread(count: int, most: int) -> list[int]:
    """At most about `most` indices, evenly from the first."""
    return list(range(0, count, max(1, -(-count // most))))
