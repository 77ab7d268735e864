"""The code in a Markdown text: its fences, and the inline pieces that name Metaflow's."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metaflowbot.code_check.faults import Fault
from metaflowbot.code_check.shell import is_command, spelt
from metaflowbot.markdown import Segment, segments, tokens

PYTHON, SHELL = "python", "shell"
_LANGUAGES = {
    **dict.fromkeys(("python", "py", "python3", "pycon", "ipython", "ipython3"), PYTHON),
    **dict.fromkeys(("bash", "sh", "shell", "zsh", "console", "shell-session"), SHELL),
}
_LOOKS_PYTHON = re.compile(
    r"^\s*(?:>>> )?(?:from \w+[\w.]* import |import \w|class \w+.*:|def \w+\(|@\w+|with \w)"
    r"|\bself\.\w|\bcurrent\.\w|\b(?:Flow|Run|Step|Task|S3|Runner|Deployer)\(",
    re.M,
)
_OBJECTS = (
    "Flow Run Step Task DataArtifact Metaflow S3 Runner NBRunner Deployer NBDeployer DeployedFlow "
    "Parameter IncludeFile FlowSpec FlowMutator StepMutator MutableFlow MutableStep ArgoEvent"
)
_INLINE_PYTHON = re.compile(
    r"@[A-Za-z_]\w*(?:\(.*\))?|(?:current|metaflow)\.\w.*|self\.(?:next|merge_artifacts)\(.*\)"
    rf"|(?:{'|'.join(_OBJECTS.split())})(?:[.(\[].*)"
    r"|from metaflow\b.* import .+|import metaflow\b.*",
    re.S,
)
_MENTION = re.compile(r"\(\s*(?:\w+(?:\s*,\s*\w+)*)?\s*\)$")
_VARIABLE = re.compile(r"METAFLOW_[A-Z0-9_]*[A-Z0-9](?:=.*)?")
_OPTION = re.compile(r"--[a-z][\w-]*(?:[ =].*)?")
# What stands right before or behind a name of which a sentence says that there is no such thing.
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:no|not|never|neither|nor|no longer|no such|unknown|removed|renamed|deprecated)"
    r"|n['’]t)(?: \w+){0,2}[\s\"'*_(]*$|\b(?:instead of|rather than)(?: \w+)?[\s\"'*_(]*$",
    re.I,
)
_THING = r"(?:decorator|argument|option|parameter|attribute|method|variable|command|name|part)s?"
_DENIED_BEHIND = re.compile(
    rf"^(?:[\s,]*(?:and|or|nor|,)\s*`[^`]*`)*[\s\"'*_)]*(?:{_THING}\s+)?(?:"
    r"(?:does|do|did)(?:n['’]t| not) exist"
    rf"|(?:is|are|was|were)(?:n['’]t| not)(?: \w+){{0,3}} (?:{_THING}|Metaflow|available|supported"
    r"|defined|valid|real)\b|(?:is|are) (?:unknown|invalid|deprecated|gone|nowhere)\b"
    r"|(?:was|were|has been|have been) (?:removed|renamed|dropped)|no longer|never existed)",
    re.I,
)
# So many things that there are instead a block's line tells.
_TOLD = 2
_BOUND = re.compile(r"^[ \t>]*(?:async )?(?:def|class) (\w+)", re.M)
_IMPORTED = re.compile(r"^[ \t>]*from (?!metaflow\b)[\w.]+ import \(?([\w, \t]+)", re.M)
_PARAMETER = re.compile(
    r"\b(?:Parameter|IncludeFile|Config)\(\s*(?:name\s*=\s*)?[\"'](\w[\w-]*)"
    r"|^[ \t>]*(\w+)\s*=\s*(?:Parameter|IncludeFile|Config)\(",
    re.M,
)
_OPTION_NAME = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_ASSIGNED = re.compile(r"^[ \t>]*([A-Za-z_]\w*) *(?::[^=\n]+)?=(?!=)", re.M)


@dataclass(frozen=True, slots=True)
class Piece:
    """Code in a text, at `start` to `end` with its fence or backticks, in the part `segment`.

    `language` is PYTHON or SHELL.
    """

    start: int
    end: int
    code: str
    language: str
    inline: bool
    segment: Segment


def language_of(named: str, code: str) -> str:
    """PYTHON or SHELL, as the fence says or, where it says nothing, as it looks; '' for others."""
    words = re.split(r"[\s,{:]+", named.strip().lower())
    if words[0]:
        return _LANGUAGES.get(words[0], "")
    if any(is_command(line) for line in code.splitlines()):
        return SHELL
    return PYTHON if _LOOKS_PYTHON.search(code) else ""


def pieces(markdown: str) -> Iterator[Piece]:
    """The code of a text that can be checked, in order."""
    for segment in segments(markdown):
        if segment.is_fence:
            head, _, rest = segment.text.lstrip().partition("\n")
            code = re.sub(r"\n?[ \t]*(?:`{3,}|~{3,})[ \t]*\s*\Z", "", rest)
            code = textwrap.dedent(code)
            language = language_of(head.lstrip("`~"), code)
            if language:
                end = segment.start + len(segment.text.rstrip())
                yield Piece(segment.start, end, code, language, False, segment)
        elif "`" in segment.text:
            yield from _inline(segment)


def _inline(segment: Segment) -> Iterator[Piece]:
    for token in tokens(segment.text):
        if token.kind == "code" and not _is_denied(segment.text, token.start, token.end):
            # A name with bare brackets, or with bare names in them, is a mention and not a call.
            code = _MENTION.sub("(...)", token.match[0].strip("`").strip())
            language = _inline_language(code)
            if language:
                start, end = segment.start + token.start, segment.start + token.end
                yield Piece(start, end, code, language, True, segment)


def _is_denied(text: str, start: int, end: int) -> bool:
    """Whether a sentence says of the code at `start` to `end` that there is no such thing."""
    before, behind = text[max(0, start - 60) : start], text[end : end + 160]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_BEHIND.search(behind))


def _inline_language(code: str) -> str:
    if _INLINE_PYTHON.fullmatch(code):
        return PYTHON
    is_shell = _VARIABLE.fullmatch(code) or _OPTION.fullmatch(code) or is_command(code)
    return SHELL if is_shell else ""


@lru_cache(maxsize=64)  # the text that an answer is written from is asked for each sentence
def names_bound(text: str) -> frozenset[str]:
    """What the code in a text defines, or imports from elsewhere than Metaflow.

    The parameters of a flow are options, such as '--learning-rate'.
    """
    imported = re.findall(r"\w+", " ".join(_IMPORTED.findall(text)))
    parameters = (spelt(f"--{one or other}") for one, other in _PARAMETER.findall(text))
    return frozenset({*_BOUND.findall(text), *imported, *parameters})


@lru_cache(maxsize=64)
def options_in(text: str) -> frozenset[str]:
    """The options that a text names: where code is written from it, they are a flow's own."""
    return frozenset(map(spelt, _OPTION_NAME.findall(text)))


def variables_bound(code: str) -> frozenset[str]:
    """The names that a piece of Python assigns."""
    return frozenset(_ASSIGNED.findall(code))


def commands_in(code: str) -> str:
    """The lines of a Python block that are meant for a shell; the other lines are empty."""
    kept = (_command_of(line) for line in code.splitlines())
    return "\n".join(kept)


def _command_of(line: str) -> str:
    magic = re.match(r"\s*[!%](?!%|=)(?:sh )?", line)
    command = line[magic.end() :] if magic else line
    return command if magic or is_command(line) else ""


def without(markdown: str, found: Sequence[tuple[Piece, Sequence[Fault]]]) -> str:
    """The text with each fence that has a fault replaced, and each such sentence taken out.

    Below the text stands what there is instead. What is false is not named: who skims an answer
    would take it along.
    """
    wrong: dict[int, list[Fault]] = {}
    for piece, faults in found:
        wrong.setdefault(piece.segment.start, []).extend(faults)
    parts, told, is_cut = [], [], False
    for segment in segments(markdown):
        faults = wrong.get(segment.start, [])
        if not faults:
            parts.append(segment.text)
        elif segment.is_fence:
            parts.append(_replaced(segment, faults))
        else:
            parts.append(_left_of(segment))
            told += [f" There is `{fault.instead}`." for fault in faults if fault.instead]
            is_cut = True
    text, behind = "".join(parts), markdown[len(markdown.rstrip()) :]
    if not is_cut:
        return text
    notes = "".join(dict.fromkeys(told))
    return (
        f"{text.rstrip()}\n\n(Something that is not in Metaflow is left out.{notes})".lstrip()
        + behind
    )


def _left_of(segment: Segment) -> str:
    """The bullet, for the sentences behind, or the end of the line, for those before."""
    if segment.at_line_start:
        return "" if segment.text.endswith("\n") else segment.text[: segment.lead]
    return "\n" * segment.text.endswith("\n")


def _replaced(segment: Segment, faults: Sequence[Fault]) -> str:
    indent = segment.text[: len(segment.text) - len(segment.text.lstrip())]
    behind = segment.text[len(segment.text.rstrip()) :]
    there = dict.fromkeys(f"`{fault.instead}`" for fault in faults if fault.instead)
    instead = f" There is {' and '.join([*there][:_TOLD])}." if there else ""
    why = f"it uses what is not in Metaflow.{instead}"
    return f"{indent}(A code example is left out: {why}){behind}"
