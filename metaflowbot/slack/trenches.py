"""From the Trenches in Slack: the card's buttons and forms, and the asker's word on quotes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from slack_bolt import Ack, App
from slack_sdk import WebClient

from metaflowbot.errors import MetaflowbotError, UsageError
from metaflowbot.escalation import Escalation, Session, Solution
from metaflowbot.escalations import INBOX_KIND
from metaflowbot.slack import trenches_card as cards
from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.slack.desk import Desk, Handler
from metaflowbot.slack.markdown import question_text
from metaflowbot.slack.replies import unexpected
from metaflowbot.slack.telling import Clicked, tell
from metaflowbot.slack.trenches_board import CARD, Board

_NOT_A_MAINTAINER = "Only maintainers can do that: see [trenches] maintainers in the settings."
_log = logging.getLogger(__name__)
_Json = dict[str, Any]


def listen(app: App, desk: Desk) -> None:
    """Add the listeners for the card, its forms, and what the asker says to being quoted."""
    _Card(desk).listen(app)


def handlers(desk: Desk) -> Mapping[str, Handler]:
    """What works off the inbox's items of escalations."""
    return {INBOX_KIND: Board(desk)}


class _Card:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._bot = desk.bot
        self._board = Board(desk)

    def listen(self, app: App) -> None:
        app.action(f"{cards.ACTION}claim")(self._claim)
        for step in ("schedule", "solve", "decline", "publish"):
            app.action(f"{cards.ACTION}{step}")(self._open_form)
            app.view(f"{cards.ACTION}{step}")(self._submit)
        for said in ("given", "refused"):
            app.action(f"{cards.CONSENT}{said}")(self._consent)

    def _claim(self, ack: Ack, body: _Json, action: _Json) -> None:
        ack()
        identity, user = action["value"], body["user"]["id"]
        line = self._attempt(user, lambda: self._bot.claim(identity, f"slack:{user}"))
        self._reply(body, line)

    def _consent(self, ack: Ack, body: _Json, action: _Json) -> None:
        ack()
        given, person = (
            action["action_id"] == f"{cards.CONSENT}given",
            f"slack:{body['user']['id']}",
        )
        line = self._said(lambda: self._bot.allow_quotes(action["value"], person, given=given))
        self._reply(body, line)

    def _open_form(self, ack: Ack, body: _Json, action: _Json, client: WebClient) -> None:
        ack()
        step = action["action_id"].removeprefix(cards.ACTION)

        def show() -> None:
            escalation = self._desk.store.escalations.get(action["value"])
            client.views_open(trigger_id=body["trigger_id"], view=self._form(step, escalation))

        self._reply(body, self._attempt(body["user"]["id"], show))

    def _form(self, step: str, escalation: Escalation) -> cards.Block:
        match step:
            case "schedule":
                return cards.schedule_form(escalation)
            case "solve":
                return cards.solve_form(escalation, self._board.messages_of(escalation))
            case "decline":
                return cards.decline_form(escalation)
        return cards.publish_form(escalation)

    def _submit(self, ack: Ack, body: _Json, view: _Json) -> None:
        """Take the step; what can be mended is said in the form, what can't under the card."""
        identity, user = view["private_metadata"], body["user"]["id"]
        step, entered = view["callback_id"].removeprefix(cards.ACTION), _entered(view)
        try:
            self._check(user)
            self._take(step, identity, entered, f"slack:{user}")
        except UsageError as error:
            ack(response_action="errors", errors={view["blocks"][0]["block_id"]: str(error)[:150]})
            return
        except MetaflowbotError as error:
            line = str(error)
        except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
            line = unexpected("changing an escalation")
        else:
            line = ""
        ack()
        self._desk.received()
        card = self._desk.store.escalations.post(identity, CARD)
        if line and card:
            tell(self._desk, Clicked(user, card.channel, card.ts, "", ""), line)

    def _take(self, step: str, identity: str, entered: Mapping[str, Any], person: str) -> None:
        match step:
            case "schedule":
                day = date.fromisoformat(entered["day"])
                people = tuple(f"slack:{user}" for user in entered["people"] or ())
                session = Session(day, people, entered["recording"] or "")
                self._bot.schedule(identity, session, person)
            case "solve":
                solution = self._solution(identity, entered)
                self._bot.solve(identity, solution, person)
            case "decline":
                self._bot.decline(identity, entered["reason"] or "", person)
            case "publish":
                self._bot.publish(identity, entered["url"] or "", person)

    def _solution(self, identity: str, entered: Mapping[str, Any]) -> Solution:
        """What was written in the form, else the chosen message as it is now."""
        if (entered["text"] or "").strip():
            return Solution(entered["text"])
        chosen = entered.get("message") or ""
        messages = (
            self._board.messages_of(self._desk.store.escalations.get(identity)) if chosen else []
        )
        text = next((str(each["text"]) for each in messages if each["ts"] == chosen), "")
        if chosen and not text:
            raise UsageError("that message is not there any more: choose another, or write one")
        return Solution(question_text(text, ""), chosen)

    def _check(self, user: str) -> None:
        if not self._desk.people.is_maintainer(user):
            raise MetaflowbotError(_NOT_A_MAINTAINER)

    def _attempt(self, user: str, step: Callable[[], object]) -> str:
        """Do what a maintainer wants; the line to tell them, '' where the card shows it."""
        if not self._desk.people.is_maintainer(user):
            return _NOT_A_MAINTAINER
        return self._said(step)

    def _said(self, step: Callable[[], object]) -> str:
        try:
            step()
        except MetaflowbotError as error:
            return str(error)
        except SLACK_FAILURES as error:
            _log.warning("can't open a form: %s", why(error))
            return "Slack did not open the form: press the button again."
        except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
            return unexpected("changing an escalation")
        self._desk.received()
        return ""

    def _reply(self, body: _Json, line: str) -> None:
        """Tell who pressed the button, and nobody else; nothing for ''."""
        if line:
            tell(self._desk, Clicked.of(body), line)


def _entered(view: _Json) -> dict[str, Any]:
    """What was entered, by the input's name; None for nothing."""
    values: dict[str, Any] = {}
    for block, held in view["state"]["values"].items():
        state = next(iter(held.values()))
        option = state.get("selected_option")
        given = (state.get(key) for key in ("value", "selected_date", "selected_users"))
        values[block] = option["value"] if option else next(filter(None, given), None)
    return values
