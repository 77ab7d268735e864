"""A model's answer while it is written: nothing of it is shown before it was checked.

Sentence by sentence: code is held against Metaflow, the text is made harmless, each statement is
held against its source, and its markers are verified. The first false piece of code stops the
text there: the model may write on once from that point, told what is wrong.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from metaflowbot.citations import Verifier
from metaflowbot.code_check import CodeChecker
from metaflowbot.confidence import is_foreign
from metaflowbot.domain import Citation, Delta, Passage, Usage
from metaflowbot.grounding import Grounds
from metaflowbot.markdown import Segment, cut
from metaflowbot.prompts import NOT_COVERED
from metaflowbot.safety import ADDRESS, Echo, defanged, defanged_code, seen

# A model that writes more than this does not answer a question any more.
_LONGEST = 12_000
_CHECKED = frozenset("python py python3 pycon bash sh shell console zsh".split())
_DATA = frozenset(
    "powershell yaml yml json toml ini cfg sql dockerfile docker hcl terraform makefile".split()
)
_COMMENT = re.compile(r"(?:^[ \t]*|(?<=\S)[ \t]+)#(?!!) [^\n]*$", re.M)
_LANGUAGE = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*([\w+-]*)")


@dataclass
class Checks:
    """What is done to a sentence or a fence before anybody sees it.

    `language` is the one that the answer is to be in, '' for the question's own. `removed` has a
    line for each thing that was taken out; `said` counts the sentences seen.
    """

    sources: Sequence[Sequence[Passage]]
    asked: str
    echo: Echo
    checker: CodeChecker | None
    language: str = ""
    removed: list[str] = field(default_factory=list)
    said: int = 0
    has_code: bool = False

    def __post_init__(self) -> None:
        texts = [f"{p.url}\n{p.text}" for passages in self.sources for p in passages]
        self.context = "\n\n".join([*texts, self.asked])
        self._addresses = {url.rstrip("/.,;:") for url in ADDRESS.findall(self.context)}
        foreign = self.language.lower() not in ("", "english") or is_foreign(self.asked)
        self._grounds = Grounds(self.sources, self.asked, is_foreign=foreign)

    def faults(self, text: str) -> list[str]:
        """A line for each false piece of code in the text, with what is right."""
        if self.checker is None or not re.search(r"[`~]", text):
            return []
        self.has_code = True
        found = self.checker.check_markdown(text, self.context)
        return [str(fault) for block in found for fault in block.faults]

    def checked(self, segment: Segment) -> str:
        """The segment as it may be shown but for its markers; '' where nothing of it may."""
        text = segment.text
        if text in self.echo:
            self.removed.append("a part of the prompt was taken out")
            return ""
        if self.checker is not None and self.faults(text):
            text, lines = self.checker.without_faults(text, self.context)
            self.removed += lines
            return defanged(text)
        if segment.is_fence:
            return self._fence(segment)
        return self._sentence(segment._replace(text=defanged(text)))

    def _sentence(self, segment: Segment) -> str:
        self.said += segment.is_sentence
        admitted = self._grounds.admit(segment)
        if admitted.removed:
            self.removed.append(f"no source bears out: {admitted.removed[:200]}")
        return admitted.text

    def _fence(self, segment: Segment) -> str:
        """Code, without foreign addresses and comments; what is no code has to rest on a source."""
        language = _LANGUAGE.match(segment.text)
        named = language[1].lower() if language else ""
        code = "".join(segment.lines())
        if named in _CHECKED or (not named and _is_python(code)):
            return defanged_code(_COMMENT.sub(self._comment, segment.text), self._addresses)
        if named in _DATA and self._grounds.is_familiar(code, names_too=True):
            return defanged_code(segment.text, self._addresses)
        lines = [line for line in segment.lines() if line.strip()]
        admitted = [self._grounds.admit(Segment(0, defanged(line), True)) for line in lines]
        if any(line.removed for line in admitted):
            self.removed.append("a block that no source bears out was taken out")
            return ""
        return defanged_code(segment.text, self._addresses)

    def _comment(self, comment: re.Match[str]) -> str:
        """A comment in code, or '' where hardly a word of it is from the sources."""
        if self._grounds.is_familiar(comment[0]):
            return comment[0]
        self.removed.append(f"no source bears out: {comment[0].strip()[:200]}")
        return ""


def _is_python(code: str) -> bool:
    try:
        ast.parse(textwrap.dedent(code))
    except (SyntaxError, ValueError):
        return False
    return bool(re.search(r"[=(@]", code))


class Writing:
    """The answer so far. `text` is what was shown, with its `citations`."""

    def __init__(self, checks: Checks) -> None:
        self.checks = checks
        self.text = ""
        self.usage = Usage()
        self.refused = False
        self.faults: list[str] = []
        self.kept = ""
        self._verifier = Verifier(checks.sources)
        self._head = self._unread = self._held = self._rest = ""
        self._at_line_start = True
        self._decided = self._is_second = False
        self._length = 0
        self._seen: set[str] = set()

    @property
    def citations(self) -> tuple[Citation, ...]:
        return self._verifier.verified.citations

    @property
    def is_too_long(self) -> bool:
        """Whether the model should not be listened to any longer."""
        return self._length > _LONGEST

    def take(self, piece: str | Usage) -> Iterator[Delta]:
        """The next piece from the model; yields what may be shown."""
        if isinstance(piece, Usage):
            self._spend(piece)
            return
        self._length += len(piece)
        piece = seen(piece)
        if not self._decided:
            self._head += piece
            stripped = self._head.strip().strip("`")
            if NOT_COVERED.startswith(stripped[: len(NOT_COVERED)]) and len(stripped) < 40:
                self.refused = stripped.startswith(NOT_COVERED)
                return
            self._decided, self.refused, piece = True, False, self._head
        yield from self._read(piece, final=False)

    def finish(self) -> Iterator[Delta]:
        """The model has ended: yields what was still held back."""
        if not self._decided and not self.refused:
            self._unread += self._head
        yield from self._read("", final=True)
        if self._is_second or not self.faults:
            yield from self._release(self._verifier.finish())

    def break_off(self) -> Iterator[Delta]:
        """The model has failed: yields what was held back, without the sentence it was at."""
        self._unread = self._head = ""
        yield from self.finish()

    def again(self) -> None:
        """From here on the model writes a second time, on from `kept`."""
        self._is_second, self._decided, self.refused = True, False, False
        self._head, self._unread, self._at_line_start, self._length = "", "", True, 0
        self._held += self._verifier.feed("\n\n" if self.kept else "")

    def without_second(self) -> Iterator[Delta]:
        """There is no second text: yields the rest of the first one, without what is false."""
        self._is_second, self.refused = True, False
        self._unread, self._at_line_start = "", True
        yield from self._read(self._rest, final=True)
        yield from self._release(self._verifier.finish())

    def _spend(self, usage: Usage) -> None:
        self.usage = Usage(
            self.usage.input_tokens + usage.input_tokens,
            self.usage.output_tokens + usage.output_tokens,
            self.usage.cost_usd + usage.cost_usd,
        )

    def _read(self, piece: str, *, final: bool) -> Iterator[Delta]:
        self._unread += piece
        while end := cut(self._unread, at_line_start=self._at_line_start, final=final):
            segment = Segment(0, self._unread[:end], self._at_line_start)
            self._unread = self._unread[end:]
            self._at_line_start = segment.text.endswith("\n")
            yield from self._next(segment)

    def _next(self, segment: Segment) -> Iterator[Delta]:
        if self.faults and not self._is_second:
            self._rest += segment.text
            return
        if not self._is_second and (faults := self.checks.faults(segment.text)):
            self.faults, self._rest = faults, segment.text
            return
        said = " ".join(segment.text.split())
        if self._is_second and len(said) > 1 and said in self._seen:
            return
        self._seen.add(said)
        self.kept += "" if self._is_second else segment.text
        yield from self._release(self._verifier.feed(self.checks.checked(segment)))

    def _release(self, text: str) -> Iterator[Delta]:
        """Show nothing before the first citation: without any the answer is not shown at all.

        Nor space before or after the whole text.
        """
        self._held += text
        shown = self._held.rstrip() if self.text else self._held.strip()
        if shown and self.citations:
            self._held = self._held[len(self._held.rstrip()) :]
            self.text += shown
            yield Delta(shown)
