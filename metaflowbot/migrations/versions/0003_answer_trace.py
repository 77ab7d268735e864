"""What was found for an answer, and what its checks did."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("answers", sa.Column("retrieved", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("answers", sa.Column("checks", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("answers", sa.Column("checked_with", sa.Text, nullable=False, server_default=""))
