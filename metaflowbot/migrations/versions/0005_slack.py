"""What the bot posted in Slack, and how each channel wants it."""

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    pass
