from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ingest.card import (
    change_rows,
    golden_plot,
    golden_rows,
    omission_rows,
    passages_plot,
    removed_rows,
)
from ingest.check import Changes, Finding
from ingest.pipeline import SourceReport, Summary
from ingest.sources import Omission
from metaflowbot.domain import Question
from metaflowbot.embedding import MiniLM
from metaflowbot.index import Index
from metaflowbot.manifest import SourceCount
from metaflowbot.retrieve import Retriever
from tests.small_index import RETRY

pytest_plugins = ["tests.prebuilt"]

FLOW = Path(__file__).parent.parent / "ingest" / "flow.py"
PATIENCE = 120


def environment(home: Path, **more: str) -> dict[str, str]:
    """A process's whole environment, in which everything that it writes is below `home`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "METAFLOWBOT_HOME": str(home),
        "METAFLOWBOT_CHAT_MODEL": "none",
        "METAFLOW_HOME": str(home / "config"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home / "datastore"),
        **more,
    }


def run_flow(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FLOW), "run", *arguments],
        cwd=home,
        env=environment(home, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def card_parts(folder: Path) -> list[dict[str, object]]:
    """The parts of the one card below a folder, as its page carries them."""
    (page,) = folder.rglob("mf.cards/**/*.html")
    for match in re.finditer(r'"([A-Za-z0-9+/=]{200,})"', page.read_text(encoding="utf-8")):
        text = base64.b64decode(match[1]).decode("utf-8", errors="ignore")
        if '"components"' in text:
            parts: list[dict[str, object]] = json.loads(text)["components"][0]["contents"]
            return parts[0]["contents"]  # type: ignore[return-value]
    raise AssertionError(f"{page} holds no parts")


def rows(parts: list[dict[str, object]], first_column: str) -> object:
    return next(
        part["data"]
        for part in parts
        if part["type"] == "table" and part["columns"][0] == first_column  # type: ignore[index]
    )


def test_the_flow_builds_a_live_generation_and_a_card_and_stores_no_text(
    home: Path, corpus: Path
) -> None:
    before = Index(home).active_id()
    done = run_flow(home, "--docs", str(corpus), "--only", "docs", USERNAME="tester")
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = Index(home).load().manifest
    assert manifest.id != before
    assert set(manifest.sources) == {"metaflow-docs"}
    parts = card_parts(home)
    assert f"active: {manifest.id}" in str(parts[0]["source"])
    assert [row[:2] for row in rows(parts, "Source")] == [  # type: ignore[attr-defined]
        ["metaflow-docs", str(len(manifest.documents))]
    ]
    assert "docs/scaling/remote/README.md" in str(rows(parts, "Change"))
    assert ["How do I retry a failing step?", "1"] in rows(parts, "Golden question")  # type: ignore[operator]
    assert sum(part["type"] == "vegaChart" for part in parts) == 3
    assert b"a network that drops for a moment" not in stored(home / "datastore")


def stored(datastore: Path) -> bytes:
    """Everything that the datastore holds, unpacked."""
    blobs = [path.read_bytes() for path in datastore.rglob("*") if path.is_file()]
    assert blobs
    return b"\n".join(gzip.decompress(it) if it[:2] == b"\x1f\x8b" else it for it in blobs)


def test_without_a_user_name_the_flow_says_which_variable_to_set(tmp_path: Path) -> None:
    done = run_flow(tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "set USERNAME" in done.stderr


def test_a_run_whose_switch_was_stopped_fails_at_its_end() -> None:
    from ingest.flow import IngestError, IngestFlow

    class Run:
        summary = Summary(built="2", stopped=("labs shrank",))

    with pytest.raises(IngestError, match=r"labs shrank; .* activates it anyway"):
        IngestFlow.end(Run())


def summary() -> Summary:
    return Summary(
        sources=[
            SourceReport("labs", 3, 9, omissions=(Omission("a", "empty"), Omission("b", "empty"))),
            SourceReport("slack", 5, 5),
        ],
        changes=Changes(
            since="1",
            sources={"labs": SourceCount(2, 4), "gone": SourceCount(1, 2)},
            added=tuple(f"page{n:02}" for n in range(23)),
            removed=("old",),
        ),
        golden=(Finding("Found?", 2), Finding("Lost?", None)),
        built="2",
    )


def test_the_card_counts_all_changes_and_names_the_first() -> None:
    added, changed, removed = change_rows(summary())
    assert added[:2] == ["added", "23"]
    assert str(added[2]).endswith("page19 and 3 more")
    assert changed == ["changed", "0", ""]
    assert removed == ["removed", "1", "old"]


def test_the_card_groups_what_was_left_out_by_the_reason() -> None:
    assert omission_rows(summary().sources) == [["labs", "empty", "2", "a, b"]]


def test_the_card_counts_what_was_scrubbed_by_source_and_kind() -> None:
    finds = [SourceReport("slack", removed={"e-mail": 2, "phone": 1}), SourceReport("labs")]
    assert removed_rows(finds) == [["slack", "e-mail", "2"], ["slack", "phone", "1"]]


def test_the_card_shows_each_golden_question_with_its_rank() -> None:
    assert golden_rows(summary()) == [["Found?", "2"], ["Lost?", "not in the first 10"]]
    values = golden_plot(summary())["data"]["values"]
    assert [value["reciprocal rank"] for value in values] == [0.5, 0]


def test_the_card_plots_every_source_that_was_or_is_in_the_index() -> None:
    values = passages_plot(summary())["data"]["values"]
    counted = {(value["source"], value["generation"]): value["passages"] for value in values}
    assert counted["labs", "before"] == 4
    assert counted["labs", "now"] == 9
    assert counted["slack", "before"] == 0
    assert counted["gone", "now"] == 0


def embedding_has_begun(home: Path) -> bool:
    return "embedded 0 of" in (home / "log").read_text()


def a_generation_is_half_built(home: Path) -> bool:
    return any((home / "index/generations").glob("*.building"))


def a_generation_is_built_but_not_live(home: Path) -> bool:
    folders = [path for path in (home / "index/generations").iterdir() if path.suffix == ""]
    return len(folders) > 1


MOMENTS: Mapping[str, Callable[[Path], bool]] = {
    "embedding": embedding_has_begun,
    "building": a_generation_is_half_built,
    "switching": a_generation_is_built_but_not_live,
}


def start_ingest(home: Path, corpus: Path) -> subprocess.Popen[bytes]:
    command = "from metaflowbot.cli import main; main()"
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", command, "ingest", "--docs", str(corpus), "--only", "docs"],
            env=environment(home),
            stdout=log,
            stderr=log,
        )


def kill_when(reached: Callable[[Path], bool], home: Path, corpus: Path) -> None:
    with start_ingest(home, corpus) as process:
        deadline = time.monotonic() + PATIENCE
        while not reached(home):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_ingest_that_is_killed_leaves_the_live_index_and_the_next_one_finishes(
    home: Path, corpus: Path, minilm: MiniLM, moment: str
) -> None:
    index = Index(home)
    live = index.active_id()
    kill_when(MOMENTS[moment], home, corpus)

    assert index.active_id() == live
    found = Retriever.over(index.load(), minilm).search(Question(RETRY))
    assert found.hits[0].best.document_id == "docs/scaling/failures.md"

    with start_ingest(home, corpus) as process:
        assert process.wait(PATIENCE) == 0, (home / "log").read_text()
    assert index.active_id() not in (None, live)

    generations = home / "index" / "generations"
    for orphan in generations.glob("*.building"):
        os.utime(orphan, (time.time() - 7200,) * 2)
    index.prune(keep=1)
    assert {path.name for path in generations.iterdir()} == {index.active_id(), live}
