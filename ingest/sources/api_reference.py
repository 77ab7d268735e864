"""Documents from the installed Metaflow: its API, its settings and its tutorials."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ingest.sources import Omission
from metaflowbot.domain import Document, Section
from metaflowbot.errors import SourceError
from metaflowbot.metaflow_api import MetaflowAPI, Outcome, Parameter, Symbol, load

_REPOSITORY = "https://github.com/Netflix/metaflow"
_KINDS = {
    "decorator": "step decorator",
    "flow-decorator": "flow decorator",
    "config": "configuration variable",
}
# Shorter descriptions say no more than the name does.
_FEWEST_WORDS = 4
_WIDEST = 88
_SETTING = (
    "Set it as an environment variable, or in Metaflow's configuration file "
    "(`config.json` in `~/.metaflowconfig`)."
)


@dataclass(frozen=True)
class ApiReference:
    """Reads the Metaflow that is installed in `site`, by default in this interpreter.

    One document for each public class, function and decorator, and for each documented member;
    what has no description of its own is named on its class's document. Members inherited from
    another public class are on that class's document.
    """

    site: Path | None = None
    name: str = "metaflow-api"

    def read(self) -> Iterator[Document | Omission]:
        """Yield the documents; raise SourceError when Metaflow is not installed."""
        api = load(self.site)
        if not api.stubs:
            what = "what Metaflow makes at run time, such as Deployer.argo_workflows"
            yield Omission(what, "the package metaflow-stubs is not installed")
        yield from _objects(api)
        yield from _settings(api)
        yield from _tutorials(api)
