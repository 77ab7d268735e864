"""The record: questions as they are listed, eval cases, groups of gaps, who changed what.

Who gave a verdict is a salted hash from here on, those that were given before as well.
"""

import secrets

import sqlalchemy as sa
from alembic import op

from metaflowbot.record import person_hash, question_row

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    _make_tables()
    salt = secrets.token_hex(16)
    connection = op.get_bind()
    connection.execute(sa.text("INSERT INTO salts VALUES ('people', :salt)"), {"salt": salt})
    _hash_raters(connection, salt)
    _list_questions(connection)


def _make_tables() -> None:
    op.create_table(
        "salts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("salt", sa.Text, nullable=False),
    )
    op.create_table(
        "questions",
        sa.Column(
            "answer_id",
            sa.Text,
            sa.ForeignKey("answers.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("day", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("folded", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("abstained", sa.Boolean, nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
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
    op.create_table(
        "gaps",
        sa.Column(
            "answer_id",
            sa.Text,
            sa.ForeignKey("answers.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("leader", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Index("ix_gaps_leader", "leader", "model", "answer_id"),
    )
    op.create_table(
        "eval_cases",
        sa.Column("answer_id", sa.Text, primary_key=True),
        sa.Column("person", sa.Text, nullable=False, index=True),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("gold", sa.JSON, nullable=False),
        sa.Column("answer_points", sa.JSON, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("person", sa.Text, nullable=False, index=True),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
    )
    op.add_column(
        "feedback", sa.Column("by_asker", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_index("ix_feedback_verdict", "feedback", ["verdict", "answer_id"])


def _hash_raters(connection: sa.Connection, salt: str) -> None:
    connection.execute(
        sa.text(
            "UPDATE feedback SET by_asker = (SELECT answers.person = feedback.person "
            "FROM answers WHERE answers.id = feedback.answer_id)"
        )
    )
    people = connection.execute(sa.text("SELECT DISTINCT person FROM feedback")).scalars().all()
    rows = [{"was": person, "person": person_hash(salt, person)} for person in people]
    if rows:
        change = sa.text("UPDATE feedback SET person = :person WHERE person = :was")
        connection.execute(change, rows)


def _list_questions(connection: sa.Connection) -> None:
    from metaflowbot.migrations.schema import ANSWERS, QUESTIONS

    names = ("id", "asked_at", "channel", "question", "abstained", "confidence", "model")
    columns = [ANSWERS.c[name] for name in (*names, "timings_ms", "usage")]
    answers = connection.execute(sa.select(*columns)).mappings()
    while some := answers.fetchmany(1000):
        connection.execute(sa.insert(QUESTIONS), [question_row(dict(row)) for row in some])
