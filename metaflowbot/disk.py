"""Writing under the home: whole files or none, and one line where the disk does not take them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from metaflowbot.errors import MetaflowbotError, SettingsError


def make_home(home: Path) -> None:
    """Make the folder for all state; raises SettingsError where that can't be done."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"METAFLOWBOT_HOME: {home} can't be made ({error.strerror}): "
            "name a folder that can be written"
        ) from None


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Raise MetaflowbotError where `what`, or a file in it, can't be written."""
    try:
        yield
    except OSError as error:
        raise _refused(error.filename or what, error.strerror or str(error)) from None
    except sqlite3.OperationalError as error:
        raise _refused(what, str(error)) from None


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[TextIO]:
    """A file that takes the place of `path` once it is written to its end.

    Raises MetaflowbotError where it can't be: then `path` is what it was, and nothing is left.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.touch(mode)
            with partial.open("w", encoding="utf-8") as file:
                yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _refused(what: object, why: str) -> MetaflowbotError:
    return MetaflowbotError(
        f"{what} can't be written ({why}): make room on the disk, or let this user write there, "
        "and try again; what was there before is as it was"
    )
