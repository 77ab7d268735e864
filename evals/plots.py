"""Plots as inline SVG: no script, no network, readable in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from evals.figures import Figure, Point

_WIDE, _HIGH, _EDGE = 420, 230, 36


def interval(figure: Figure) -> str:
    """A figure from 0 to 1 as a bar, with its interval as a line; '' where it is not defined."""
    if figure.value is None:
        return ""
    value = min(max(figure.value, 0.0), 1.0)
    low = value if figure.low is None else figure.low
    high = value if figure.high is None else figure.high
    return (
        '<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" '
        f'aria-label="{value:.3f}, {low:.3f} to {high:.3f}">'
        '<rect class="ground" width="100" height="12"/>'
        f'<rect class="value" width="{100 * value:.1f}" height="12"/>'
        f'<rect class="range" x="{100 * low:.1f}" y="4.5" '
        f'width="{max(100 * (high - low), 0.6):.1f}" height="3"/></svg>'
    )


def risk_coverage(curve: Sequence[Point]) -> str:
    """Risk (upwards) by coverage; '' for fewer than two points."""
    points = [(point.coverage, point.risk) for point in curve]
    shares = (0, 0.25, 0.5, 0.75, 1)
    up = "share of wrong answers"
    return _lines([("risk", points)], "share of questions answered", up, shares)


def history(series: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """Scores (0 to 1) run by run, oldest first; '' for fewer than two runs."""
    lines = []
    for name, values in series:
        last = max(len(values) - 1, 1)
        known = [(place / last, value) for place, value in enumerate(values) if value is not None]
        lines.append((name, known))
    return _lines(lines, "runs, oldest first", "score")


def _lines(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    across: str,
    up: str,
    ticks: Sequence[float] = (),
) -> str:
    drawn = [(name, points) for name, points in series if len(points) > 1]
    if not drawn:
        return ""
    parts = [_axes(across, up, ticks)]
    for place, (name, points) in enumerate(drawn):
        path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="line s{place % 6}" points="{path}"/>')
        parts += [
            f'<circle class="dot s{place % 6}" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="3">'
            f"<title>{escape(name)}: {y:.3f}</title></circle>"
            for x, y in points
        ]
    legend = "".join(
        f'<li><span class="s{place % 6}"></span>{escape(name)}</li>'
        for place, (name, _) in enumerate(drawn)
    )
    shown = f'<ul class="legend">{legend}</ul>' if len(drawn) > 1 else ""
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDE} {_HIGH}" role="img">{"".join(parts)}</svg>{shown}'
    )


def _axes(across: str, up: str, shares: Sequence[float]) -> str:
    ticks = "".join(
        f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(at):.1f}" y2="{_y(at):.1f}"/>'
        f'<text class="tick" x="{_x(0) - 6}" y="{_y(at) + 4:.1f}" text-anchor="end">{at:g}</text>'
        for at in (0, 0.25, 0.5, 0.75, 1)
    )
    ticks += "".join(
        f'<text class="tick" x="{_x(at):.1f}" y="{_y(0) + 14:.1f}" text-anchor="middle">{at:g}'
        "</text>"
        for at in shares
    )
    return (
        f'{ticks}<text class="tick" x="{_x(0.5)}" y="{_HIGH - 4}" text-anchor="middle">'
        f'{escape(across)}</text><text class="tick" x="{_x(0)}" y="12">{escape(up)}</text>'
    )


def _x(share: float) -> float:
    return _EDGE + share * (_WIDE - _EDGE - 12)


def _y(share: float) -> float:
    return 20 + (1 - share) * (_HIGH - 20 - 40)
