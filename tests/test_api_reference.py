"""Documents from the installed Metaflow, and from a small one."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from ingest.passages import split
from ingest.sections import fenced
from ingest.sources import Omission
from ingest.sources.api_reference import ApiReference
from metaflowbot.domain import Document
from metaflowbot.errors import SourceError
from tests.test_metaflow_api import PACKAGE, install


@cache
def documents() -> dict[str, Document]:
    return {item.id: item for item in ApiReference().read() if isinstance(item, Document)}


def text(name: str) -> str:
    return "\n\n".join(section.text for section in documents()[f"api:{name}"].sections)


def read_small(site: Path) -> tuple[dict[str, Document], list[Omission]]:
    read = list(ApiReference(site).read())
    omitted = [item for item in read if isinstance(item, Omission)]
    return {item.id: item for item in read if isinstance(item, Document)}, omitted


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("metaflow.FlowMutator.pre_mutate", "FlowMutator.pre_mutate (method)"),
        ("metaflow.Task.parent_tasks", "Task.parent_tasks (property)"),
        ("metaflow.parallel_imap_unordered", "parallel_imap_unordered (function)"),
        ("metaflow.NBDeployer", "NBDeployer (class)"),
        ("metaflow.retry", "@retry (step decorator)"),
        ("metaflow.project", "@project (flow decorator)"),
        ("metaflow.exit_hook", "@exit_hook (flow decorator)"),
        ("metaflow.cards.Table", "cards.Table (class)"),
        (
            "metaflow.current.spot_termination_notice",
            "current.spot_termination_notice (attribute)",
        ),
        (
            "METAFLOW_S3_RETRY_COUNT",
            "METAFLOW_S3_RETRY_COUNT (configuration variable)",
        ),
    ],
)
def test_each_object_has_a_document_with_a_telling_title(name: str, title: str) -> None:
    document = documents()[f"api:{name}"]
    assert (document.title, document.source) == (title, "metaflow-api")
    assert document.defines == {name}
    assert document.version == version("metaflow")


def test_ids_are_never_repeated() -> None:
    ids = [item.id for item in ApiReference().read() if isinstance(item, Document)]
    assert len(ids) == len(set(ids)) > 400


def test_no_object_is_defined_by_two_documents() -> None:
    names = [name for document in documents().values() for name in document.defines]
    assert len(names) == len(set(names))


def test_a_link_opens_the_source_at_the_installed_version() -> None:
    url = documents()["api:metaflow.Run"].url
    tag = re.escape(version("metaflow"))
    root = r"https://github\.com/Netflix/metaflow/blob"
    assert re.fullmatch(rf"{root}/{tag}/metaflow/client/core\.py#L\d+", url)


def test_every_document_but_a_tutorial_names_what_it_defines() -> None:
    assert all(item.defines or "tutorials" in item.id for item in documents().values())


def test_every_document_has_text_that_splits_into_passages() -> None:
    for document in documents().values():
        assert all(section.text.strip() for section in document.sections), document.id
        assert list(split(document)), document.id


def test_every_fence_is_closed() -> None:
    for document in documents().values():
        for section in document.sections:
            marks = [line for line in section.text.split("\n") if line.strip().startswith("```")]
            assert len(marks) % 2 == 0, document.id


def test_no_heading_html_or_rst_is_left_in_prose() -> None:
    leftover = re.compile(r"^#+ |</?(?:br|p|a|div|img)\b|:(?:meth|class|func|ref):`|(?<!`)``(?!`)")
    for document in documents().values():
        for section in document.sections:
            prose = [line for line, code in fenced(section.text.split("\n")) if not code]
            assert not [line for line in prose if leftover.search(line)], document.id


def test_a_signature_is_fenced_with_its_import() -> None:
    assert text("metaflow.timeout").startswith(
        "```python\nfrom metaflow import timeout\n\n@timeout(seconds: int = 0, "
    )


def test_a_long_signature_has_an_argument_on_each_line() -> None:
    signature = text("metaflow.S3.get_many").split("```")[1]
    assert "\n    return_missing: bool = False,\n" in signature
    assert signature.endswith(") -> List[S3Object]\n")


def test_parameters_are_list_items_with_type_and_default() -> None:
    item = "- `times` (int, default 3): Number of times to retry this task."
    assert item in text("metaflow.retry").splitlines()


def test_a_list_in_a_parameter_stays_inside_its_item() -> None:
    assert "\n  - if `branch` is specified:\n" in text("metaflow.project")


def test_a_class_lists_its_members_with_what_they_are_for() -> None:
    members = documents()["api:metaflow.Run"].sections[-1]
    assert members.headings == ("Members",)
    assert (
        "- `Run.finished_at` (property, Optional[datetime]): "
        "Returns the datetime object of when the run finished (successfully or not)."
    ) in members.text.splitlines()


def test_legacy_members_have_no_document_of_their_own() -> None:
    assert "api:metaflow.FlowSpec.cmd" not in documents()


def test_every_setting_is_findable_by_its_exact_name() -> None:
    from metaflowbot.metaflow_api import load

    told = "\n".join(text(item.id.removeprefix("api:")) + item.id for item in documents().values())
    settings = [name for name, item in load().symbols.items() if item.kind == "config"]
    assert [name for name in settings if not re.search(rf"\b{name}\b", told)] == []


def test_settings_without_a_comment_are_listed_with_their_family() -> None:
    family = documents()["api:METAFLOW_DEFAULT_*"]
    assert "METAFLOW_DEFAULT_DATASTORE" in family.defines
    assert "- `METAFLOW_DEFAULT_DATASTORE` (default `'local'`)" in family.sections[0].text


def test_exceptions_are_told_by_the_headline_that_people_see() -> None:
    assert "- `MetaflowNotFound`: Its headline: Object not found." in text("metaflow.exception")


def test_a_tutorial_has_its_readme_and_its_code() -> None:
    tutorial = documents()["api:tutorials/00-helloworld"]
    assert tutorial.title == "Episode 00-helloworld: Metaflow says Hi!"
    assert tutorial.sections[-1].headings == ("helloworld.py",)
    assert "```python\nfrom metaflow import FlowSpec, step" in tutorial.sections[-1].text


def test_a_notebook_gives_its_prose_and_code() -> None:
    notebook = documents()["api:tutorials/08-autopilot"].sections[-1]
    assert "**Import the metaflow client**\n\n```python\nfrom metaflow import Flow" in notebook.text


def test_missing_stubs_are_named_and_the_package_is_read_all_the_same(tmp_path: Path) -> None:
    read, omitted = read_small(install(tmp_path))
    assert "api:metaflow.Flower" in read
    assert [item.why for item in omitted] == ["the package metaflow-stubs is not installed"]


def test_what_has_no_description_is_on_its_class_and_not_a_document(tmp_path: Path) -> None:
    bare = PACKAGE["tools.py"].replace('"""Open the petals.', '"""')
    read, _ = read_small(install(tmp_path, {**PACKAGE, "tools.py": bare}))
    assert "api:metaflow.Flower.bloom" not in read
    assert "`bloom`" in read["api:metaflow.Flower"].sections[-1].text


def test_a_broken_tutorial_is_named_and_left_out(tmp_path: Path) -> None:
    broken = {
        "tutorials/00-a/README.md": "# Episode 0\n\nHello.\n",
        "tutorials/00-a/a.ipynb": "{not json",
        "tutorials/01-b/README.md": "# Episode 1\n\nHello again.\n",
    }
    read, omitted = read_small(install(tmp_path, {**PACKAGE, **broken}))
    assert [item.what for item in omitted[1:]] == ["tutorials/00-a"]
    assert read["api:tutorials/01-b"].title == "Episode 1"


def test_without_metaflow_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="install the package 'metaflow'"):
        list(ApiReference(tmp_path).read())


def installed(site: Path, record: str) -> ApiReference:
    """The reference of a site where Metaflow's own list of files is `record`."""
    info = site / "metaflow-2.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Name: metaflow\nVersion: 2.0\n")
    (info / "RECORD").write_text(record)
    return ApiReference(site)


def test_the_mark_changes_with_the_files_that_are_installed_and_not_by_itself(
    tmp_path: Path,
) -> None:
    marks = [installed(tmp_path, record).mark() for record in ("a,1", "a,1", "a,2")]
    assert marks[0] == marks[1] != marks[2]
    assert all(marks)


def test_where_nothing_tells_what_is_installed_there_is_no_mark(tmp_path: Path) -> None:
    assert ApiReference(tmp_path).mark() == ""
    assert installed(tmp_path, "").mark() == ""
