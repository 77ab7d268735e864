"""A package holds all its parts, nothing of anybody's that it may not, and nothing that is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from ingest.sources.labs import parse_page
from metaflowbot import llm, trenches
from metaflowbot.domain import Hit
from metaflowbot.errors import UsageError
from metaflowbot.escalation import Escalation, Handed, Session, Solution
from metaflowbot.settings import Settings
from tests.openai_double import OpenAIDouble
from tests.small_index import PASSAGES

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
QUESTION = (
    "How do I @retry a step of our churn model in a foreach, @max?\n"
    f"Jordan Miller put {KEY} there.\n"
    "<script>alert(1)</script> {{< include secret.txt >}} [here](javascript:alert(1))\n"
    "::danger\nboo\n::\n\n```{python}\nprint(1)\n```"
)
SOLUTION = Solution("Put `@retry(times=3)` above `@step`, Jordan.")
HITS = tuple(Hit(n, 1.0, (each,)) for n, each in enumerate(PASSAGES[1:4], 1))
NAMES = ("Jordan Miller", "Jordan")


def solved(solution: Solution = SOLUTION, consent: str = "given") -> Escalation:
    asked = Handed("a1", QUESTION, "slack:U1", "C1", "1.0", "1.0")
    opened = asked.escalation("slack:U1", ("the bot found no answer",), NOW)
    session = Session(date(2026, 5, 11), ("slack:U1", "slack:U2"))
    done = opened.claim("slack:U2", NOW).schedule(session, "slack:U2", NOW)
    done = done.solve(solution, "slack:U2", NOW)
    return done.allow_quotes(given=consent == "given") if consent else done


def files(escalation: Escalation | None = None, **more: Any) -> Mapping[str, str]:
    material = trenches.Material(escalation or solved(), HITS, NAMES)
    return trenches.package(material, **more)


def front(text: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return values


def writeup(found: Mapping[str, str]) -> str:
    return next(text for place, text in found.items() if place.startswith("content/"))


def test_a_package_has_every_part_of_a_repository() -> None:
    assert {place for place in files() if not place.startswith("content/")} == {
        ".github/workflows/publish.yml",
        ".gitignore",
        "LICENSE",
        "README.md",
        "_quarto.yml",
        "flow.py",
        "index.qmd",
        "requirements.txt",
        "session-plan.md",
        "slides.qmd",
        "test_flow.py",
        "video-outline.md",
    }
    assert "Apache License" in files()["LICENSE"]


def test_quarto_finds_all_that_its_project_names_and_the_slides_are_revealjs() -> None:
    found = files()
    project = yaml.safe_load(found["_quarto.yml"])
    assert project["project"]["type"] == "website"
    assert set(project["project"]["render"]) <= found.keys()
    assert {each["href"] for each in project["website"]["navbar"]["left"]} <= found.keys()
    assert "revealjs" in front(found["slides.qmd"])["format"]
    assert found["slides.qmd"].count("\n## ") >= 4


def test_the_workflow_tests_renders_and_publishes() -> None:
    found = files()
    workflow = yaml.safe_load(found[".github/workflows/publish.yml"])
    runs = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert "pytest -q" in runs
    assert "quarto render" in runs
    copied = next(run for run in runs if run.startswith("cp ")).split()[1]
    assert copied in found
    assert "${{ steps.pages.outputs.page_url }}" in found[".github/workflows/publish.yml"]


def test_the_write_up_is_a_page_that_the_labs_source_reads() -> None:
    text = writeup(files())
    values = front(text)
    assert values["diataxis"] == "how-to"
    assert values["draft"] is True
    document = parse_page(text, "https://labs.example/learn/deep-dives/from-the-trenches/retry")
    assert document.id == "labs:from-the-trenches/retry"
    headings = [section.headings[-1] for section in document.sections if section.headings]
    assert headings[:2] == ["The problem", "The solution"]
    assert "How to" in document.sections[0].text
    assert "@retry(times=3)" in " ".join(section.text for section in document.sections)


def test_sources_are_cited_with_their_addresses() -> None:
    found = files()
    for text in (writeup(found), found["index.qmd"], found["slides.qmd"]):
        assert (
            "1. [Dealing with Failures › Retrying](https://docs.metaflow.org/scaling/failures"
            in text
        )
        assert "run a failing step again. [1]" in text


def test_names_and_secrets_are_nowhere_in_a_package() -> None:
    whole = "\n".join(files().values())
    assert KEY not in whole
    assert "[removed: aws key id]" in whole
    assert "Jordan" not in whole
    assert "@max" not in whole
    assert "U1" not in re.findall(r"\w+", whole)


def test_a_name_that_is_a_word_too_leaves_the_words_alone() -> None:
    material = trenches.Material(solved(), names=("max", "Will", "Jordan Miller"))
    said = "Max said it will do: `max(1, 2)`, Will. JORDAN MILLER agreed, the max is 3."
    assert material.clean(said) == (
        "somebody said it will do: `max(1, 2)`, somebody. somebody agreed, the max is 3."
    )


def test_who_signs_is_not_named() -> None:
    clean = trenches.Material(solved()).clean
    assert clean("It works. Thanks, Priya Raman (a team lead)") == (
        "It works. Thanks, somebody (a team lead)"
    )
    assert clean("Done.\n\n-- Anna") == "Done.\n\n-- somebody"
    assert clean("Thanks, Metaflow is great") == "Thanks, Metaflow is great"


def test_the_title_is_what_is_asked_and_ends_with_a_whole_word() -> None:
    def title(question: str) -> str:
        asked = replace(solved(), question=question)
        return str(front(writeup(files(asked)))["title"])

    assert title("We have 400 files. How do I skip some? Thanks!") == "How do I skip some?"
    long = "word " * 30
    assert title(long) == "word " * 15 + "word…"
    asked = Handed("a1", "`@retry` and `@catch`?", "web").escalation("web", ("asked",), NOW)
    assert "A question about @retry and @catch" in writeup(files(asked))


def test_nothing_that_people_wrote_is_run_by_the_sites() -> None:
    found = files()
    pages = [writeup(found), found["index.qmd"], found["slides.qmd"]]
    for text in pages:
        assert "<script>" not in text
        assert "{{<" not in text
        assert "javascript:" not in text
        assert "```{python}" not in text
        assert "\n> ::danger" not in text


@pytest.mark.parametrize("consent", ["", "refused"])
def test_without_the_askers_consent_none_of_their_words_are_quoted(consent: str) -> None:
    found = files(solved(consent=consent))
    whole = "\n".join(found.values())
    assert "churn model" not in whole
    assert "`@retry`" in writeup(found)
    assert "Put `@retry(times=3)`" in writeup(found)
    assert "none of their words stand here" in found["README.md"]


def test_a_solution_from_the_thread_is_quoted_with_the_consent_alone() -> None:
    said = replace(SOLUTION, message="1.5")
    assert "above `@step`" in writeup(files(solved(said)))
    kept = writeup(files(solved(said, consent="")))
    assert "above `@step`" not in kept
    assert "may not be quoted" in kept


def test_what_is_not_solved_yet_is_packed_with_its_gap_named() -> None:
    opened = Handed("a1", "why?", "web").escalation("web", ("asked",), NOW)
    found = trenches.package(trenches.Material(opened))
    text = writeup(found)
    assert "There is no solution yet." in text
    assert "Nothing in the sources covers it." in text
    assert front(text)["diataxis"] == "explanation"
    assert "No day is set yet." in found["session-plan.md"]


def test_sources_are_looked_for_by_the_solution_first_and_a_document_comes_once() -> None:
    retry, timeout, kubernetes = HITS
    found = {SOLUTION.text: (retry, kubernetes), QUESTION: (timeout,)}
    assert trenches.gathered(lambda text: found[text], solved()) == (retry, kubernetes)
    asked = Handed("a1", "why?", "web").escalation("web", ("asked",), NOW)
    assert trenches.gathered(lambda text: (retry,) if text == "why?" else (), asked) == (retry,)


# With a model


DRAFT = (
    "## The problem\n\nA step fails now and then.\n\n"
    "## The solution\n\nUse the decorator"
    ' [1: "Use the `@retry` decorator to run a failing step again"].'
    " See [more](https://evil.example/x).\n\n"
    "## Why it works\n\nMetaflow runs it again <b>for</b> Jordan."
)
SLIDES = "## The problem\n\n- it fails\n\n::: {.notes}\nSay it.\n:::"


@pytest.fixture
def server() -> Any:
    with OpenAIDouble() as running:
        yield running


def model(server: OpenAIDouble) -> llm.ChatModel:
    settings = Settings.model_validate(
        {"openai_api_key": server.key, "openai_base_url": server.url, "model_timeout": 5}
    )
    connected = llm.connect(settings)
    assert connected
    return connected


def answers(draft: str) -> Any:
    """The model's answer: slides for the prompt that holds an article."""
    return lambda messages: SLIDES if "into slides" in messages[0]["content"] else draft


def test_a_models_draft_is_marked_its_citations_hold_and_foreign_links_go(
    server: OpenAIDouble,
) -> None:
    server.reply(answers(DRAFT))
    found = files(model=model(server))
    text = writeup(found)
    assert "A draft by openai:gpt-5-mini" in text
    assert "no person has read it yet" in text
    assert "Use the decorator [1]" in text
    assert "1. [Dealing with Failures" in text
    assert "evil.example" not in text
    assert "Jordan" not in text
    assert "<b>" not in text
    assert "Say it." in found["slides.qmd"]


def test_the_model_is_given_facts_and_sources_without_names_and_secrets(
    server: OpenAIDouble,
) -> None:
    server.reply(answers(DRAFT))
    files(model=model(server))
    sent = str(server.requests[0]["messages"])
    assert "@retry(times=3)" in sent
    assert "minutes_between_retries" in sent
    assert KEY not in sent
    assert "Jordan" not in sent


def test_a_draft_that_quotes_an_asker_who_did_not_agree_gives_way_to_the_facts(
    server: OpenAIDouble,
) -> None:
    server.reply(answers(DRAFT + "\n\nHow do I retry a step of our churn model?"))
    text = writeup(files(solved(consent=""), model=model(server)))
    assert "churn model" not in text
    assert "the model quoted the asker" in text


def test_a_model_that_fails_leaves_the_facts_in_their_places(server: OpenAIDouble) -> None:
    server.fail(401, times=9)
    text = writeup(files(model=model(server)))
    assert "The model wrote no draft" in text
    assert "Put `@retry(times=3)`" in text


# Writing


def test_a_new_or_an_empty_folder_is_written_to(tmp_path: Path) -> None:
    trenches.write({"a/b.md": "text"}, tmp_path)
    trenches.write({"a/b.md": "text"}, tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder" / "a" / "b.md").read_text() == "text"


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    for out in (tmp_path, tmp_path / "mine"):
        with pytest.raises(UsageError, match="name a new folder"):
            trenches.write({"mine": "other"}, out)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be written"):
        trenches.write({"a": "b"}, tmp_path / "file" / "below")
