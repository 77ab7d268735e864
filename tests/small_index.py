"""Passages on Metaflow's own subjects, and how to make an index of them.

tests/prebuilt.py holds it ready, built with the local model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from metaflowbot.domain import Passage
from metaflowbot.embedding import Embedding
from metaflowbot.index import Index
from metaflowbot.manifest import Manifest, SourceCount


def passage(identity: str, title: str, heading: str, text: str) -> Passage:
    """A passage by its id, 'document#ordinal'; the document's id tells the source."""
    document = identity.partition("#")[0]
    source = {"api": "metaflow-api", "labs": "labs"}.get(
        document.partition(":")[0], "metaflow-docs"
    )
    place = document.removeprefix("docs/").removesuffix(".md").replace(":", "/")
    url = f"https://docs.metaflow.org/{place}" + f"#{heading.lower()}" * bool(heading)
    return Passage(identity, document, source, title, (heading,) if heading else (), url, text)


PASSAGES = (
    passage(
        "docs/scaling/failures.md#0",
        "Dealing with Failures",
        "",
        "Failures are a natural part of running flows. Metaflow offers decorators that retry a"
        " failing step, catch its exception, or end it after some time.",
    ),
    passage(
        "docs/scaling/failures.md#1",
        "Dealing with Failures",
        "Retrying",
        "Use the `@retry` decorator to run a failing step again. You can set the delay between"
        " two attempts with `minutes_between_retries`.\n\n```python\n"
        "@retry(times=3, minutes_between_retries=5)\n@step\ndef start(self):\n"
        "    self.next(self.end)\n```",
    ),
    passage(
        "docs/scaling/failures.md#2",
        "Dealing with Failures",
        "Timeouts",
        "Use the `@timeout` decorator to end a step that takes too long. Its arguments are"
        " `seconds`, `minutes` and `hours`, and they add up.",
    ),
    passage(
        "docs/scaling/kubernetes.md#0",
        "Running on Kubernetes",
        "",
        "The `@kubernetes` decorator sends a step to a Kubernetes cluster. Ask for resources with"
        " `cpu`, `memory` and `gpu`.",
    ),
    passage(
        "docs/scaling/kubernetes.md#1",
        "Running on Kubernetes",
        "Spot",
        "A task learns from `current.spot_termination_notice` that its instance will be taken"
        " away soon, and may save its work before that happens.",
    ),
    passage(
        "docs/scaling/data.md#0",
        "Loading Data",
        "",
        "`metaflow.S3` reads and writes large amounts of data in Amazon S3, many objects at a time."
        " Its `get_many` downloads them in parallel.",
    ),
    passage(
        "docs/getting-started/configure.md#0",
        "Configuring Metaflow",
        "",
        "`METAFLOW_DATASTORE_SYSROOT_S3` is the S3 prefix under which Metaflow keeps artifacts."
        " Set it with `metaflow configure aws`.",
    ),
    passage(
        "docs/metaflow/basics.md#0",
        "Basics of Metaflow",
        "Artifacts",
        "Whatever a step assigns to `self` becomes an artifact. Metaflow stores artifacts"
        " automatically, so that later steps and later analyses can read them.",
    ),
    passage(
        "docs/metaflow/basics.md#1",
        "Basics of Metaflow",
        "Foreach",
        "A foreach runs the same step once for each item of a list, in parallel:"
        " `self.next(self.work, foreach='items')`. A join step collects the results.",
    ),
    passage(
        "docs/production/argo.md#0",
        "Scheduling with Argo Workflows",
        "",
        "`argo-workflows create` deploys a flow to Argo Workflows, where `@schedule` starts it"
        " every hour, day or week.",
    ),
    passage(
        "api:metaflow.retry#0",
        "metaflow.retry",
        "",
        "Specifies the number of times the task corresponding to a step needs to be retried."
        " `times` defaults to 3, `minutes_between_retries` to 2.",
    ),
    passage(
        "labs:scaling/retries-in-depth#0",
        "Retries in depth",
        "",
        "A draft on how a retried step is scheduled again with its delay, and on what remains of"
        " the attempt that failed.",
    ),
)

RETRY = "How do I retry a failing step with a delay?"
OFF_TOPIC = "What is the best recipe for sourdough bread?"


def counts(passages: tuple[Passage, ...] = PASSAGES) -> Mapping[str, SourceCount]:
    """What each source gave."""
    documents = Counter(source for source, _ in {(p.source, p.document_id) for p in passages})
    given = Counter(p.source for p in passages)
    return {name: SourceCount(documents[name], given[name]) for name in given}


def publish(home: Path, embedding: Embedding, passages: tuple[Passage, ...] = PASSAGES) -> Manifest:
    """Build a generation in this home and make it the active one."""
    index = Index(home)
    return index.activate(index.build(passages, counts(passages), embedding).id)
