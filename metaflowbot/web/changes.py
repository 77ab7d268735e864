"""What maintainers change: every change is a POST from a form of ours, and is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from metaflowbot.cases import EvalCase
from metaflowbot.errors import NotFoundError, UsageError
from metaflowbot.settings import Settings
from metaflowbot.web.access import Access, StaleFormError, Visitor
from metaflowbot.web.rendering import PageRoute, page, root_of

if TYPE_CHECKING:
    from metaflowbot.bootstrap import Parts


async def _fields(request: Request) -> dict[str, str]:
    """The form's fields; of several with one name the first."""
    text = (await request.body()).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(text).items()}


Fields = Annotated[dict[str, str], Depends(_fields)]


class Changes:
    """The forms of the maintainers' pages."""

    def __init__(self, parts: Parts, settings: Settings, access: Access) -> None:
        self._bot = parts.bot
        self._store = parts.store
        self._index = parts.index
        self._home = settings.home
        self._access = access

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/dashboard", route_class=PageRoute)
        routes = {
            "/feedback": self.decide,
            "/threads": self.review,
            "/escalations": self.hand_on,
            "/knowledge/activate": self.activate,
            "/knowledge/roll-back": self.roll_back,
            "/inbox/retry": self.retry,
        }
        for path, endpoint in routes.items():
            router.add_api_route(path, endpoint, methods=["POST"])
        return router

    def decide(self, request: Request, fields: Fields) -> Response:
        """Accept a candidate, as edited, or reject it; what can't be a case comes back to mend."""
        person = self._person(request, fields)
        answer_id = fields.get("answer_id", "")
        match fields.get("decision"):
            case "accept":
                case = _case(answer_id, fields)
                try:
                    self._store.cases.accept(case)
                except UsageError as error:
                    return page(
                        request, "case", 422, case=case, line=error, token=fields.get("token", "")
                    )
                done = "accepted"
            case "reject":
                self._store.cases.reject(answer_id)
                done = "rejected"
            case _:
                raise UsageError("the form says neither accept nor reject")
        self._store.record.log(person, f"{done} an eval case", answer_id)
        self._store.cases.write(self._home)
        return _back(request, "dashboard/feedback", done)

    def review(self, request: Request, fields: Fields) -> Response:
        """Rule on a thread."""
        person = self._person(request, fields)
        key = fields.get("key", "")
        match fields.get("verdict"):
            case "approved" | "rejected" as verdict:
                self._store.threads.review(key, verdict, person)
            case _:
                raise UsageError("the form says neither approved nor rejected")
        self._store.record.log(person, f"{verdict} a thread", key)
        self._note_change(key)
        return _back(request, "dashboard/threads", verdict, show=fields.get("show", "waiting"))

    def hand_on(self, request: Request, fields: Fields) -> Response:
        """Hand a question to people."""
        person = self._person(request, fields)
        answer_id = fields.get("answer_id", "")
        escalation = self._bot.hand_on(answer_id, person)
        self._store.record.log(person, "handed a question to people", escalation.id)
        return _back(request, f"dashboard/questions/{escalation.answer_id}", "handed")

    def activate(self, request: Request, fields: Fields) -> Response:
        """Serve another generation of the index."""
        person = self._person(request, fields)
        served = self._index.activate(fields.get("id", ""))
        self._store.record.log(person, "activated a generation", served.id)
        return _back(request, "dashboard/knowledge", "activated")

    def roll_back(self, request: Request, fields: Fields) -> Response:
        """Serve the generation before; a form made when another one was served is refused."""
        person = self._person(request, fields)
        if fields.get("active") != self._index.active_id():
            raise StaleFormError("another generation is served by now: reload the page")
        served = self._index.rollback()
        self._store.record.log(person, "rolled back to a generation", served.id)
        return _back(request, "dashboard/knowledge", "activated")

    def retry(self, request: Request, fields: Fields) -> Response:
        """Put what was given up on back in turn: one item, or all of them."""
        person = self._person(request, fields)
        key = fields.get("key", "")
        if not self._store.retry(key) and key:
            raise NotFoundError(f"{key} is not given up on any more: reload the page")
        self._store.record.log(person, "retried", key or "all")
        return _back(request, "dashboard/inbox", "retried")

    def _person(self, request: Request, fields: dict[str, str]) -> str:
        """Who sent the form; raises StaleFormError where it is not one of ours."""
        if not self._access.takes_form(request, fields.get("token", "")):
            raise StaleFormError("this form is out of date: go back, reload the page and try again")
        return Visitor.of(request).person

    def _note_change(self, key: str) -> None:
        """Have the thread read again, so that the ruling takes effect."""
        seen = self._store.threads.thread(key)
        if seen.channel_id:
            self._store.threads.changed(seen.channel_id, key.rpartition("/")[2])


def _case(answer_id: str, fields: dict[str, str]) -> EvalCase:
    return EvalCase(
        answer_id=answer_id,
        question=fields.get("question", ""),
        kind=fields.get("kind", ""),
        gold=tuple(fields.get("gold", "").splitlines()),
        answer_points=tuple(fields.get("answer_points", "").splitlines()),
    )


def _back(request: Request, path: str, done: str, **query: str) -> Response:
    """The browser follows with GET (303), so that a reload sends nothing twice."""
    return RedirectResponse(f"{root_of(request)}{path}?{urlencode({'done': done, **query})}", 303)
