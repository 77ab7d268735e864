"""Resolved threads of a Slack export, the ZIP as Slack gives it or the folder unpacked from it."""

from __future__ import annotations

import json
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from ingest.sources import Item, Omission
from ingest.sources.slack_api import SlackApi
from ingest.sources.slack_messages import SlackMessage, threads
from ingest.sources.slack_reading import Conversation, Known, Note, Reading, no_message
from ingest.threads import Message, Thread
from metaflowbot.errors import SourceError

_MAX_FILE_BYTES = 100_000_000
_MAX_TOTAL_BYTES = 2_000_000_000
_MAX_FILES = 500_000
_MAX_RATIO = 250  # JSON of chat shrinks 10 to 40 times; only a bomb shrinks this much
_RATIO_FROM_BYTES = 5_000_000
_DAY = re.compile(r"\d{4}-\d\d-\d\d\.json")
_PERMALINK = re.compile(r"(https://[\w.-]*\bslack\.[\w.-]+)/archives/([CG]\w+)/p\d{10,}")
# Where an export lists its conversations, and which of them everybody in the workspace can read.
_LISTS = {"channels.json": True, "groups.json": False, "mpims.json": False, "dms.json": False}


@dataclass(frozen=True, slots=True)
class SlackExport:
    """The threads of the export at `location` that were resolved.

    `channels` names what to read, by name or id; empty means every public channel. Private
    channels and direct messages are read only when named, and may be shown only there.
    `maintainers` are user ids; empty means that they are inferred from the export. `known` gives
    what is known of threads when the reading begins; `note` is given all threads that were read,
    as the evidence has them. Threads that changed in the workspace since are read from there
    where it can be reached (`live`), and count more than the export.
    """

    location: str
    channels: tuple[str, ...] = ()
    maintainers: tuple[str, ...] = ()
    known: Callable[[], Known] = Known
    note: Note | None = None
    live: SlackApi | None = None
    name: str = "slack"

    def read(self) -> Iterator[Item]:
        """Yield a Document for each resolved thread and an Omission for each that was left out.

        Raises SourceError when the export as a whole can't be read, or the workspace can't.
        """
        reading = Reading(self.known())
        with _open(self.location) as files:
            _Reader(files, reading).read(self.channels)
        live = self.live.lay_over(reading) if self.live else ""
        workspace = live or _workspace(reading.threads)
        yield from reading.documents(self.maintainers, workspace, self.note)


@dataclass
class _Files:
    """The export's files by their path in it, and how to read one."""

    paths: tuple[str, ...]
    read: Callable[[str], bytes]


@contextmanager
def _open(location: str) -> Iterator[_Files]:
    path = Path(location).expanduser()
    try:
        if path.is_dir():
            yield _from_folder(path)
        elif path.is_file():
            with zipfile.ZipFile(path) as archive:
                yield _from_zip(archive, location)
        else:
            raise SourceError(f"{location} does not exist: name a Slack export, ZIP or folder")
    except zipfile.BadZipFile as error:
        raise SourceError(f"{location} is no readable ZIP file: {error}") from None
    except (zlib.error, EOFError, NotImplementedError) as error:
        raise SourceError(f"{location} is a damaged ZIP file: {error}") from None
    except OSError as error:
        raise SourceError(f"{location} can't be read: {error.strerror or error}") from None


def _from_folder(folder: Path) -> _Files:
    root = _root([path.relative_to(folder).as_posix() for path in folder.glob("**/*.json")])
    base = folder / root
    inside = base.resolve()
    paths = (
        path.relative_to(base).as_posix()
        for path in base.glob("**/*.json")
        if path.resolve().is_relative_to(inside)
    )
    return _Files(tuple(sorted(paths)), lambda name: _limited((base / name).open("rb").read))


def _from_zip(archive: zipfile.ZipFile, location: str) -> _Files:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    fault = _fault(entries)
    if fault:
        raise SourceError(f"{location} was refused: {fault}")
    root = _root([entry.filename for entry in entries])
    by_path = {
        entry.filename.removeprefix(root): entry
        for entry in entries
        if entry.filename.startswith(root) and entry.filename.endswith(".json")
    }

    def read(name: str) -> bytes:
        with archive.open(by_path[name]) as file:
            return _limited(file.read)

    return _Files(tuple(sorted(by_path)), read)


def _limited(read: Callable[[int], bytes]) -> bytes:
    """A file's bytes, one more than the limit at most."""
    return read(_MAX_FILE_BYTES + 1)


def _root(paths: list[str]) -> str:
    """The folder inside that holds the export, with its slash, '' for the top."""
    tops = [path.removesuffix("channels.json") for path in paths if _is_list(path)]
    return min(tops, key=len, default="")


def _is_list(path: str) -> bool:
    return PurePosixPath(path).name == "channels.json" and "__MACOSX" not in path


def _fault(entries: list[zipfile.ZipInfo]) -> str:
    """Why a ZIP must not be opened, '' when it may be."""
    if len(entries) > _MAX_FILES:
        return f"it holds more than {_MAX_FILES:,} files"
    if sum(entry.file_size for entry in entries) > _MAX_TOTAL_BYTES:
        return f"it would unpack to more than {_MAX_TOTAL_BYTES // 1_000_000:,} MB"
    faults = (_entry_fault(entry) for entry in entries)
    return next((fault for fault in faults if fault), "")


def _entry_fault(entry: zipfile.ZipInfo) -> str:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", entry.filename):
        return "a file in it would be written outside of its folder"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "it holds a symbolic link"
    if entry.flag_bits & 1:
        return "it is encrypted: unpack it first, and name the folder"
    if entry.file_size > _MAX_FILE_BYTES:
        return f"{path.name} would unpack to more than {_MAX_FILE_BYTES // 1_000_000} MB"
    too_tight = entry.file_size > _MAX_RATIO * max(1, entry.compress_size)
    if too_tight and entry.file_size > _RATIO_FROM_BYTES:
        return f"{path.name} unpacks to more than {_MAX_RATIO} times its size"
    return ""


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads an export's files into `reading`."""

    files: _Files
    reading: Reading

    def read(self, channels: tuple[str, ...]) -> None:
        conversations = self._conversations()
        for entry in self._entries("users.json"):
            self.reading.meet(entry)
        for conversation in conversations:
            if conversation.is_named(channels) if channels else conversation.public:
                self._channel(conversation)
        for name in channels:
            if not any(conversation.is_named([name]) for conversation in conversations):
                self._omit(name, "there is no such channel in the export")

    def _omit(self, what: str, why: str) -> None:
        self.reading.omissions.append(Omission(what, why))

    def _conversations(self) -> list[Conversation]:
        if "channels.json" not in self.files.paths:
            raise SourceError("this is no Slack export: there is no channels.json in it")
        found = []
        for path, public in _LISTS.items():
            entries = self._entries(path)
            if path == "channels.json" and self.reading.omissions:
                fault = self.reading.omissions[0].what
                raise SourceError(f"the export can't be read: {fault}")
            for entry in entries:
                identity = str(entry.get("id") or "")
                name = str(entry.get("name") or identity)
                found.append(Conversation(identity or name, name, public))
        return found

    def _entries(self, path: str) -> list[dict[str, Any]]:
        """The objects of one JSON file; one that is not there has none."""
        found = self._json(path) if path in self.files.paths else []
        return [entry for entry in found if isinstance(entry, dict)]

    def _json(self, path: str) -> list[Any]:
        """A file's list; where it is broken, none, and an omission that names the line."""
        why = "a broken file of the export"
        data = self.files.read(path)
        try:
            if len(data) > _MAX_FILE_BYTES:
                raise ValueError(f"larger than {_MAX_FILE_BYTES // 1_000_000} MB")
            value = json.loads(data.decode("utf-8-sig"))
            if not isinstance(value, list):
                raise ValueError("not a list")
        except json.JSONDecodeError as error:
            what = f"{path}, line {error.lineno}: {error.msg}"
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            what = f"{path}, line {line}: not UTF-8"
        except (ValueError, RecursionError) as error:
            what = f"{path}, line 1: {error}"
        else:
            return value
        self._omit(what, why)
        return []

    def _channel(self, conversation: Conversation) -> None:
        messages: list[Message] = []
        root_of: dict[str, str] = {}
        folders = {conversation.name, conversation.id}
        for path in self.files.paths:
            folder, _, day = path.rpartition("/")
            if folder in folders and _DAY.fullmatch(day):
                for place, entry in enumerate(self._json(path), 1):
                    self._message(f"{path}, message {place}", entry, messages, root_of)
        found = threads(conversation.id, conversation.name, messages, root_of)
        self.reading.keep(conversation, found)

    def _message(
        self, where: str, entry: object, messages: list[Message], root_of: dict[str, str]
    ) -> None:
        try:
            sent = SlackMessage.model_validate(entry)
        except ValidationError as error:
            self.reading.omissions.append(no_message(where, error))
            return
        if sent.user and sent.user_profile and sent.user not in self.reading.names:
            self.reading.names[sent.user] = sent.user_profile.names()
        messages.append(sent.message(self.reading.bots))
        root_of[sent.ts] = sent.root_ts


def _workspace(found: list[Thread]) -> str:
    """The base of permalinks, as most links between the export's own channels have it, else ''."""
    channels: Mapping[str, bool] = {thread.channel_id: True for thread in found}
    bases = Counter(
        base
        for thread in found
        for message in (thread.root, *thread.replies)
        for base, channel in _PERMALINK.findall(message.text)
        if channel in channels
    )
    return bases.most_common(1)[0][0] if bases else ""
