"""Questions handed to people, and what became of them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "escalations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("answer_id", sa.Text, nullable=False, index=True),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("asker", sa.Text, nullable=False, index=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("thread", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("history", sa.JSON, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("session", sa.JSON, nullable=True),
        sa.Column("solution", sa.JSON, nullable=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("consent", sa.Text, nullable=False),
        sa.Column("shown", sa.Integer, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_table(
        "escalation_posts",
        sa.Column(
            "escalation",
            sa.Text,
            sa.ForeignKey("escalations.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("ts", sa.Text, nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
    )
