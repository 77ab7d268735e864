"""What changed in Slack's threads, and what people marked as solved."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    pass
