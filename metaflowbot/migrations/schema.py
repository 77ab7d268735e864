"""The tables as the migrations leave them, for the store's statements (a test compares the two)."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware time in UTC; SQLite keeps no zone, so it is put back on reading."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: sa.Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, _: sa.Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class PlainText(sa.TypeDecorator[str]):
    """Text that both databases take: PostgreSQL refuses NUL, and neither takes lone surrogates."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _: sa.Dialect) -> str | None:
        return value and value.replace("\0", "").encode(errors="replace").decode()


METADATA = sa.MetaData()
ANSWERS = sa.Table(
    "answers",
    METADATA,
    sa.Column("id", PlainText, primary_key=True),
    sa.Column("asked_at", UtcTime, nullable=False),
    sa.Column("person", PlainText, nullable=False, index=True),
    sa.Column("channel", PlainText, nullable=False),
    sa.Column("thread", PlainText, nullable=False),
    sa.Column("message", PlainText, nullable=False),
    sa.Column("question", PlainText, nullable=False),
    sa.Column("text", PlainText, nullable=False),
    sa.Column("citations", sa.JSON, nullable=False),
    sa.Column("abstained", sa.Boolean, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("model", PlainText, nullable=False),
    sa.Column("prompt_version", PlainText, nullable=False),
    sa.Column("generation", PlainText, nullable=False),
    sa.Column("timings_ms", sa.JSON, nullable=False),
    sa.Column("usage", sa.JSON, nullable=False),
    sa.Column("notice", PlainText, nullable=False),
    sa.Column("retrieved", sa.JSON, nullable=False),
    sa.Column("checks", sa.JSON, nullable=False),
    sa.Column("checked_with", PlainText, nullable=False),
    sa.Index("ix_answers_place", "channel", "thread", "asked_at"),
)
# `first_id` is the answer that was given again, for the first one itself.
ANSWER_CACHE = sa.Table(
    "answer_cache",
    METADATA,
    sa.Column(
        "answer_id", PlainText, sa.ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column(
        "first_id",
        PlainText,
        sa.ForeignKey("answers.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("key", PlainText, nullable=False, index=True),
    sa.Column("vector", sa.LargeBinary, nullable=False),
)
# `person` is a salted hash, so that no table says who disliked what.
FEEDBACK = sa.Table(
    "feedback",
    METADATA,
    sa.Column(
        "answer_id", PlainText, sa.ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("person", PlainText, primary_key=True, index=True),
    sa.Column("verdict", PlainText, nullable=False),
    sa.Column("reason", PlainText, nullable=False),
    sa.Column("rated_at", UtcTime, nullable=False, index=True),
    sa.Column("by_asker", sa.Boolean, nullable=False),
    sa.Index("ix_feedback_verdict", "verdict", "answer_id"),
)
# `state` is open, done or dead. An open item may be claimed from `due_at` on; a claim moves
# `due_at` to the end of its lease, so a worker that died gives the item back by itself.
INBOX = sa.Table(
    "inbox",
    METADATA,
    sa.Column("key", PlainText, primary_key=True),
    sa.Column("kind", PlainText, nullable=False),
    sa.Column("person", PlainText, nullable=False, index=True),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("state", PlainText, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", PlainText, nullable=False),
    sa.Column("received_at", UtcTime, nullable=False),
    sa.Column("due_at", UtcTime, nullable=False),
    sa.Index("ix_inbox_turn", "state", "due_at"),
)
# `state` is as the evidence has it: resolved, unresolved or quarantined. A review has a key of its
# own, without a reference: it holds on when its thread is not read for a while.
SEEN_THREADS = sa.Table(
    "seen_threads",
    METADATA,
    sa.Column("key", PlainText, primary_key=True),
    sa.Column("title", PlainText, nullable=False),
    sa.Column("url", PlainText, nullable=False),
    sa.Column("state", PlainText, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("why", PlainText, nullable=False),
    sa.Column("channel", PlainText, nullable=False),
    sa.Column("channel_id", PlainText, nullable=False),
    sa.Column("private", sa.Boolean, nullable=False),
    sa.Column("people", sa.JSON, nullable=False),
)
THREAD_REVIEWS = sa.Table(
    "thread_reviews",
    METADATA,
    sa.Column("key", PlainText, primary_key=True),
    sa.Column("verdict", PlainText, nullable=False),
    sa.Column("person", PlainText, nullable=False, index=True),
    sa.Column("reviewed_at", UtcTime, nullable=False),
)
# A row with neither channel nor thread: somebody withdrew what they wrote. `read_at` is the
# `changed_at` up to which a reading has seen the thread.
THREAD_CHANGES = sa.Table(
    "thread_changes",
    METADATA,
    sa.Column("channel", PlainText, primary_key=True),
    sa.Column("thread", PlainText, primary_key=True),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("read_at", UtcTime, nullable=True),
)
THREAD_MARKS = sa.Table(
    "thread_marks",
    METADATA,
    sa.Column("channel", PlainText, primary_key=True),
    sa.Column("thread", PlainText, primary_key=True),
    sa.Column("answer", PlainText, primary_key=True),
    sa.Column("person", PlainText, primary_key=True, index=True),
    sa.Column("marked_at", UtcTime, nullable=False),
)
OPT_OUTS = sa.Table(
    "opt_outs",
    METADATA,
    sa.Column("person_hash", PlainText, primary_key=True),
    sa.Column("since", UtcTime, nullable=False),
)
# A thread has one escalation: the id is made from the thread's. `version` grows with every step;
# `shown` is the version that Slack shows. `holder` is who brings Slack up to date now.
ESCALATIONS = sa.Table(
    "escalations",
    METADATA,
    sa.Column("id", PlainText, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("state", PlainText, nullable=False, index=True),
    sa.Column("answer_id", PlainText, nullable=False, index=True),
    sa.Column("question", PlainText, nullable=False),
    sa.Column("asker", PlainText, nullable=False, index=True),
    sa.Column("channel", PlainText, nullable=False),
    sa.Column("thread", PlainText, nullable=False),
    sa.Column("message", PlainText, nullable=False),
    sa.Column("reasons", sa.JSON, nullable=False),
    sa.Column("history", sa.JSON, nullable=False),
    sa.Column("owner", PlainText, nullable=False),
    sa.Column("session", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("solution", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("url", PlainText, nullable=False),
    sa.Column("consent", PlainText, nullable=False),
    sa.Column("shown", sa.Integer, nullable=False),
    sa.Column("holder", PlainText, nullable=False),
    sa.Column("held_until", UtcTime, nullable=True),
)
# What stands in Slack because of an escalation; `ts` is '' from before the post until it is known.
ESCALATION_POSTS = sa.Table(
    "escalation_posts",
    METADATA,
    sa.Column(
        "escalation",
        PlainText,
        sa.ForeignKey("escalations.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("name", PlainText, primary_key=True),
    sa.Column("channel", PlainText, nullable=False),
    sa.Column("ts", PlainText, nullable=False),
    sa.Column("begun_at", UtcTime, nullable=False),
)
# `state` is writing, standing or withdrawn; `key` is the inbox item that the post answers.
SLACK_POSTS = sa.Table(
    "slack_posts",
    METADATA,
    sa.Column("channel", PlainText, primary_key=True),
    sa.Column("ts", PlainText, primary_key=True),
    sa.Column("thread", PlainText, nullable=False),
    sa.Column("message", PlainText, nullable=False),
    sa.Column("key", PlainText, nullable=False, index=True),
    sa.Column("person", PlainText, nullable=False, index=True),
    sa.Column("answer_id", PlainText, nullable=False),
    sa.Column("part", sa.Integer, nullable=False),
    sa.Column("state", PlainText, nullable=False),
    sa.Column("posted_at", UtcTime, nullable=False),
    sa.Index("ix_slack_posts_thread", "channel", "thread", "ts"),
    sa.Index("ix_slack_posts_message", "channel", "message"),
)
SLACK_CHANNELS = sa.Table(
    "slack_channels",
    METADATA,
    sa.Column("channel", PlainText, primary_key=True),
    sa.Column("rules", sa.JSON, nullable=False),
    sa.Column("person", PlainText, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
)
SALTS = sa.Table(
    "salts",
    METADATA,
    sa.Column("name", PlainText, primary_key=True),
    sa.Column("salt", PlainText, nullable=False),
)
# An answer's row as it is listed, searched and counted: narrow, as answers are wide. `text` is
# the question's beginning, `folded` the same without case, `topic` the same for questions of the
# same terms, `day` in UTC. The indexes hold all that lists and sums look at, so that these read no
# row that they do not show.
QUESTIONS = sa.Table(
    "questions",
    METADATA,
    sa.Column(
        "answer_id", PlainText, sa.ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("asked_at", UtcTime, nullable=False),
    sa.Column("day", PlainText, nullable=False),
    sa.Column("channel", PlainText, nullable=False),
    sa.Column("text", PlainText, nullable=False),
    sa.Column("folded", PlainText, nullable=False),
    sa.Column("topic", PlainText, nullable=False),
    sa.Column("abstained", sa.Boolean, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("model", PlainText, nullable=False),
    sa.Column("total_ms", sa.Float, nullable=False),
    sa.Column("bucket", sa.Integer, nullable=False),
    sa.Column("cost_usd", sa.Float, nullable=False),
    sa.Index("ix_questions_topic", "topic", "asked_at"),
    sa.Index("ix_questions_short", "abstained", "topic", "asked_at", "answer_id"),
    sa.Index(
        "ix_questions_list",
        "asked_at",
        "answer_id",
        "channel",
        "abstained",
        "model",
        "topic",
        "folded",
    ),
    sa.Index("ix_questions_choices", "channel", "model"),
    sa.Index("ix_questions_joined", "answer_id", "day", "abstained", "asked_at"),
    sa.Index("ix_questions_day", "day", "abstained", "bucket", "cost_usd"),
)
# Questions without a good answer; those with one `leader` (an answer's id) mean the same.
GAPS = sa.Table(
    "gaps",
    METADATA,
    sa.Column(
        "answer_id", PlainText, sa.ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("leader", PlainText, nullable=False),
    sa.Column("model", PlainText, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Index("ix_gaps_leader", "leader", "model", "answer_id"),
)
# What maintainers made of a candidate: `verdict` is accepted or rejected. No reference to the
# answer: a case outlives the record it came from. `person` is the asker's salted hash.
EVAL_CASES = sa.Table(
    "eval_cases",
    METADATA,
    sa.Column("answer_id", PlainText, primary_key=True),
    sa.Column("person", PlainText, nullable=False, index=True),
    sa.Column("verdict", PlainText, nullable=False),
    sa.Column("question", PlainText, nullable=False),
    sa.Column("gold", sa.JSON, nullable=False),
    sa.Column("answer_points", sa.JSON, nullable=False),
    sa.Column("kind", PlainText, nullable=False),
    sa.Column("decided_at", UtcTime, nullable=False),
)
# `person` is a salted hash; `subject` is an id, never anybody's text.
AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("person", PlainText, nullable=False, index=True),
    sa.Column("action", PlainText, nullable=False),
    sa.Column("subject", PlainText, nullable=False),
)
