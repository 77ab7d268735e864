"""How the bot behaves in a channel, set by maintainers in a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slack_bolt import Ack, App

from metaflowbot.settings import Channel
from metaflowbot.slack.actions import spoken
from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.telling import Clicked, tell

RULES_VIEW = "metaflowbot_rules"
_ANSWERS = {
    "mentions": "Only where I am mentioned",
    "questions": "Every question",
    "suggest": "Quietly, to the asker alone",
    "off": "Not at all",
}
SOURCE_NAMES = {
    "metaflow-docs": "Metaflow's docs",
    "metaflow-api": "Metaflow's API reference",
    "labs": "Metaflow labs",
    "slack": "Threads in Slack",
    "github": "Issues and discussions on GitHub",
}
_MAINTAINERS_ONLY = "Only maintainers can do that: see [trenches] maintainers in the settings."


def open_form(desk: Desk, body: Mapping[str, Any]) -> str:
    """Open the form for the channel of a command; the line to tell where it can't be opened."""
    user, channel = str(body["user_id"]), str(body["channel_id"])
    if not desk.people.is_maintainer(user):
        return _MAINTAINERS_ONLY
    view = rules_view(channel, desk.rules.of(channel))
    try:
        desk.clients.hasty.views_open(trigger_id=str(body["trigger_id"]), view=view)
    except SLACK_FAILURES as error:
        return f"Slack did not open the form ({why(error)}): please try again."
    return ""


def listen(app: App, desk: Desk) -> None:
    """What the form says wins over the settings' file."""

    def submitted(ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        user, channel = str(body["user"]["id"]), str(view["private_metadata"])
        rules = rules_of(view)
        desk.soon(lambda: _kept(desk, user, channel, rules))
        ack()

    app.view(RULES_VIEW)(submitted)


def _kept(desk: Desk, user: str, channel: str, rules: Channel) -> None:
    line = spoken(lambda: _keep(desk, user, channel, rules))
    tell(desk, Clicked(user, channel, "", "", ""), line)


def _keep(desk: Desk, user: str, channel: str, rules: Channel) -> str:
    if not desk.people.is_maintainer(user):
        return _MAINTAINERS_ONLY
    # The form shows people alone: the groups of the settings' file stay.
    groups = tuple(each for each in desk.rules.of(channel).people if each.startswith("S"))
    rules = rules.model_copy(update={"people": (*rules.people, *groups)})
    desk.rules.set(channel, rules, f"slack:{user}")
    return f"Kept. In this channel I answer: {_ANSWERS[rules.answer].lower()}."


def rules_of(view: Mapping[str, Any]) -> Channel:
    """The rules that a submitted form says."""
    values = view["state"]["values"]

    def chosen(name: str) -> list[str]:
        return [each["value"] for each in values[name][name]["selected_options"]]

    return Channel(
        answer=values["answer"]["answer"]["selected_option"]["value"],
        sources=tuple(chosen("sources")),
        people=tuple(values["people"]["people"].get("selected_users") or ()),
        follow_ups="yes" in chosen("follow_ups"),
        language=(values["language"]["language"].get("value") or "").strip(),
    )


def rules_view(channel: str, rules: Channel) -> dict[str, Any]:
    """The form, filled with how the channel is now."""
    answers, sources = _options(_ANSWERS), _options(SOURCE_NAMES)
    yes = _options({"yes": "Answer on in a thread without a mention"})
    people = [person for person in rules.people if not person.startswith("S")]
    return {
        "type": "modal",
        "callback_id": RULES_VIEW,
        "private_metadata": channel,
        "title": _plain("Metaflowbot here"),
        "submit": _plain("Keep"),
        "close": _plain("Cancel"),
        "blocks": [
            {"type": "context", "elements": [{"type": "mrkdwn", "text": f"In <#{channel}>"}]},
            _input(
                "answer",
                "When I answer",
                type="radio_buttons",
                options=answers,
                initial_option=_picked(answers, [rules.answer])[0],
            ),
            _input(
                "follow_ups",
                "Follow-ups",
                optional=True,
                type="checkboxes",
                options=yes,
                **({"initial_options": yes} if rules.follow_ups else {}),
            ),
            _input(
                "sources",
                "What I answer from (none chosen: everything)",
                optional=True,
                type="checkboxes",
                options=sources,
                **_initial(_picked(sources, rules.sources)),
            ),
            _input(
                "people",
                "Who may ask (none chosen: everybody)",
                optional=True,
                type="multi_users_select",
                **({"initial_users": people} if people else {}),
            ),
            _input(
                "language",
                "Language of the answers (empty: the question's own)",
                optional=True,
                type="plain_text_input",
                max_length=40,
                **({"initial_value": rules.language} if rules.language else {}),
            ),
        ],
    }


def _input(name: str, label: str, *, optional: bool = False, **element: Any) -> dict[str, Any]:
    return {
        "type": "input",
        "block_id": name,
        "optional": optional,
        "label": _plain(label),
        "element": {"action_id": name, **element},
    }


def _options(texts: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"text": _plain(text), "value": value} for value, text in texts.items()]


def _picked(options: Sequence[dict[str, Any]], values: Sequence[str]) -> list[dict[str, Any]]:
    return [option for option in options if option["value"] in values]


def _initial(picked: list[dict[str, Any]]) -> dict[str, Any]:
    return {"initial_options": picked} if picked else {}


def _plain(text: str) -> dict[str, str]:
    return {"type": "plain_text", "text": text}
