"""Answers whose source changed since they were given say so in their footer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from metaflowbot.slack.desk import Desk, Handler
from metaflowbot.slack.rendering import Setting, answer_messages
from metaflowbot.slack.writing import Place, Writing
from metaflowbot.slack_records import Post
from metaflowbot.store import InboxItem

_FLAGGED = timedelta(days=30)
_CHANGED = "A source of this answer changed since: ask again for a fresh one."


def handlers(desk: Desk, metaflow: str) -> Mapping[str, Handler]:
    """What flags an answer."""
    return {"outdated": lambda item: _flag(desk, item, metaflow)}


def order(desk: Desk, now: datetime) -> None:
    """Put the answers whose source changed since they were given into the inbox, once each."""
    posts = desk.store.slack.standing_since(now - _FLAGGED)
    answers = {post.answer_id: desk.store.answer(post.answer_id) for post in posts}
    given = [answer for answer in answers.values() if answer and not answer.abstained]
    for answer_id in desk.bot.outdated(given):
        desk.receive(f"outdated/{answer_id}", "outdated", {"answer_id": answer_id})


def _flag(desk: Desk, item: InboxItem, metaflow: str) -> None:
    """Say it in the answer's footer: a change that notifies nobody."""
    answer = desk.store.answer(item.payload["answer_id"])
    since = datetime.now(UTC) - _FLAGGED
    posts = [
        post
        for post in desk.store.slack.standing_since(since)
        if post.answer_id == item.payload["answer_id"]
    ]
    if answer is None or not posts:
        return
    setting = Setting(posts[-1].person.removeprefix("slack:"), desk.people.maintainers(), metaflow)
    flagged = replace(answer, notice=" ".join([answer.notice, _CHANGED]).strip())
    message = answer_messages(flagged, setting)[-1]
    last = max(posts, key=lambda post: post.part)
    place = Place(desk.identity.team_id, *_where(last))
    Writing(desk.clients, place, lambda ts: None, last.ts).replace(
        message, place.metadata(answer.id, last.part, last.part + 1)
    )


def _where(post: Post) -> tuple[str, str, str, str, str]:
    user = post.person.removeprefix("slack:")
    return post.channel, post.thread, post.message, user, post.key
