"""Pictures as inline SVG, made on the server: bars and lines over periods.

They carry classes and no styles, as the page's policy allows no inline style; each mark has its
value as a title, and each picture a sentence for who can't see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH, _HEIGHT = 360.0, 130.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 4.0, 8.0, 20.0
_PLOT = _HEIGHT - _TOP - _BOTTOM


@dataclass(frozen=True, slots=True)
class Series:
    """One value a period, None where there is none; `kind` is the class that colours it."""

    name: str
    kind: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's title and drawing; `figures` are its values as rows of a table."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]
    head: tuple[str, ...]
    figures: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn: a label for each period, with its value in each series.

    `shown` writes a value. `top` is the highest value of the axis, 0 for what the values need.
    """

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    shown: Callable[[float], str]
    top: float = 0.0

    def bars(self) -> Picture:
        """Bars, one series on the other; an empty plot for no periods."""
        columns = zip(*(each.values for each in self.series), strict=True)
        totals = [sum(value or 0.0 for value in column) for column in columns]
        return self._picture(_bars, self.top or _ceiling(max(totals, default=0.0)))

    def lines(self) -> Picture:
        """Lines with a dot for each period; where a value is missing the line has a gap."""
        known = [value for each in self.series for value in each.values if value is not None]
        return self._picture(_lines, self.top or _ceiling(max(known, default=0.0)))

    def _picture(self, draw: Callable[[Chart, float], Iterator[Markup]], top: float) -> Picture:
        svg = Markup(
            '<svg class="picture" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}{}</svg>'
        ).format(
            _WIDTH,
            _HEIGHT,
            self._sentence(),
            Markup("").join(_frame(self, top)),
            Markup("").join(draw(self, top)),
        )
        columns = [[self.written(value) for value in each.values] for each in self.series]
        return Picture(
            self.title,
            svg,
            tuple((each.name, each.kind) for each in self.series),
            ("From", *(each.name for each in self.series)),
            tuple(zip(self.labels, *columns, strict=True)),
        )

    def _sentence(self) -> str:
        if not self.labels:
            return f"{self.title}: nothing yet"
        last = ", ".join(f"{it.name} {self.written(it.values[-1])}" for it in self.series)
        return f"{self.title} from {self.labels[0]} to {self.labels[-1]}; last: {last}"

    def written(self, value: float | None) -> str:
        """A value in words; '–' where there is none."""
        return "–" if value is None else self.shown(value)


def _bars(chart: Chart, top: float) -> Iterator[Markup]:
    bar = Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{}: {} {}</title></rect>"
    )
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(chart.labels))
    for place, label in enumerate(chart.labels):
        base, x = _HEIGHT - _BOTTOM, _LEFT + step * (place + 0.12)
        for each in chart.series:
            value = each.values[place] or 0.0
            if not value:
                continue
            height = _PLOT * value / top
            base -= height
            said = (label, chart.shown(value), each.name)
            yield bar.format(each.kind, x, base, step * 0.76, height, *said)


def _lines(chart: Chart, top: float) -> Iterator[Markup]:
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="2.2"><title>{}</title></circle>')
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(chart.labels))
    for each in chart.series:
        path, pen = [], "M"
        dots = []
        for place, value in enumerate(each.values):
            if value is None:
                pen = "M"
                continue
            x = _LEFT + step * (place + 0.5)
            y = _HEIGHT - _BOTTOM - _PLOT * min(value / top, 1.0)
            path.append(f"{pen}{x:.1f} {y:.1f}")
            said = f"{chart.labels[place]}: {each.name} {chart.shown(value)}"
            dots.append(dot.format(each.kind, x, y, said))
            pen = "L"
        yield Markup('<path class="{}" d="{}"/>').format(each.kind, " ".join(path))
        yield from dots


def _frame(chart: Chart, top: float) -> Iterator[Markup]:
    rule = Markup('<path class="grid" d="M{:.0f} {:.1f}H{:.0f}"/>')
    text = Markup('<text x="{:.0f}" y="{:.1f}" text-anchor="{}">{}</text>')
    for share in (0.0, 0.5, 1.0):
        y = _HEIGHT - _BOTTOM - _PLOT * share
        yield rule.format(_LEFT, y, _WIDTH - _RIGHT)
        yield text.format(_LEFT - 5, y + 3, "end", chart.shown(top * share))
    if chart.labels:
        yield text.format(_LEFT, _HEIGHT - 5, "start", chart.labels[0])
        yield text.format(_WIDTH - _RIGHT, _HEIGHT - 5, "end", chart.labels[-1])


def _ceiling(value: float) -> float:
    """The next of 1, 2 and 5 times a power of ten, for an axis; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{value:.0f}") - 1) if value >= 1 else 1e-6
    while power * 10 < value:
        power *= 10
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value * 0.9999)
