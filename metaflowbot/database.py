"""One SQL database: connecting, migrating, and transactions that read or write.

SQLite (one file, write-ahead log) or PostgreSQL. What it raises is StoreError, in one line and
without anybody's text.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from metaflowbot.errors import NotFoundError, SettingsError, StoreError

_BUSY_SECONDS = 10
_MIGRATION_LOCK = 0x6D666274  # any number, the same in every process


class Database:
    """A database at the newest schema, safe to share between threads. `close` ends it."""

    def __init__(self, url: str) -> None:
        """Connect and migrate; StoreError says in one line why not, SettingsError if it is no URL.

        `url` is 'sqlite:///PATH' (the folder is made when missing) or 'postgresql://…'.
        """
        self._engine = _engine(url)
        # SQLite has one writer at a time. Who finds another at it sleeps and looks again, up to a
        # tenth of a second later; the threads of one process need not, and wake each other. Who
        # may wait queues before the queue: an urgent writer finds one of them ahead at most.
        self._turn, self._queue = threading.Lock(), threading.Lock()
        try:
            with self._translated():
                _migrate(self._engine)
        except StoreError:
            self.close()
            raise

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that reads; what it writes is taken back."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(
        self, missing: str = "", *, lasting: bool = True, urgent: bool = False
    ) -> Iterator[sa.Connection]:
        """A transaction that writes; a broken reference raises NotFoundError with `missing`.

        What is not `lasting` may be undone by a loss of power, though by nothing less: it costs no
        wait for the disk, and whoever does it again looks first at what was done. What is `urgent`
        goes before the rest: Slack waits for it, or a lease runs out without it.
        """
        options = {"begin": "BEGIN IMMEDIATE", "synchronous": "FULL" if lasting else "NORMAL"}
        with (
            self._in_turn(urgent=urgent),
            self._translated(missing),
            self._engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def empty_the_log(self) -> None:
        """What was erased must not live on in SQLite's write-ahead log."""
        if self.is_sqlite:
            with self._translated(), self._engine.connect() as connection:
                driver = connection.connection.cursor()
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _in_turn(self, *, urgent: bool) -> Iterator[None]:
        with ExitStack() as held:
            if self.is_sqlite:
                for lock in (self._turn,) if urgent else (self._queue, self._turn):
                    if not lock.acquire(timeout=_BUSY_SECONDS):
                        raise StoreError(_one_line(self._engine.url, "database is locked"))
                    held.callback(lock.release)
            yield

    @contextmanager
    def _translated(self, missing: str = "") -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            if missing and isinstance(error, IntegrityError):
                raise NotFoundError(missing) from None
            said = getattr(error, "orig", None) or error
            raise StoreError(_one_line(self._engine.url, said)) from error


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An insert that knows ON CONFLICT, in the dialect's own words (so of no common type)."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def _one_line(url: sa.URL, said: object) -> str:
    """What the driver says, without the statement and its parameters."""
    first = str(said).strip().partition("\n")[0]
    return (
        f"the database {url.render_as_string(hide_password=True)} does not answer ({first}): "
        "check METAFLOWBOT_DATABASE_URL and that it is running"
    )


def _engine(given: str) -> sa.Engine:
    """The engine for a URL, not yet connected; no statement of it shows its parameters."""
    try:
        url = sa.make_url(given)
    except ArgumentError:
        raise SettingsError(
            "METAFLOWBOT_DATABASE_URL is not a database URL: "
            "use sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
    match url.get_backend_name():
        case "postgresql" | "postgres":
            url = url.set(drivername="postgresql+psycopg")
            return sa.create_engine(
                url,
                hide_parameters=True,
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": _BUSY_SECONDS,
                    # A server that is cut off says nothing: without this it is waited for 15 min.
                    "tcp_user_timeout": 1000 * _BUSY_SECONDS,
                },
            )
        case "sqlite" if url.database and url.database != ":memory:":
            return _sqlite_engine(url, Path(url.database))
    raise SettingsError(
        f"METAFLOWBOT_DATABASE_URL names {url.get_backend_name()!r} without a file or of a kind "
        "that is not known here: use sqlite:///PATH or postgresql://USER@HOST/NAME"
    )


def _sqlite_engine(url: sa.URL, path: Path) -> sa.Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(_one_line(url, error)) from error
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: see `begin`
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        mode = options.get("synchronous")
        if mode and connection.info.get("synchronous") != mode:
            connection.exec_driver_sql(f"PRAGMA synchronous={mode}")
            connection.info["synchronous"] = mode
        connection.exec_driver_sql(options.get("begin", "BEGIN"))

    return engine


def _migrate(engine: sa.Engine) -> None:
    """Apply the missing migrations, one process at a time, all of them or none."""
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    with (
        engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection,
        connection.begin(),
    ):
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            theirs = MigrationContext.configure(connection).get_current_revision()
            ours = ScriptDirectory.from_config(config).get_current_head()
            raise StoreError(
                f"the database was written by a newer Metaflowbot (its schema is {theirs}, this "
                f"one knows {ours} at most): update this one, or set METAFLOWBOT_DATABASE_URL to "
                "another database"
            ) from None
