"""An ingest's summary as a Metaflow card: tables, and plots as Vega-Lite specifications."""

# Metaflow's stubs leave constructors untyped.
# mypy: untyped-calls-exclude=metaflow
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ingest.check import DEPTH
from ingest.pipeline import SourceReport, Summary

if TYPE_CHECKING:
    from metaflow.cards import MetaflowCardComponent

Row = list["str | MetaflowCardComponent"]

# Ids that a cell shows before it says how many more there are.
_SHOWN = 20
_VEGA_LITE = "https://vega.github.io/schema/vega-lite/v5.json"
_WIDE = {"labelLimit": 400}


def components(summary: Summary) -> Iterator[MetaflowCardComponent]:
    """Yield the card's parts from top to bottom. `summary` has been through all stages."""
    from metaflow.cards import Markdown, Table, VegaChart

    yield Markdown(f"# Ingest\n\n{summary.verdict()}")
    yield Markdown(
        f"{summary.documents:,} documents, {summary.passages:,} passages, "
        f"{summary.embedded:,} of them embedded this time"
    )
    yield Markdown("## Sources")
    yield Table(
        [_source_row(report, summary) for report in summary.sources],
        ["Source", "Documents", "before", "Passages", "before", "Left out", "Seconds", "Remark"],
    )
    yield VegaChart(passages_plot(summary))
    yield Markdown(f"## Changes since {summary.changes.since or 'the beginning'}")
    yield Table(change_rows(summary), ["Change", "Documents", "Which"])
    yield Markdown("## Left out")
    yield Table(omission_rows(summary.sources) or [[""] * 4], ["Source", "Why", "Files", "Which"])
    yield Markdown("## Scrubbed")
    yield Table(removed_rows(summary.sources) or [[""] * 3], ["Source", "Kind", "Finds"])
    yield Markdown("## Retrieval check")
    yield Table(golden_rows(summary) or [[""] * 2], ["Golden question", "Rank of its document"])
    yield VegaChart(golden_plot(summary))
    yield Markdown("## Time")
    yield VegaChart(seconds_plot(summary.seconds))
    yield Table(
        [[stage, f"{seconds:.2f}"] for stage, seconds in summary.seconds.items()],
        ["Stage", "Seconds"],
    )


def change_rows(summary: Summary) -> list[Row]:
    """What was added, changed and removed: how many documents, and which."""
    changes = summary.changes
    groups = (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
    return [[name, str(len(ids)), _listed(ids)] for name, ids in groups]


def omission_rows(reports: Iterable[SourceReport]) -> list[Row]:
    """What each source left out, a row for each reason; [] where nothing was."""
    return [
        [report.name, why, str(len(what)), _listed(what)]
        for report in reports
        for why, what in report.omitted().items()
    ]


def removed_rows(reports: Iterable[SourceReport]) -> list[Row]:
    """Secrets and personal data scrubbed from each source, a row for each kind; [] for none."""
    return [
        [report.name, kind, str(count)]
        for report in reports
        for kind, count in report.removed.items()
    ]


def golden_rows(summary: Summary) -> list[Row]:
    """Each golden question with the rank of its document; [] where none was asked."""
    return [
        [finding.question, str(finding.rank or f"not in the first {DEPTH}")]
        for finding in summary.golden
    ]


def passages_plot(summary: Summary) -> dict[str, Any]:
    """Passages by source, the live generation's beside the new one's."""
    before = {name: count.passages for name, count in summary.changes.sources.items()}
    now = {report.name: report.passages for report in summary.sources}
    values = [
        {"source": name, "generation": generation, "passages": counts.get(name, 0)}
        for name in now | before
        for generation, counts in (("before", before), ("now", now))
    ]
    plot = _bars(values, "passages", "source")
    plot["encoding"] |= {"yOffset": {"field": "generation"}, "color": {"field": "generation"}}
    return plot


def golden_plot(summary: Summary) -> dict[str, Any]:
    """The reciprocal rank of each golden question's document, 0 where it was not found."""
    values = [
        {"question": finding.question, "reciprocal rank": 1 / finding.rank if finding.rank else 0}
        for finding in summary.golden
    ]
    return _bars(values, "reciprocal rank", "question")


def seconds_plot(seconds: Mapping[str, float]) -> dict[str, Any]:
    """How long each stage took."""
    values = [{"stage": stage, "seconds": taken} for stage, taken in seconds.items()]
    return _bars(values, "seconds", "stage")


def _bars(values: Sequence[Mapping[str, object]], length: str, name: str) -> dict[str, Any]:
    return {
        "$schema": _VEGA_LITE,
        "width": 500,
        "data": {"values": values},
        "mark": "bar",
        "encoding": {
            "x": {"field": length, "type": "quantitative"},
            "y": {"field": name, "type": "nominal", "sort": None, "title": None, "axis": _WIDE},
        },
    }


def _source_row(report: SourceReport, summary: Summary) -> Row:
    before = summary.changes.sources.get(report.name)
    return [
        report.name,
        str(report.documents),
        str(before.documents) if before else "-",
        str(report.passages),
        str(before.passages) if before else "-",
        str(len(report.omissions)),
        f"{report.seconds:.2f}",
        "; ".join(filter(None, [report.error, report.notice])),
    ]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
