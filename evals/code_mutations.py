"""How much wrong code the code check finds: documentation, and the same with one name made wrong.

    python -m evals.code_mutations --docs PATH [--count 300] [--seed 1] [--json]

Each Python and shell block of a tree of Markdown pages that uses Metaflow is checked as it stands:
a fault in it is a false alarm, unless the page is wrong. Then one name of Metaflow's in it is
changed, and the check has to find that. The same seed makes the same changes.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from metaflowbot.code_check import CodeChecker, Fault
from metaflowbot.code_check.blocks import PYTHON, SHELL, names_bound, pieces
from metaflowbot.metaflow_api import MetaflowAPI, load

KINDS = ("decorator", "argument", "member", "import", "option")
_CLIENT = ("Flow", "Run", "Step", "Task", "DataArtifact", "Metaflow", "S3", "Runner", "Deployer")
# What a model makes up, by what it stands for.
_MADE_UP = {
    "decorator": ("gpu_pool", "autoscale", "parallelize", "cache_step", "spot", "notify"),
    "argument": ("num_gpus", "max_attempts", "region", "memory_gb", "on_fail", "size"),
    "member": ("get_artifact", "latest_version", "is_done", "list_all", "fetch", "owner_name"),
    "import": ("Pipeline", "DAG", "TaskSpec", "gpu_pool", "Chart", "workflow"),
    "option": ("--max-retries", "--worker-count", "--gpu", "--dry-run", "--on-failure"),
}


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page, with what the other blocks of the page define."""

    page: str
    code: str
    language: str
    known: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """A block in which `was`, a name of the kind, was made `now` on line `line` (from 1)."""

    kind: str
    block: Block
    line: int
    was: str
    now: str
    code: str


@dataclass(frozen=True, slots=True)
class Alarm:
    page: str
    line: str
    fault: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Blocks checked and those with an alarm; mutations made and those found, by kind."""

    blocks: int
    alarms: tuple[Alarm, ...]
    made: dict[str, int]
    found: dict[str, int]
    missed: tuple[Mutation, ...]

    @property
    def alarmed(self) -> int:
        """How many blocks have an alarm."""
        return len({(alarm.page, alarm.line) for alarm in self.alarms})

    @property
    def share_found(self) -> float:
        """The share of mutations found, 0 to 1; 0 when none was made."""
        made = sum(self.made.values())
        return sum(self.found.values()) / made if made else 0.0


def read(docs: Path) -> list[Block]:
    """The blocks of every page below `docs` that use Metaflow, in the order of the paths."""
    found = []
    for path in sorted(docs.rglob("*.md")):
        text = path.read_text(encoding="utf-8", errors="replace")
        page = path.relative_to(docs).as_posix()
        bound = sorted(names_bound(text))
        named = (name if name.startswith("-") else f"class {name}" for name in bound)
        known = "\n".join((f"# {page}", *named))
        found += [
            Block(page, piece.code, piece.language, known)
            for piece in pieces(text)
            if not piece.inline and _uses_metaflow(piece.code, piece.language)
        ]
    return found


def _uses_metaflow(code: str, language: str) -> bool:
    if "library(metaflow)" in code or "%>%" in code:
        return False
    words = r"metaflow|@\w+\(|\bself\.next\b|\bcurrent\.|\b(?:Flow|Run|Step|Task|S3)\("
    return bool(re.search(words if language == PYTHON else r"metaflow|\.py\b", code))


def measure(checker: CodeChecker, blocks: Sequence[Block], count: int, seed: int) -> Measured:
    """Check each block as it stands, and `count` changed ones, of each kind as many."""
    faults = {id(block): _faults(checker, block, block.code) for block in blocks}
    alarms = tuple(
        Alarm(block.page, block.code.splitlines()[fault.line - 1].strip(), str(fault))
        for block in blocks
        for fault in faults[id(block)]
    )
    made: Counter[str] = Counter()
    found: Counter[str] = Counter()
    missed: list[Mutation] = []
    for mutation in mutations(blocks, checker.api, count, seed):
        made[mutation.kind] += 1
        before = {(fault.line, fault.what) for fault in faults[id(mutation.block)]}
        after = _faults(checker, mutation.block, mutation.code)
        is_found = bool({(fault.line, fault.what) for fault in after} - before)
        found[mutation.kind] += is_found
        missed += [] if is_found else [mutation]
    return Measured(len(blocks), alarms, dict(made), dict(found), tuple(missed))


def _faults(checker: CodeChecker, block: Block, code: str) -> tuple[Fault, ...]:
    return checker.check(code, block.language, block.known)


def mutations(
    blocks: Sequence[Block], api: MetaflowAPI, count: int, seed: int
) -> Iterator[Mutation]:
    """Changes drawn by `seed`, of each kind the same number, as far as there are places."""
    draw = random.Random(seed)
    places = {kind: [] for kind in KINDS}  # type: dict[str, list[tuple[Block, _Place]]]
    for block in blocks:
        for place in _places(block, api):
            places[place.kind].append((block, place))
    for kind in KINDS:
        chosen = places[kind] and draw.choices(places[kind], k=count // len(KINDS))
        for block, place in chosen:
            now = _changed(place, draw)
            rows = block.code.split("\n")
            row = rows[place.line - 1]
            rows[place.line - 1] = row[: place.column] + now + row[place.column + len(place.name) :]
            yield Mutation(kind, block, place.line, place.name, now, "\n".join(rows))


@dataclass(frozen=True, slots=True)
class _Place:
    """A name of the kind, where it stands: the line from 1, the column from 0."""

    kind: str
    name: str
    line: int
    column: int


def _changed(place: _Place, draw: random.Random) -> str:
    """A slip of the pen, another ending, or a name that is made up."""
    name = place.name
    at = draw.randrange(len(name) // 2, len(name) - 1) if len(name) > 3 else 0
    swapped = name[:at] + name[at + 1] + name[at] + name[at + 2 :] if at else name + "x"
    slips = [name[:at] + name[at + 1 :] if at else name + "y", name + "s", name + "_id", swapped]
    if place.kind == "option":
        slips[2] = name + "-id"
    return draw.choice([item for item in (*slips, *_MADE_UP[place.kind]) if item != name])


def _places(block: Block, api: MetaflowAPI) -> Iterator[_Place]:
    if block.language == SHELL:
        for number, row in enumerate(block.code.split("\n"), start=1):
            if re.search(r"\.py\b.*\b(?:run|create|resume|view|trigger)\b", row):
                for match in re.finditer(r"(?<=\s)--[a-z][a-z-]+", row):
                    if match[0] in _OPTIONS:
                        yield _Place("option", match[0], number, match.start())
        return
    try:
        tree = ast.parse(block.code)
    except SyntaxError:
        return
    rows = block.code.split("\n")
    for place in _in_python(tree, api):
        # Columns of the syntax tree count bytes; a name that is not there is of a line with more.
        if rows[place.line - 1][place.column :].startswith(place.name):
            yield place


_OPTIONS = frozenset(
    """
    --with --max-workers --tag --environment --datastore --metadata --max-num-splits --run-id-file
    --namespace --origin-run-id --production --branch --package-suffixes --config --config-value
    """.split()
)


def _in_python(tree: ast.Module, api: MetaflowAPI) -> Iterator[_Place]:
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metaflow")
        for alias in node.names
    }
    if not imported:  # a fragment, whose imports stand elsewhere on the page
        imported = {"current", *_CLIENT}
    ours = _own(tree, imported)
    members = {symbol.short for name in _CLIENT for symbol in api.members(f"metaflow.{name}")}
    members = {name.rpartition(".")[2] for name in members}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metaflow"):
            for alias in node.names:
                if alias.name[0] != "*" and (symbol := api.get(f"{node.module}.{alias.name}")):
                    yield _Place("import", symbol.short, alias.lineno, alias.col_offset)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from _decorators(node, api)
        elif isinstance(node, ast.Call):
            yield from _arguments(node, imported, api)
        elif isinstance(node, ast.Attribute):
            is_current = ast.unparse(node.value) == "current" and "current" in imported
            if is_current or (node.attr in members and _root(node.value, ours)):
                column = (node.end_col_offset or 0) - len(node.attr)
                yield _Place("member", node.attr, node.end_lineno or 1, column)


def _decorators(node: ast.FunctionDef | ast.ClassDef, api: MetaflowAPI) -> Iterator[_Place]:
    for decorator in node.decorator_list:
        written = decorator.func if isinstance(decorator, ast.Call) else decorator
        symbol = api.get(f"metaflow.{ast.unparse(written)}")
        if symbol and "decorator" in symbol.kind and symbol.short != "step":
            yield _Place("decorator", symbol.short, written.lineno, written.col_offset)


def _arguments(node: ast.Call, imported: set[str], api: MetaflowAPI) -> Iterator[_Place]:
    name = ast.unparse(node.func)
    symbol = api.get(f"metaflow.{name}") if name in imported else None
    taken = {item.name for item in symbol.parameters} if symbol else set()
    if name == "self.next":
        taken = {"foreach", "condition", "num_parallel"}
    for keyword in node.keywords:
        if keyword.arg in taken:
            yield _Place("argument", keyword.arg, keyword.lineno, keyword.col_offset)


def _own(tree: ast.Module, imported: set[str]) -> set[str]:
    """The names that hold client objects: assigned, looped over or entered from such calls."""
    ours = {name for name in imported if name in _CLIENT}
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Assign):
            pairs = [(node.targets[0], node.value)]
        elif isinstance(node, ast.For):
            pairs = [(node.target, node.iter)]
        elif isinstance(node, ast.With):
            pairs = [
                (item.optional_vars, item.context_expr) for item in node.items if item.optional_vars
            ]
        for target, value in pairs:
            if isinstance(target, ast.Name) and _root(value, ours):
                ours.add(target.id)
    return ours


def _root(node: ast.expr, ours: set[str]) -> bool:
    """Whether an expression begins with one of the names, and does not reach a flow's own data."""
    text = ast.unparse(node)
    head = re.match(r"[A-Za-z_]\w*", text)
    return bool(head) and head[0] in ours and ".data" not in text  # type: ignore[index]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    options.add_argument("--docs", type=Path, required=True)
    options.add_argument("--count", type=int, default=300)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    checker = CodeChecker(load())
    try:
        measured = measure(checker, read(given.docs), given.count, given.seed)
    finally:
        checker.close()
    print(json.dumps(asdict(measured), indent=1) if given.json else _told(measured))
    return 0


def _told(measured: Measured) -> str:
    share = measured.alarmed / measured.blocks if measured.blocks else 0.0
    lines = [f"{measured.alarmed} of {measured.blocks} blocks have an alarm ({share:.1%})"]
    lines += [f"  {item.page}: {item.fault}\n    {item.line}" for item in measured.alarms]
    lines.append(f"{sum(measured.found.values())} of {sum(measured.made.values())} mutations found")
    lines += [
        f"  {kind}: {measured.found.get(kind, 0)} of {made}" for kind, made in measured.made.items()
    ]
    for item in measured.missed:
        row = item.code.splitlines()[item.line - 1]
        lines.append(f"  missed {item.kind}: {item.was} -> {item.now}\n    {row}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
