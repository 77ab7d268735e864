from __future__ import annotations

from pathlib import Path

from ingest.reference import fold
from ingest.sources.docs import DocsSource
from metaflowbot.domain import Document, Section

NEXT = "metaflow.FlowSpec.next"


def docs(corpus: Path, tmp_path: Path) -> list[Document]:
    return [item for item in DocsSource(str(corpus), tmp_path).read() if isinstance(item, Document)]


def api(name: str, text: str = "", *, version: str = "9.9") -> Document:
    sections = (Section((), "", text),) if text else ()
    url = f"https://code.example/{name}"
    return Document(f"api:{name}", "metaflow-api", name, url, sections, frozenset({name}), version)


def parameters(*items: str) -> str:
    return "What it does.\n\n**Parameters:**\n" + "\n".join(items) + "\n\n**Returns:**\n- `int`"


def page(documents: list[Document], identity: str) -> Document:
    return next(document for document in documents if document.id == identity)


def added(documents: list[Document]) -> list[Section]:
    return [
        section
        for document in documents
        for section in document.sections
        if section.text.startswith("**Further parameters:**")
    ]


def test_an_object_that_a_page_documents_is_not_repeated(corpus: Path, tmp_path: Path) -> None:
    pages = docs(corpus, tmp_path)
    assert fold([*pages, api(NEXT, "Text."), api("metaflow.Run.data", "Text.")]) == pages


def test_the_order_of_sources_does_not_matter(corpus: Path, tmp_path: Path) -> None:
    pages = docs(corpus, tmp_path)
    assert fold([api(NEXT, "Text."), *pages]) == pages


def test_an_object_that_no_page_documents_stays(corpus: Path, tmp_path: Path) -> None:
    pages = docs(corpus, tmp_path)
    hidden = api("metaflow.FlowMutator.pre_mutate", "Text.")
    assert fold([*pages, hidden]) == [*pages, hidden]


def test_without_docs_every_object_stays() -> None:
    objects = [api(NEXT, "Text."), api("metaflow.Run")]
    assert fold(objects) == objects
    assert fold([]) == []


def test_a_document_of_several_objects_stays_unless_all_are_documented(
    corpus: Path, tmp_path: Path
) -> None:
    several = Document("api:x", "metaflow-api", "x", "u", (), frozenset({NEXT, "metaflow.new"}))
    assert several in fold([*docs(corpus, tmp_path), several])


def test_parameters_that_the_page_does_not_know_are_added_below_the_object(
    corpus: Path, tmp_path: Path
) -> None:
    text = parameters(
        "- `dsts` (Callable): Known to the page.",
        "- `unbounded` (str): What the choice\n  depends on.",
        "- `**kwargs` (Any): The rest.",
        "- `foreach` (str): Known as well.",
    )
    folded = fold([*docs(corpus, tmp_path), api(NEXT, text)])
    sections = page(folded, "docs/api/flowspec.md").sections
    assert [section.anchor for section in sections][:4] == [
        "",
        "FlowSpec.next",
        "FlowSpec.next",
        "FlowSpec.index",
    ]
    assert sections[2] == Section(
        ("Moving on", "FlowSpec.next", "In Metaflow 9.9"),
        "FlowSpec.next",
        "**Further parameters:**\n- `unbounded` (str): What the choice\n  depends on.\n"
        "- `**kwargs` (Any): The rest.",
    )


def test_nothing_is_added_where_the_page_knows_every_parameter(
    corpus: Path, tmp_path: Path
) -> None:
    pages = docs(corpus, tmp_path)
    known = parameters("- `dsts` (Callable): The methods.", "- `foreach` (str): A list.")
    assert fold([*pages, api(NEXT, known)]) == pages


def test_parameters_are_added_once_for_each_object_of_a_page(corpus: Path, tmp_path: Path) -> None:
    pages = docs(corpus, tmp_path)
    folded = fold(
        [
            *pages,
            api(NEXT, parameters("- `unbounded` (str): A choice.")),
            api("metaflow.Run", parameters("- `attempt` (int): Which.")),
            api("metaflow.retry", parameters("- `backoff` (bool): Wait longer.")),
        ]
    )
    assert len(folded) == len(pages)
    assert [section.anchor for section in added(folded)] == ["FlowSpec.next", "Run", "retry"]


def test_an_attribute_without_a_section_of_its_own_adds_nothing(
    corpus: Path, tmp_path: Path
) -> None:
    pages = docs(corpus, tmp_path)
    assert fold([*pages, api("metaflow.Run.data", parameters("- `x` (int): New."))]) == pages


def in_a_module() -> Document:
    """A page whose objects are in a module, one of them named as another one's member."""
    names = {
        "metaflow.cards.Table",
        "metaflow.Table",
        "metaflow.Task.metadata",
        "metaflow.metadata",
    }
    sections = (Section(("Table",), "Table", "A table."), Section(("m",), "metadata", "Sets it."))
    return Document("docs/c.md", "metaflow-docs", "C", "u", sections, frozenset(names))


def test_an_object_of_a_module_is_found_under_its_short_name() -> None:
    (folded,) = fold([in_a_module(), api("metaflow.cards.Table", parameters("- `wide` (bool): x"))])
    assert [section.anchor for section in added([folded])] == ["Table"]


def test_a_member_is_not_taken_for_a_function_of_its_name() -> None:
    folded = fold([in_a_module(), api("metaflow.Task.metadata", parameters("- `x` (int): y"))])
    assert folded == [in_a_module()]
