"""Model calls on tape: a run that was recorded repeats without a network, byte for byte.

DIR/run.json      when the run was started, and the models
DIR/calls.jsonl   each call by a hash of what was asked, with what came back
DIR/times.jsonl   each time that was measured (milliseconds)
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metaflowbot.domain import Turn, Usage
from metaflowbot.errors import ModelBrokenError, ModelError, UsageError
from metaflowbot.llm import ChatModel


class Tape:
    """A folder with the calls of one run, to be written or to be read."""

    def __init__(self, folder: Path, *, replay: bool, resume: bool = False) -> None:
        """Begin a new tape, go on with one, or read one; raises UsageError where that can't be."""
        self.folder, self.is_replay = folder, replay
        self._calls: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._times: dict[str, float] = {}
        try:
            about = self._load() if replay else self._begin(resume=resume)
            self.started_at, self.models = str(about["started_at"]), dict(about["models"])
        except OSError as error:
            option = "--replay" if replay else "--record"
            raise UsageError(f"{option} {folder}: {error.strerror}: name another folder") from None
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{folder} is no recorded run: name another folder") from None

    def _begin(self, *, resume: bool) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        goes_on = resume and (self.folder / "run.json").exists()
        for name in ("calls.jsonl", "times.jsonl"):
            path = self.folder / name
            whole = path.read_bytes().rpartition(b"\n")[0] if goes_on else b""
            path.write_bytes(whole and whole + b"\n")  # a last line that was cut is dropped
        if goes_on:
            return self._about()
        about = {"started_at": datetime.now(UTC).isoformat(timespec="seconds"), "models": {}}
        self._keep(about)
        return about

    def _keep(self, about: dict[str, Any]) -> None:
        (self.folder / "run.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    def _load(self) -> dict[str, Any]:
        for line in self._lines("calls.jsonl"):
            self._calls[line["key"]].append(line)
        self._times = {line["key"]: line["ms"] for line in self._lines("times.jsonl")}
        return self._about()

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        return about

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        for line in (self.folder / name).read_text(encoding="utf-8").splitlines():
            yield json.loads(line)

    def _append(self, name: str, line: dict[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def model(self, role: str, model: ChatModel | None) -> ChatModel | None:
        """The model of that role ('chat', 'judge', 'second judge') on this tape; None for none."""
        if self.is_replay:
            name = self.models.get(role)
            return _Replayed(self, name) if name else None
        if model is None:
            return None
        self.models[role] = model.name
        self._keep({"started_at": self.started_at, "models": self.models})
        return _Recorded(self, model)

    def timer(self, key: str, measured: float) -> float:
        """The time as it was measured when the tape was recorded."""
        if self.is_replay:
            return self._times.get(key, measured)
        self._append("times.jsonl", {"key": key, "ms": measured})
        return measured

    def keep(self, key: str, said: list[str], usage: Usage, error: str) -> None:
        """Write down what one call gave."""
        line = {"key": key, "said": said, "usage": asdict(usage), "error": error}
        self._append("calls.jsonl", line)

    def call(self, key: str) -> dict[str, Any]:
        """What the next call with this key gave; raises ModelBrokenError where none is left."""
        if not self._calls[key]:
            raise ModelBrokenError("this call is not on the tape: the questions or prompts differ")
        return self._calls[key].popleft()


class _Recorded(ChatModel):
    """A model whose calls are written down as they are made."""

    def __init__(self, tape: Tape, model: ChatModel) -> None:
        self.name, self.provider = model.name, model.provider
        self._tape, self._model_asked = tape, model

    def stream(self, system: str, messages: Sequence[Turn]) -> Iterator[str | Usage]:
        said: list[str] = []
        usage, error = Usage(), ""
        try:
            for piece in self._model_asked.stream(system, messages):
                if isinstance(piece, Usage):
                    usage = piece
                else:
                    said.append(piece)
                yield piece
        except ModelError as failure:
            error = str(failure)
            raise
        finally:
            self._tape.keep(_key(self.name, system, messages), said, usage, error)

    def count_tokens(self, text: str) -> int:
        return self._model_asked.count_tokens(text)


class _Replayed(ChatModel):
    """A model that says what it said when it was recorded."""

    def __init__(self, tape: Tape, name: str) -> None:
        self.name = name
        self.provider, _, self._model = name.partition(":")
        self._tape = tape

    def stream(self, system: str, messages: Sequence[Turn]) -> Iterator[str | Usage]:
        call = self._tape.call(_key(self.name, system, messages))
        yield from call["said"]
        if call["error"]:
            raise ModelBrokenError(call["error"])
        yield Usage(**call["usage"])


def _key(model: str, system: str, messages: Sequence[Turn]) -> str:
    asked = json.dumps([model, system, [[turn.role, turn.content] for turn in messages]])
    return hashlib.sha256(asked.encode()).hexdigest()
