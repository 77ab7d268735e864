"""The table of Metaflow's API, read from the installed package and from a small one."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from metaflowbot.docstrings import parse_docstring
from metaflowbot.errors import SourceError
from metaflowbot.metaflow_api import MetaflowAPI, Symbol, load

PACKAGE = {
    "__init__.py": "from .tools import shout, Flower\nfrom .tools import _secret\n",
    "tools.py": '''
class _Plant:
    @property
    def height(self) -> int:
        """How tall it is, in centimetres."""

class Flower(_Plant):
    """A plant that blooms."""

    def bloom(self, days: int = 3, *, colour: "str" = "red") -> "Flower":
        """Open the petals.

        Parameters
        ----------
        days : int, default 3
            How long it
            stays open.

        Raises
        ------
        ValueError
            If it is winter.
        """

def shout(text: str) -> str:
    """Say it loudly."""

def _secret(): ...
''',
    "metaflow_config.py": (
        "# How loud, from 1 to 10.\n"
        'LOUDNESS = from_conf("LOUDNESS", 5)\n\n'
        'QUIET = from_conf("QUIET")\n'
    ),
}


def install(site: Path, files: dict[str, str] = PACKAGE, name: str = "metaflow") -> Path:
    for path, text in files.items():
        target = site / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    facts = site / f"{name.replace('-', '_')}-1.2.3.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
    return site


@cache
def installed() -> MetaflowAPI:
    return load()


def symbol(name: str) -> Symbol:
    found = installed().get(name)
    assert found is not None, name
    return found


def test_loading_never_imports_metaflow() -> None:
    code = (
        "import sys; from metaflowbot.metaflow_api import load; load();"
        "sys.exit('metaflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_version_is_that_of_the_installed_package() -> None:
    assert installed().version == version("metaflow")
    assert symbol("metaflow.Run").version == version("metaflow")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("metaflow.retry", "decorator"),
        ("metaflow.step", "decorator"),
        ("metaflow.kubernetes", "decorator"),
        ("metaflow.project", "flow-decorator"),
        ("metaflow.conda_base", "flow-decorator"),
        ("metaflow.FlowSpec.merge_artifacts", "method"),
        ("metaflow.Task.parent_tasks", "property"),
        ("metaflow.Task.tags", "property"),
        ("metaflow.parallel_imap_unordered", "function"),
        ("metaflow.NBDeployer", "class"),
        ("metaflow.ExecutingRun.status", "property"),
        ("metaflow.TriggeredRun.wait_for_run", "method"),
        ("metaflow.Deployer.argo_workflows", "method"),
        ("metaflow.FlowMutator.pre_mutate", "method"),
        ("metaflow.MutableFlow.add_decorator", "method"),
        ("metaflow.S3Object.blob", "property"),
        ("metaflow.cards.Table.from_dataframe", "method"),
        ("metaflow.cards.Card.view", "method"),
        ("metaflow.integrations.ArgoEvent.publish", "method"),
        ("metaflow.exception.MetaflowNotFound", "class"),
        ("metaflow.current", "variable"),
        ("metaflow.current.run_id", "property"),
        ("metaflow.current.is_production", "attribute"),
        ("metaflow.current.spot_termination_notice", "attribute"),
        ("metaflow.current.card.append", "method"),
        ("metaflow.ParameterContext.flow_name", "attribute"),
        ("METAFLOW_DEFAULT_DATASTORE", "config"),
    ],
)
def test_what_people_use_is_in_the_table(name: str, kind: str) -> None:
    assert symbol(name).kind == kind


def test_no_private_name_is_in_the_table() -> None:
    private = [
        name
        for name in installed().symbols
        if any(part.startswith("_") and not part.endswith("__") for part in name.split("."))
    ]
    assert private == []


def test_a_decorator_has_the_parameters_of_its_docstring() -> None:
    times, pause = symbol("metaflow.retry").parameters
    assert (times.name, times.type, times.default) == ("times", "int", "3")
    assert times.description == "Number of times to retry this task."
    assert pause.name == "minutes_between_retries"
    assert symbol("metaflow.retry").signature.startswith("@retry(times: int = 3, ")


def test_a_default_from_the_configuration_is_called_by_its_variable() -> None:
    defaults = {item.name: item.default for item in symbol("metaflow.batch").parameters}
    assert defaults["queue"] == "METAFLOW_BATCH_JOB_QUEUE"
    policy = {item.name: item.default for item in symbol("metaflow.kubernetes").parameters}
    assert policy["image_pull_policy"] == "METAFLOW_KUBERNETES_IMAGE_PULL_POLICY"


def test_a_member_of_a_private_base_is_the_class_own() -> None:
    assert symbol("metaflow.Run.tags").defined_in == ""


def test_a_member_of_a_public_base_names_that_base() -> None:
    assert symbol("metaflow.Config.option_kwargs").defined_in == "metaflow.Parameter"


def test_an_attribute_of_current_says_which_decorator_adds_it() -> None:
    assert (
        "`@batch` or `@kubernetes`" in symbol("metaflow.current.spot_termination_notice").docstring
    )
    assert "flows with `@project`" in symbol("metaflow.current.is_production").docstring


def test_a_name_is_found_without_the_package_and_by_its_full_path() -> None:
    api = installed()
    assert api.get("Run") is api.get("metaflow.Run") is not None
    assert api.get("metaflow.runner.metaflow_runner.ExecutingRun.wait") is not None
    assert api.get("metaflow.Run.no_such_thing") is None
    assert api.get("") is None


def test_members_are_those_directly_below() -> None:
    names = {member.name for member in installed().members("metaflow.current")}
    assert "metaflow.current.card" in names
    assert "metaflow.current.card.append" not in names
    assert installed().members("metaflow.retry") == ()


def test_importable_names_are_those_of_the_module() -> None:
    assert {"Run", "retry", "current", "step"} <= installed().importable("metaflow")
    assert "Table" in installed().importable("metaflow.cards")
    assert "Table" not in installed().importable("metaflow")
    assert installed().importable("pandas") == frozenset()


def test_a_line_number_leads_to_the_definition() -> None:
    run = symbol("metaflow.Run")
    text = (installed().package.parent / run.path).read_text(encoding="utf-8")
    assert text.splitlines()[run.line - 1].startswith("class Run(")


def test_a_small_package_is_read_without_its_stubs(tmp_path: Path) -> None:
    api = load(install(tmp_path))
    assert (api.version, api.stubs) == ("1.2.3", "")
    assert {name for name in api.symbols if name.startswith("metaflow.")} == {
        "metaflow.shout",
        "metaflow.Flower",
        "metaflow.Flower.bloom",
        "metaflow.Flower.height",
    }


def test_a_method_has_its_signature_and_what_it_raises(tmp_path: Path) -> None:
    bloom = load(install(tmp_path)).symbols["metaflow.Flower.bloom"]
    assert bloom.signature == "Flower.bloom(days: int = 3, *, colour: str = 'red') -> Flower"
    assert bloom.parameters[0].description == "How long it\nstays open."
    assert [item.required for item in bloom.parameters] == [False, False]
    assert [item.type for item in bloom.raises] == ["ValueError"]


def test_a_setting_has_its_default_and_its_comment(tmp_path: Path) -> None:
    api = load(install(tmp_path))
    loudness = api.symbols["METAFLOW_LOUDNESS"]
    assert (loudness.default, loudness.docstring) == ("5", "How loud, from 1 to 10.")
    assert api.symbols["METAFLOW_QUIET"].default == "None"


def test_what_only_the_stubs_have_is_added(tmp_path: Path) -> None:
    install(tmp_path)
    stubs = {
        "__init__.pyi": "from .tools import Flower as Flower\n",
        "tools.pyi": 'class Flower:\n    def grafted(self) -> int:\n        """Made later."""\n',
    }
    api = load(install(tmp_path, stubs, "metaflow-stubs"))
    assert api.stubs == "1.2.3"
    assert api.symbols["metaflow.Flower.grafted"].docstring == "Made later."


def test_a_missing_package_is_an_error_that_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="install the package 'metaflow'"):
        load(tmp_path)


def test_a_broken_source_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    install(tmp_path, {**PACKAGE, "tools.py": "def broken(:\n"})
    with pytest.raises(SourceError, match=r"tools\.py"):
        load(tmp_path)


def test_an_empty_docstring_has_no_parts() -> None:
    assert parse_docstring("") == parse_docstring("\n\n")


def test_rst_in_a_docstring_becomes_markdown() -> None:
    text = parse_docstring("Call :meth:`~Run.stop` or ``stop``, see <name>.").text
    assert text == "Call `Run.stop` or `stop`, see `<name>`."


def test_indented_code_in_a_docstring_gets_a_fence() -> None:
    text = parse_docstring("For example::\n\n    a = 1\n    # b\n\nDone.").text
    assert "For example:\n```\na = 1\n# b\n```" in text


def test_headings_in_a_docstring_become_bold_outside_code_only() -> None:
    text = parse_docstring("### Usage\n```\n# a comment\n```").text
    assert text == "**Usage**\n```\n# a comment\n```"


def test_a_parameter_without_a_description_is_kept() -> None:
    first, second = parse_docstring(
        "Do.\n\nParameters\n----------\na : int, optional\nb : str, default 'x'\n    Why.\n"
    ).parameters
    assert (first.name, first.type, first.default, first.description) == ("a", "int", "None", "")
    assert (second.default, second.description) == ("'x'", "Why.")
