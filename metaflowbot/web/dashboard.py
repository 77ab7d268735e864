"""The maintainers' pages: what was asked, what it was worth, and what waits for a person.

Each page reads the store and renders a template; what they change is in changes.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from time import sleep
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from metaflowbot import telemetry
from metaflowbot.errors import MetaflowbotError, NotFoundError, UsageError
from metaflowbot.escalation import Escalation, State
from metaflowbot.ingest_run import IngestRun
from metaflowbot.insights import Period, names, periods, summed
from metaflowbot.record import Filter
from metaflowbot.settings import Settings
from metaflowbot.web.access import Access, Visitor
from metaflowbot.web.eval_history import EvalRun, History, histories, report
from metaflowbot.web.pictures import Chart, Picture, Series
from metaflowbot.web.rendering import PageRoute, day, money, page, percent, took
from metaflowbot.web.shapes import Text

if TYPE_CHECKING:
    from metaflowbot.bootstrap import Parts

_LOOKS_BACK_DAYS = 90
_THREADS_SHOWN = 50
_OVER_SHOWN = 20
_RUNS_SHOWN = 4
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)
_REST_SECONDS = 0.2  # after each batch, so that answers come first


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """Threads on one page of the review queue; `counts` are by what may be shown."""

    shown: str
    number: int
    pages: int
    counts: dict[str, int]


class Dashboard:
    """The pages over one bot and its parts. Endpoints are sync: FastAPI runs them in threads."""

    def __init__(self, parts: Parts, settings: Settings, access: Access) -> None:
        self._bot = parts.bot
        self._store = parts.store
        self._index = parts.index
        self._settings = settings
        self._access = access
        self._grouping = threading.Lock()

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/dashboard", route_class=PageRoute)
        router.add_api_route("", self.overview)
        router.add_api_route("/questions", self.questions)
        router.add_api_route("/questions/{answer_id}", self.question)
        router.add_api_route("/feedback", self.feedback)
        router.add_api_route("/gaps", self.gaps)
        router.add_api_route("/threads", self.threads)
        router.add_api_route("/escalations", self.escalations)
        router.add_api_route("/knowledge", self.knowledge)
        router.add_api_route("/evals", self.evals)
        router.add_api_route("/evals/{name}", self.report)
        router.add_api_route("/inbox", self.inbox)
        router.add_api_route("/log", self.log)
        return router

    def overview(self, request: Request) -> Response:
        today = datetime.now(UTC).date()
        days = self._store.record.days(today - timedelta(days=_LOOKS_BACK_DAYS - 1))
        states = self._store.escalations.counts()
        return self._page(
            request,
            "overview",
            week=summed(days[-7:]),
            before=summed(days[-14:-7]),
            pictures=_pictures(periods(days)),
            waiting={
                "feedback": self._store.cases.waiting(),
                "escalations": sum(states.get(state, 0) for state in _UNDER_WAY),
                "inbox": self._store.health().dead,
            },
            missing=self._bot.missing(),
        )

    def questions(self, request: Request) -> Response:
        wanted, number = _filter(request), _number(request)
        channels, models = self._store.record.choices()
        given = {name: value for name, value in request.query_params.items() if value}
        return self._page(
            request,
            "questions",
            listed=self._store.record.page(wanted, number),
            wanted=wanted,
            channels=channels,
            models=models,
            link=lambda at: "?" + urlencode({**given, "page": at}),
        )

    def question(self, request: Request, answer_id: Text) -> Response:
        answer = self._store.answer(answer_id)
        if answer is None:
            raise NotFoundError(f"there is no answer {answer_id!r}")
        return self._page(
            request,
            "question",
            answer=answer,
            origin=self._store.record.origin(answer_id),
            verdicts=self._store.record.verdicts(answer_id),
            escalation=self._store.escalations.of_answer(answer_id),
            shared=self._store.record.may_be_shared(answer_id),
            is_indexed=self._is_indexed(),
        )

    def feedback(self, request: Request) -> Response:
        number = _number(request)
        waiting, total = self._store.cases.queue(number)
        return self._page(
            request,
            "feedback",
            waiting=waiting,
            total=total,
            number=number,
            accepted=len(self._store.cases.accepted()),
        )

    def gaps(self, request: Request) -> Response:
        self._group_gaps()
        since = datetime.now(UTC) - timedelta(days=_LOOKS_BACK_DAYS)
        found = self._store.gaps.largest(since)
        named = names([[text for _, text in gap.questions] for gap in found])
        return self._page(
            request,
            "gaps",
            gaps=list(zip(named, found, strict=True)),
            waiting=self._store.gaps.waiting(),
            repeated=self._store.record.repeated(since.date()),
            days=_LOOKS_BACK_DAYS,
        )

    def threads(self, request: Request) -> Response:
        shown, number = request.query_params.get("show", "waiting"), _number(request)
        reviews = self._store.threads.reviews()
        lists: dict[str, list[object]] = {"waiting": [], "reviewed": [], "all": []}
        found = self._store.threads.seen()
        for seen in (thread for thread in found if not thread.private):
            review = reviews.get(seen.key)
            lists["all"].append((seen, review))
            if review:
                lists["reviewed"].append((seen, review))
            elif seen.state == "quarantined":
                lists["waiting"].append((seen, review))
        if shown not in lists:
            raise UsageError(f"show is {shown!r}: choose one of {', '.join(lists)}")
        listed = lists[shown]
        start = (number - 1) * _THREADS_SHOWN
        counts = {name: len(each) for name, each in lists.items()}
        where = ThreadPage(shown, number, max(1, -(-len(listed) // _THREADS_SHOWN)), counts)
        return self._page(
            request,
            "threads",
            threads=listed[start : start + _THREADS_SHOWN],
            where=where,
            hidden=len(found) - counts["all"],
        )

    def escalations(self, request: Request) -> Response:
        board: dict[State, list[Escalation]] = {state: [] for state in get_args(State)}
        for escalation in reversed(self._store.escalations.all()):
            board[escalation.state].append(escalation)
        return self._page(request, "escalations", board=board, most=_OVER_SHOWN)

    def knowledge(self, request: Request) -> Response:
        manifests = list(reversed(self._index.manifests()))
        active = self._index.active_id()
        served = next((manifest for manifest in manifests if manifest.id == active), None)
        return self._page(
            request,
            "knowledge",
            manifests=manifests,
            active=active,
            served=served,
            last_ingest=IngestRun.last(self._settings.home),
            read_at=lambda source: IngestRun.read_at(self._settings.home, source),
            ago=lambda at: _ago(datetime.now(UTC) - at),
        )

    def evals(self, request: Request) -> Response:
        shown = [(each, _eval_pictures(each)) for each in histories(self._settings.home)]
        return self._page(request, "evals", histories=shown, most=_RUNS_SHOWN)

    def report(self, name: str) -> Response:
        """A run's report; it brings its own script, so it runs apart from these pages."""
        text = report(self._settings.home, name)
        return HTMLResponse(text, headers={"Content-Security-Policy": _REPORT_POLICY})

    def inbox(self, request: Request) -> Response:
        health, dead = self._store.health(), self._store.dead()
        return self._page(request, "inbox", health=health, dead=dead)

    def log(self, request: Request) -> Response:
        return self._page(request, "log", entries=self._store.record.entries())

    def _page(self, request: Request, template: str, **values: Any) -> Response:
        visitor = Visitor.of(request)
        done = request.query_params.get("done", "")
        token = self._access.form_token(visitor)
        response = page(request, template, token=token, done=done, **values)
        visitor.remember(request, response)
        return response

    def _is_indexed(self) -> Callable[[str], bool]:
        """Tells of a document's id whether the active generation has it, under any name."""
        manifest = self._bot.vitals().manifest
        return lambda identity: manifest is None or manifest.current_id(identity) is not None

    def _group_gaps(self) -> None:
        """Group what is new in the background, one run at a time: a page does not wait for it."""
        if self._store.gaps.waiting() and self._grouping.acquire(blocking=False):
            threading.Thread(target=self._group_all, name="gaps").start()

    def _group_all(self) -> None:
        # Not a daemon: a process must not end within the embedding, which would abort it.
        main = threading.main_thread()
        try:
            while main.is_alive() and self._bot.group_gaps():
                sleep(_REST_SECONDS)
        except MetaflowbotError as error:
            telemetry.event("gaps", failure=type(error).__name__)
        finally:
            self._grouping.release()


_UNDER_WAY: tuple[State, ...] = ("open", "claimed", "scheduled")


def _ago(span: timedelta) -> str:
    """'today', 'yesterday' or '12 days ago'."""
    return {0: "today", 1: "yesterday"}.get(max(span.days, 0), f"{span.days} days ago")


def _filter(request: Request) -> Filter:
    """The filter that a query asks for; raises UsageError for a value that none has."""
    given = request.query_params
    if any("\0" in value for value in given.values()):
        raise UsageError("a NUL character is in no question: leave it out")
    channel = given.get("channel", "")
    wanted = Filter(
        text=given.get("text", "").strip(),
        since=_day(given.get("since", "")),
        until=_day(given.get("until", "")),
        channel=None if not channel else "" if channel == "none" else channel,
        model=given.get("model", ""),
        topic=given.get("topic", ""),
    )
    match given.get("outcome", ""):
        case "" | "answered" | "abstained" as outcome:
            wanted = replace(wanted, outcome=outcome)
        case other:
            raise UsageError(f"outcome is {other!r}: choose answered or abstained")
    match given.get("verdict", ""):
        case "" | "up" | "down" | "none" as verdict:
            return replace(wanted, verdict=verdict)
        case other:
            raise UsageError(f"verdict is {other!r}: choose up, down or none")


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"{text!r} is not a date: write it as 2026-01-31") from None


def _number(request: Request) -> int:
    text = request.query_params.get("page", "1")
    if not (text.isdecimal() and 1 <= int(text) <= 1_000_000):
        raise UsageError(f"page is {text!r}: it is a number from 1 on")
    return int(text)


def _pictures(shown: tuple[Period, ...]) -> tuple[Picture, ...]:
    labels = [day(datetime.combine(period.start, time())) for period in shown]
    answered: list[float | None] = [float(each.asked - each.abstained) for each in shown]
    abstained: list[float | None] = [float(each.abstained) for each in shown]
    times = [
        Series("half of them", "first", [each.median_ms for each in shown]),
        Series("95 %", "second", [each.p95_ms for each in shown]),
    ]
    helpful = [Series("helpful", "first", [each.helpful for each in shown])]
    cost = [Series("cost", "first", [each.cost_usd for each in shown])]
    asked = [Series("answered", "first", answered), Series("abstained", "second", abstained)]
    return (
        Chart("Questions", labels, asked, lambda n: f"{n:,.0f}").bars(),
        Chart("Helpful, of what was rated", labels, helpful, percent, top=1.0).lines(),
        Chart("Time to the answer", labels, times, took).lines(),
        Chart("Cost", labels, cost, money).bars(),
    )


def _eval_pictures(history: History) -> tuple[Picture, ...]:
    """Each suite's first figure over the runs, oldest first; () for one run."""
    oldest = list(reversed(history.runs))
    if len(oldest) < 2:
        return ()
    days = [run.started_at[:10] for run in oldest]
    return tuple(
        Chart(
            f"{suite}: {measures[0]}", days, [_eval_series(oldest, suite, measures[0])], _figure
        ).lines()
        for suite, measures in history.suites.items()
    )


def _eval_series(runs: Sequence[EvalRun], suite: str, measure: str) -> Series:
    found = [run.figure(suite, measure) for run in runs]
    return Series(measure, "first", [each.value if each else None for each in found])


def _figure(value: float) -> str:
    return f"{value:.3g}"
