"""The measure of the code check, on a small tree of pages."""

from __future__ import annotations

from pathlib import Path

from evals.code_mutations import KINDS, measure, mutations, read
from tests.test_code_check import checker

PAGE = """
# Training

```python
from metaflow import FlowSpec, step, retry, resources, Flow, current

class TrainFlow(FlowSpec):
    @retry(times=3)
    @resources(memory=8000)
    @step
    def start(self):
        print(current.run_id)
        self.next(self.end)

    @step
    def end(self):
        for run in Flow('TrainFlow'):
            print(run.finished_at)
```

```bash
python train.py --environment=pypi run --max-workers 4 --with kubernetes
```

```yaml
not: ours
```
"""


def docs(folder: Path) -> Path:
    (folder / "pages").mkdir()
    (folder / "pages" / "train.md").write_text(PAGE, encoding="utf-8")
    (folder / "other.md").write_text("```python\nimport os\n```\n", encoding="utf-8")
    return folder


def test_only_blocks_that_use_metaflow_are_read(tmp_path: Path) -> None:
    blocks = read(docs(tmp_path))
    assert [(block.page, block.language) for block in blocks] == [
        ("pages/train.md", "python"),
        ("pages/train.md", "shell"),
    ]


def test_the_same_seed_makes_the_same_changes_and_each_changes_one_name(tmp_path: Path) -> None:
    blocks = read(docs(tmp_path))
    first, again = (
        list(mutations(blocks, checker().api, 50, 7)),
        list(mutations(blocks, checker().api, 50, 7)),
    )
    assert first == again
    assert {item.kind for item in first} == set(KINDS)
    for item in first:
        was, now = item.block.code.split("\n"), item.code.split("\n")
        changed = [n for n, (a, b) in enumerate(zip(was, now, strict=True), 1) if a != b]
        assert changed == [item.line]
        assert item.now in now[item.line - 1]


def test_nearly_all_changes_are_found_and_nothing_else(tmp_path: Path) -> None:
    measured = measure(checker(), read(docs(tmp_path)), 100, 1)
    assert measured.alarms == ()
    assert measured.share_found >= 0.95
    assert sum(measured.made.values()) == 100


def test_without_pages_nothing_is_measured(tmp_path: Path) -> None:
    measured = measure(checker(), read(tmp_path), 100, 1)
    assert (measured.blocks, measured.alarmed, measured.share_found) == (0, 0, 0.0)
