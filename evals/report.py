"""A run as one HTML page that needs nothing else: what went worst first, then every case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from evals import figures, plots, runs, significance
from evals.figures import Figure
from evals.measures import CORRECT, EXACT, GATED
from evals.reasons import badness, reasons, worst
from evals.runs import Outcome, Run
from evals.tables import number
from metaflowbot.errors import UsageError

_HERE = Path(__file__).resolve().parent
HISTORY = 20
_RISK = (
    "If only the most confident answers were given: how many of them would cite no right page. "
    "Messages that no source answers are among them, so the right end is high."
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write(run: Run, path: Path) -> Path:
    """Write the page beside the run's file, with the runs in that folder as its history."""
    target = path.with_suffix(".html")
    try:
        target.write_text(page(run, runs.history(path.parent, HISTORY)), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {path.parent} can't be written: {error.strerror}") from None
    return target


def page(run: Run, earlier: Sequence[Run] = ()) -> str:
    """The whole page; `earlier` are runs, oldest first: those of its dataset are its history."""
    alike = [old for old in earlier if old.subject.dataset == run.subject.dataset]
    parts = "\n".join(_parts(run, alike))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Metaflowbot evals, {escape(run.started_at)}</title>"
        f"<style>{_asset('report.css')}</style></head><body>\n{parts}\n"
        f"<script>{_asset('report.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _parts(run: Run, earlier: Sequence[Run]) -> Iterator[str]:
    yield _head(run)
    yield _worst(run)
    yield _gated(run, earlier)
    yield _suites(run)
    yield _plots(run, earlier)
    yield _cases(run)
    yield _about(run)


def _head(run: Run) -> str:
    subject = run.subject
    bad = sum(badness(outcome) > 0 for outcome in run.questions.values())
    return (
        "<header><h1>Metaflowbot evals</h1>"
        f'<p class="soft">{escape(run.started_at)} · {escape(subject.dataset)} · model '
        f"{escape(subject.model)} · code {escape(subject.code)}</p>"
        f"<p>{len(run.questions)} cases, {bad} with something wrong.</p>"
        + "".join(f'<p class="bad">{escape(line)}.</p>' for line in run.shortfalls)
        + "</header>"
    )


def _worst(run: Run) -> str:
    """The questions and the drills that went worst, beside each other."""
    questions = {name: it for name, it in run.questions.items() if not it.is_drill}
    drills = {name: it for name, it in run.questions.items() if it.is_drill}
    titled = (("The five worst questions", questions), ("The five worst drills", drills))
    lists = "".join(
        f'<div><h2>{title}</h2><ol class="worst">{_ranked(members)}</ol></div>'
        for title, members in titled
        if members
    )
    return f'<section class="columns">{lists}</section>'


def _ranked(members: Mapping[str, Outcome]) -> str:
    rows = [
        f'<li><a href="#{escape(_anchor(name))}">{escape(_short(members[name].question))}</a> '
        f'<span class="soft">{escape(_after(members[name]) + name)}</span>'
        f"{_why(members[name], 2)}</li>"
        for name in worst(members)
    ]
    return "".join(rows) or "<li>Nothing went wrong.</li>"


def _after(outcome: Outcome) -> str:
    """The question before, of a follow-up."""
    asked = [line.removeprefix("user: ") for line in outcome.history if line.startswith("user: ")]
    return f"after “{_short(asked[-1])}” · " if asked else ""


def _why(outcome: Outcome, count: int) -> str:
    lines = "".join(f"<li>{escape(line[:300])}</li>" for line in reasons(outcome)[:count])
    return f'<ul class="why">{lines}</ul>' if lines else ""


def _gated(run: Run, earlier: Sequence[Run]) -> str:
    names = [*GATED, *([CORRECT] if run.judge_is_trusted else [])]
    rows = []
    for name in names:
        figure = _figure(run, name)
        if figure is None or figure.value is None:
            continue
        before = [old for old in earlier if old.started_at < run.started_at]
        last = _figure(before[-1], name) if before else None
        change = "" if last is None or last.value is None else f"{figure.value - last.value:+.3f}"
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{number(figure)}</td><td>{figure.n}</td>"
            f"<td>{change}</td><td>{_least(name, figure.n):.2f}</td>"
            f'<td class="wide">{plots.interval(figure)}</td></tr>'
        )
    head = "<th>score</th><th>value</th><th>n</th><th>since last</th><th>can show</th>"
    return (
        '<section><h2>Scores that stop a change</h2><div class="scroll"><table><thead><tr>'
        f'{head}<th class="wide"></th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        '<p class="soft">With 95 % intervals over questions. “can show” is the smallest fall that '
        "stops a change, when every question that moves falls by a whole point; where answers "
        "vary from run to run it takes more, which the comparison of two runs says.</p></section>"
    )


def _least(name: str, n: int) -> float:
    """The smallest fall of a score over n questions that stops a change."""
    if name in EXACT:
        return 1 / n
    return significance.detectable([0.0] * n, [0.0] * n, len(GATED) - len(EXACT))


def _figure(run: Run, name: str) -> Figure | None:
    """The figure of a score, over all its questions."""
    values = [item.scores[name] for item in run.questions.values() if name in item.scores]
    suite, _, measure = name.partition("/")
    result = run.results.get(suite)
    if result is not None and measure in result.figures:
        return result.figures[measure]
    return figures.mean(values) if values else None


def _suites(run: Run) -> str:
    parts = []
    for name, result in run.results.items():
        head = "".join(f"<th>{escape(measure)}</th>" for measure in result.figures)
        rows = [_row("all", result.figures, result.figures)]
        rows += [_row(group, result.figures, found) for group, found in result.groups.items()]
        parts.append(
            f'<h2>{escape(name)}</h2><div class="scroll"><table><thead><tr><th></th><th>n</th>'
            f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )
    parts += [
        f'<p class="soft">{escape(name)} was skipped: {escape(why)}</p>'
        for name, why in run.skipped.items()
    ]
    return f"<section>{''.join(parts)}</section>"


def _row(name: str, columns: Mapping[str, Figure], found: Mapping[str, Figure]) -> str:
    n = next((figure.n for figure in found.values()), 0)
    cells = "".join(
        f"<td>{number(found[column]) if column in found else ''}</td>" for column in columns
    )
    return f"<tr><td>{escape(name)}</td><td>{n}</td>{cells}</tr>"


def _plots(run: Run, earlier: Sequence[Run]) -> str:
    abstention = run.results.get("abstention")
    curve = plots.risk_coverage(abstention.curve) if abstention else ""
    past = plots.history(
        [
            (name, [figure.value if (figure := _figure(old, name)) else None for old in earlier])
            for name in GATED[:6]
        ]
    )
    shown = [
        f'<div><h2>{title}</h2>{plot}<p class="soft">{told}</p></div>'
        for title, plot, told in (
            ("Risk by coverage", curve, _RISK),
            ("History", past, "Runs with this dataset in the same folder."),
        )
        if plot
    ]
    return f'<section class="plots">{"".join(shown)}</section>'


def _cases(run: Run) -> str:
    ordered = sorted(run.questions, key=lambda name: -badness(run.questions[name]))
    suites = sorted({suite for it in run.questions.values() for suite in _suites_of(it)})
    kinds = sorted({outcome.kind for outcome in run.questions.values() if outcome.kind})
    rows = "\n".join(_case(name, run.questions[name]) for name in ordered)
    return (
        '<section><h2>All cases</h2><div class="filters">'
        f"{_select('suite', 'all suites', suites)}{_select('kind', 'all kinds', kinds)}"
        '<input type="search" id="words" placeholder="words" aria-label="words">'
        '<label><input type="checkbox" id="faults"> only with faults</label>'
        f'<span id="shown" class="soft"></span></div>{rows}</section>'
    )


def _select(name: str, every: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{escape(value)}</option>" for value in values)
    return (
        f'<select id="{name}" aria-label="{name}"><option value="">{every}</option>{options}'
        "</select>"
    )


def _suites_of(outcome: Outcome) -> set[str]:
    return {name.partition("/")[0] for name in outcome.scores}


def _case(name: str, outcome: Outcome) -> str:
    bad = badness(outcome)
    flag = '<span class="flag bad">✗</span>' if bad else '<span class="flag good">✓</span>'
    return (
        f'<details class="case" id="{escape(_anchor(name))}" data-kind="{escape(outcome.kind)}" '
        f'data-suites="{escape("|".join(sorted(_suites_of(outcome))))}" data-bad="{bad:g}">'
        f"<summary>{flag} {escape(_short(outcome.question))} "
        f'<span class="soft">{escape(name)}</span></summary>{"".join(_detail(outcome))}</details>'
    )


def _detail(outcome: Outcome) -> Iterator[str]:
    yield _why(outcome, 20)
    yield from (f'<p class="soft">{escape(line)}</p>' for line in outcome.history)
    if len(outcome.question) > len(_short(outcome.question)) or "\n" in outcome.question:
        yield f"<pre>{escape(outcome.question)}</pre>"
    if outcome.gold:
        yield f"<p>Right pages: {', '.join(escape(page) for page in outcome.gold)}</p>"
    if outcome.ranking:
        items = "".join(
            f'<li class="{"gold" if page in outcome.gold else ""}">{escape(page)}</li>'
            for page in outcome.ranking[:10]
        )
        yield f'<ol class="ranking">{items}</ol>'
    if outcome.text:
        yield f"<p>What was shown:</p><pre>{escape(outcome.text)}</pre>"
    for line in outcome.checks:
        yield f'<p class="soft">{escape(line)}</p>'
    listed = " · ".join(f"{escape(name)} {value:.2f}" for name, value in outcome.scores.items())
    yield f'<p class="soft">{listed}</p>'


def _about(run: Run) -> str:
    subject = run.subject
    values = {
        "questions": f"{subject.dataset}, SHA-256 {subject.dataset_sha256}",
        "index": f"{subject.generation}, documents {subject.documents}",
        "embedding": subject.embedding_model,
        "model": subject.model,
        "judges": ", ".join(subject.judges) or "none",
        "prompts": f"{subject.prompts} (of the answer: {subject.prompt_version})",
        "code": subject.code,
        "trials": str(subject.trials),
        "threads held out": "yes" if subject.hold_out else "no",
    }
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items())
    notices = "".join(f"<li>{escape(line)}</li>" for line in run.notices)
    told = f"<h2>Notices</h2><ul>{notices}</ul>" if notices else ""
    return f"<section><h2>What was evaluated</h2><dl>{listed}</dl>{told}</section>"


def _anchor(name: str) -> str:
    return f"case-{name}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 140 else line[:139] + "…"
