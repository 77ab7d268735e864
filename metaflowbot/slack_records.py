"""What the bot posted in Slack, and how each channel wants it, in the store's database.

A post is kept when it is begun, so that after a crash it is finished rather than posted again;
by it a reaction, an edit or a deletion in Slack finds the answer it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from metaflowbot.database import Database
from metaflowbot.migrations.schema import ANSWERS, INBOX, SLACK_CHANNELS, SLACK_POSTS

PostState = Literal["writing", "standing", "withdrawn"]
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Post:
    """One message of the bot's: part `part` of what answers the message `message`.

    `key` is the inbox item it answers, `person` who asked, e.g. 'slack:U1'; `answer_id` is ''
    while it is being written and for a line that is no answer.
    """

    channel: str
    ts: str
    thread: str
    message: str
    key: str
    person: str
    answer_id: str = ""
    part: int = 0
    state: PostState = "standing"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was answered in Slack, as its asker finds it again."""

    answer_id: str
    question: str
    channel: str
    thread: str
    message: str
    abstained: bool
    asked_at: datetime


class SlackRecords:
    """Slack's part of a database. Made by the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Posts

    def note(self, post: Post) -> None:
        """Keep a post, in place of what was kept of it before."""
        row = {**asdict(post), "posted_at": datetime.now(UTC)}
        here = (SLACK_POSTS.c.channel == post.channel) & (SLACK_POSTS.c.ts == post.ts)
        with self._database.writing() as connection:
            if connection.execute(sa.update(SLACK_POSTS).where(here).values(row)).rowcount == 0:
                connection.execute(sa.insert(SLACK_POSTS), row)

    def post(self, channel: str, ts: str) -> Post | None:
        """The bot's post there, or None."""
        found = self._posts((SLACK_POSTS.c.channel == channel) & (SLACK_POSTS.c.ts == ts))
        return found[0] if found else None

    def posts_for(self, key: str) -> tuple[Post, ...]:
        """What was posted for an inbox item, oldest first; () for nothing."""
        return self._posts(SLACK_POSTS.c.key == key)

    def posts_to(self, channel: str, message: str) -> tuple[Post, ...]:
        """What was posted in answer to that message, oldest first; () for nothing."""
        return self._posts((SLACK_POSTS.c.channel == channel) & (SLACK_POSTS.c.message == message))

    def posts_in(self, channel: str, thread: str) -> tuple[Post, ...]:
        """The bot's posts in a thread that still stand, oldest first; () for none."""
        there = (SLACK_POSTS.c.channel == channel) & (SLACK_POSTS.c.thread == thread)
        return self._posts(there & (SLACK_POSTS.c.state != "withdrawn"))

    def standing_since(self, since: datetime) -> tuple[Post, ...]:
        """The posts since then that stand and carry an answer, oldest first."""
        recent = SLACK_POSTS.c.posted_at >= since
        return self._posts(
            recent & (SLACK_POSTS.c.state == "standing") & (SLACK_POSTS.c.answer_id != "")
        )

    def withdraw(self, post: Post) -> None:
        """The post was, or is about to be, taken away."""
        here = (SLACK_POSTS.c.channel == post.channel) & (SLACK_POSTS.c.ts == post.ts)
        with self._database.writing() as connection:
            connection.execute(sa.update(SLACK_POSTS).where(here).values(state="withdrawn"))

    def _posts(self, which: sa.ColumnElement[bool]) -> tuple[Post, ...]:
        columns = [SLACK_POSTS.c[name] for name in Post.__dataclass_fields__]
        with self._database.reading() as connection:
            rows = connection.execute(
                sa.select(*columns).where(which).order_by(SLACK_POSTS.c.ts)
            ).all()
        return tuple(Post(*row) for row in rows)

    # Questions

    def was_received(self, key: str) -> bool:
        """Whether something of that key ever came into the inbox."""
        with self._database.reading() as connection:
            known = connection.execute(sa.select(INBOX.c.key).where(INBOX.c.key == key))
            return known.first() is not None

    def asked_lately(self, person: str, channel_key: str) -> tuple[int, int]:
        """How many questions came in the last hour: of that person, and in that channel.

        `channel_key` is what the keys of the channel's inbox items begin with.
        """
        recent = INBOX.c.kind.in_(("question", "private")) & (
            INBOX.c.received_at > datetime.now(UTC) - _HOUR
        )
        inside = (INBOX.c.key >= channel_key) & (INBOX.c.key < channel_key + "~")
        counted = sa.select(sa.func.count()).select_from(INBOX).where(recent)
        with self._database.reading() as connection:
            by_person = connection.execute(counted.where(INBOX.c.person == person)).scalar_one()
            in_channel = connection.execute(counted.where(inside)).scalar_one()
        return by_person, in_channel

    def questions_of(self, person: str, limit: int = 10) -> tuple[Asked, ...]:
        """The latest questions of a person, newest first; () for none."""
        return self._asked(ANSWERS.c.person == person, limit)

    def unanswered(self, since: datetime, limit: int = 20) -> tuple[Asked, ...]:
        """Questions in Slack that the sources did not cover, newest first; () for none.

        Those of direct messages (ids with a D) are their asker's own business and left out.
        """
        public = (ANSWERS.c.channel != "") & ~ANSWERS.c.channel.startswith("D")
        return self._asked(public & ANSWERS.c.abstained & (ANSWERS.c.asked_at >= since), limit)

    def _asked(self, which: sa.ColumnElement[bool], limit: int) -> tuple[Asked, ...]:
        columns = [ANSWERS.c["id" if n == "answer_id" else n] for n in Asked.__dataclass_fields__]
        newest = sa.select(*columns).where(which).order_by(ANSWERS.c.asked_at.desc()).limit(limit)
        with self._database.reading() as connection:
            return tuple(Asked(*row) for row in connection.execute(newest))

    # Channels

    def rules(self, channel: str) -> Mapping[str, Any] | None:
        """How maintainers set that channel in Slack, as settings.Channel's fields; None: not."""
        kept = sa.select(SLACK_CHANNELS.c.rules).where(SLACK_CHANNELS.c.channel == channel)
        with self._database.reading() as connection:
            found: Mapping[str, Any] | None = connection.execute(kept).scalar()
        return found

    def set_rules(self, channel: str, rules: Mapping[str, Any], person: str) -> None:
        """Keep how a channel is to be, in place of what was set before."""
        now = datetime.now(UTC)
        row = {"channel": channel, "rules": dict(rules), "person": person, "changed_at": now}
        with self._database.writing() as connection:
            connection.execute(sa.delete(SLACK_CHANNELS).where(SLACK_CHANNELS.c.channel == channel))
            connection.execute(sa.insert(SLACK_CHANNELS), row)


def without_person(person: str) -> tuple[sa.Delete, sa.Update]:
    """The statements that erase a person's posts, and their name from the channels they set."""
    posts = sa.delete(SLACK_POSTS).where(SLACK_POSTS.c.person == person)
    theirs = SLACK_CHANNELS.c.person == person
    return posts, sa.update(SLACK_CHANNELS).where(theirs).values(person="")
