"""What people wrote in Slack leaves the files under the home at once when they ask for it.

    <home>/cache/sources/slack/<channel>.jsonl   a page of threads a line: messages, their authors
    <home>/index/documents/slack.jsonl           the last reading: a head, then a document a line
    <home>/packages.jsonl                        where packages of escalations were written

Generations of the index are immutable: they are built anew without it, and the older ones go.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PACKAGES = "packages.jsonl"


@dataclass(frozen=True, slots=True)
class Files:
    """The files under a home that hold what people wrote."""

    home: Path

    def erase(self, person: str, documents: Container[str]) -> dict[str, int]:
        """Erase what a person of Slack's ('slack:U1') wrote; nothing of any other person is there.

        Of the threads' documents those in `documents` (ids) are kept. Returns the number of erased
        messages and documents.
        """
        slack, _, identity = person.partition(":")
        if slack != "slack":
            return {}
        cache = self.home / "cache" / "sources" / "slack"
        library = self.home / "index" / "documents"
        for half_written in (*cache.glob("*.partial"), *library.glob("slack.*.partial")):
            half_written.unlink(missing_ok=True)
        messages = sum(_erase_messages(path, identity) for path in cache.glob("*.jsonl"))
        return {
            "messages": messages,
            "documents": _erase_documents(library / "slack.jsonl", documents),
        }

    def note_package(self, escalation: str, folder: Path, places: Iterable[str]) -> None:
        """Keep where an escalation's package is going to be written, so that it can be erased."""
        noted = {
            "escalation": escalation,
            "folder": str(folder.absolute()),
            "files": list(places),
        }
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / _PACKAGES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(noted, ensure_ascii=False) + "\n")

    def erase_packages(self, escalations: Container[str]) -> int:
        """Delete the packages of these escalations; what else lies in their folders stays.

        Returns the number of packages that were there.
        """
        path = self.home / _PACKAGES
        if not path.exists():
            return 0
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        theirs = [each for each in lines if each["escalation"] in escalations]
        erased = sum(_erase_package(Path(each["folder"]), each["files"]) for each in theirs)
        kept = [each for each in lines if each not in theirs]
        _replace(path, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in kept))
        return erased


def _erase_package(folder: Path, places: Sequence[str]) -> bool:
    """Delete these files, and the folders that are empty then; whether there were any."""
    files = [folder / place for place in places if (folder / place).is_file()]
    for file in files:
        file.unlink()
    parents = {
        parent for file in files for parent in file.parents if folder in (parent, *parent.parents)
    }
    for parent in sorted(parents, key=lambda each: len(each.parts), reverse=True):
        if not any(parent.iterdir()):
            parent.rmdir()
    return bool(files)


def _erase_messages(path: Path, person: str) -> int:
    """Take a person's messages, reactions and whole threads out of a channel's pages."""
    pages = list(_pages(path))
    erased = 0
    for page in pages:
        for root, messages in list(page["threads"].items()):
            theirs = [it["message"]["ts"] for it in messages if it["message"]["author"] == person]
            kept = [] if root in theirs else [_without(it, person) for it in messages]
            page["threads"][root] = [it for it in kept if it["message"]["ts"] not in theirs]
            erased += len(theirs)
    _replace(path, "".join(json.dumps(page, ensure_ascii=False) + "\n" for page in pages))
    return erased


def _pages(path: Path) -> Iterator[dict[str, Any]]:
    """The whole pages of a file: a damaged line ends it, as it does for its reader."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                return


def _without(kept: Mapping[str, Any], person: str) -> dict[str, Any]:
    """A message without a person's reactions."""
    message = kept["message"]
    reactions = {
        name: [who for who in people if who != person]
        for name, people in message["reactions"].items()
    }
    return {**kept, "message": {**message, "reactions": reactions}}


def _erase_documents(path: Path, kept: Container[str]) -> int:
    try:
        head, *lines = path.read_text(encoding="utf-8").split("\n")
    except OSError:
        return 0  # Slack's threads were never read.
    left = [line for line in lines if json.loads(line)["id"] in kept]
    _replace(path, "\n".join([head, *left]))
    return len(lines) - len(left)


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".erasing")
    partial.touch(mode=0o600)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
