"""An ingest that is killed at any moment hurts nobody: `python -m tests.scenarios.ingest_kills`.

A bot has an index. Its vectors are lost and a page changes, an ingest begins, and is killed with
SIGKILL after a random time, again and again. After each the live index must answer. In the end an
ingest runs through, and what the killed ones left behind is pruned. Exits 1 where any of this does
not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from metaflowbot.domain import Question
from metaflowbot.embedding import MiniLM
from metaflowbot.index import Index
from metaflowbot.retrieve import Retriever
from tests.process import MAIN

CORPUS = Path(__file__).parents[1] / "corpus"
_SETTINGS = {"METAFLOWBOT_CHAT_MODEL": "none", "METAFLOWBOT_EMBEDDING_MODEL": "local"}
_HOUR = 3600


class Desk:
    """A home with an index of some docs, which can be changed."""

    def __init__(self, home: Path, docs: Path) -> None:
        self.home = home
        self.docs = Path(shutil.copytree(docs, home / "docs" / docs.absolute().name))
        self.pages = sorted((self.docs / "docs").rglob("*.md"))

    def begin(self) -> subprocess.Popen[bytes]:
        """An ingest of docs and API reference, in a process of its own."""
        words = ("ingest", "--only", "api", "--only", "docs", "--docs", str(self.docs))
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, *words],
            env={**os.environ, **_SETTINGS, "METAFLOWBOT_HOME": str(self.home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def change(self, turn: int) -> None:
        """A page says something else than before, and everything has to be embedded again."""
        with self.pages[turn % len(self.pages)].open("a", encoding="utf-8") as file:
            file.write(f"\n\n## Changed\n\nThis is change {turn} of this page.\n")
        (self.home / "index" / "vectors.sqlite").unlink()

    @property
    def answers(self) -> bool:
        """Whether the live index is whole and finds something."""
        retriever = Retriever.over(Index(self.home).load(), MiniLM(self.home / "cache"))
        return bool(retriever.search(Question("How do I retry a step?")).hits)

    def prune(self) -> list[str]:
        """What `index prune` takes an hour after the last kill."""
        for folder in (self.home / "index" / "generations").glob("*.building"):
            os.utime(folder, (time.time() - _HOUR - 1,) * 2)
        return Index(self.home).prune()

    @property
    def left(self) -> list[str]:
        return [path.name for path in (self.home / "index" / "generations").glob("*.building")]


def run(desk: Desk, kills: int, chance: random.Random) -> bool:
    """Whether all held; a line is printed for each kill."""
    if desk.begin().wait():
        print("the first ingest failed")
        return False
    desk.change(0)
    started = time.monotonic()
    held = desk.begin().wait() == 0
    whole = time.monotonic() - started
    print(f"an ingest of all takes {whole:.1f} s")
    for turn in range(1, kills + 1):
        desk.change(turn)
        ingest, moment = desk.begin(), chance.uniform(0.1, 0.9 * whole)
        try:
            ingest.wait(moment)
            fate = "had ended"
        except subprocess.TimeoutExpired:
            ingest.kill()
            ingest.wait()
            fate = "was killed"
        held &= (answers := desk.answers)
        print(f"{turn}: {fate} after {moment:.1f} s; the live index answers: {answers}")
    ended = desk.begin().wait() == 0
    orphans, pruned = len(desk.left), desk.prune()
    print(f"the next ingest ran through: {ended}; left behind: {orphans}, gone: {len(pruned)}")
    return held and ended and desk.answers and not desk.left


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios.ingest_kills")
    parser.add_argument("--docs", type=Path, default=CORPUS, help="a Docusaurus tree")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="metaflowbot-kills-") as folder:
        desk = Desk(Path(folder), chosen.docs)
        return 0 if run(desk, chosen.kills, random.Random(chosen.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
