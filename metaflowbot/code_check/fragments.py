"""Code as people and models write it, made into statements that can be parsed.

An answer shows fragments: a lone decorator, the body of a method, a REPL session, output below the
code, an ellipsis where more stands. What can't be mended is left out; line numbers stay.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator

_PROMPT = re.compile(r"^\s*(?:>>> ?|In \[\d*\]: ?)")
_MORE = re.compile(r"^\s*(?:\.\.\. ?|\s+\.\.\.: ?)(?=\s|$)|^\s*\.\.\. ?(?=\S)")
_MAGIC = re.compile(r"^\s*[!%](?!=)")
_OLD_PRINT = re.compile(r"^(\s*)print (?!\()(.+)$", re.M)
_PLACEHOLDER = re.compile(r"<[A-Za-z][\w .-]*>")
_ELISION = re.compile(r",\s*(?:\.\.\.|…)\s*(?=\))")
# Each attempt to mend takes one line out.
_ATTEMPTS = 8


def parse(code: str) -> ast.Module:
    """The statements of `code` that can be read, in order; a text that is no code gives none."""
    lines = textwrap.dedent(_python_of(code))
    tree = _parsed(lines)
    if tree is None:
        body = [item for chunk in _chunks(lines) for item in _statements(*chunk)]
        tree = ast.Module(body, [])
    return tree


def _python_of(code: str) -> str:
    """Without prompts, the output below them, and the lines of IPython; no line is lost."""
    lines = [line.rstrip() for line in code.expandtabs(4).splitlines()]
    if any(_PROMPT.match(line) for line in lines):
        lines = list(_session(lines))
    return "\n".join("" if _MAGIC.match(line) else line for line in lines)


def _session(lines: list[str]) -> Iterator[str]:
    typed = False
    for line in lines:
        prompt = _PROMPT.match(line) or (_MORE.match(line) if typed else None)
        typed = bool(prompt)
        yield line[prompt.end() :] if prompt else ""


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """The parts that begin at the margin, each with the number of lines before it."""
    begun, decorated = 0, False
    chunk: list[str] = []
    for number, line in enumerate(text.split("\n")):
        begins = bool(line) and not line[0].isspace() and line[0] not in ")]}#"
        goes_on = line.startswith(("else:", "elif ", "except", "finally:"))
        if begins and chunk and not goes_on and not decorated:
            yield begun, "\n".join(chunk)
            begun, chunk = number, []
        decorated = line.startswith("@") or (decorated and not begins)
        chunk.append(line)
    yield begun, "\n".join(chunk)


def _statements(before: int, chunk: str) -> list[ast.stmt]:
    for mend in _MENDS:
        if tree := _parsed(mend(chunk)):
            break
    else:
        tree = _without_broken_lines(_PLACEHOLDER.sub("...", _ELISION.sub("", chunk)))
    if tree:
        ast.increment_lineno(tree, before)
    return tree.body if tree else []


def _with_print(text: str) -> str:
    return _OLD_PRINT.sub(r"\1print(\2)", text)


def _with_target(text: str) -> str:
    """With something below a decorator that stands alone."""
    return text.rstrip() + "\ndef _(): ..."


def _with_body(text: str) -> str:
    """With a body for a header that ends the fragment."""
    last = text.rstrip().split("\n")[-1]
    return text.rstrip() + "\n" + " " * (len(last) - len(last.lstrip()) + 4) + "..."


def _plain(text: str) -> str:
    return _PLACEHOLDER.sub("...", _ELISION.sub("", text))


_MENDS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    _plain,
    _with_print,
    lambda text: _with_target(_plain(text)),
    lambda text: _with_body(_plain(text)),
)


def _without_broken_lines(text: str) -> ast.Module | None:
    """The text with each line at which parsing stops made harmless; None where nothing is left."""
    lines = _with_print(text).split("\n")
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse("\n".join(lines))
        except SyntaxError as error:
            at = min(error.lineno or 1, len(lines)) - 1
            line = lines[at]
            if line.strip() in ("", "pass"):
                return None
            lines[at] = " " * (len(line) - len(line.lstrip())) + "pass"
        except (ValueError, RecursionError, MemoryError):
            return None
    return None
