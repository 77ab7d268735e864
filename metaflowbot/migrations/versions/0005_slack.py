"""What the bot posted in Slack, and how each channel wants it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "slack_posts",
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("ts", sa.Text, primary_key=True),
        sa.Column("thread", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False, index=True),
        sa.Column("person", sa.Text, nullable=False, index=True),
        sa.Column("answer_id", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Index("ix_slack_posts_thread", "channel", "thread", "ts"),
        sa.Index("ix_slack_posts_message", "channel", "message"),
    )
    op.create_table(
        "slack_channels",
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("rules", sa.JSON, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    )
