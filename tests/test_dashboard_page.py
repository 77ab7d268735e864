"""The maintainers' pages in a real Chromium: with a phone's width, with the keyboard, with axe."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from metaflowbot.escalation import Solution
from tests.dashboard_world import HOSTILE, REASON, TOKEN, World, world
from tests.small_index import OFF_TOPIC, RETRY
from tests.test_web_page import ARGUMENTS, CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on the PATH"),
]
PAGES = (
    "",
    "questions",
    "gaps",
    "feedback",
    "threads",
    "escalations",
    "knowledge",
    "evals",
    "inbox",
    "log",
)
# `npm pack axe-core` leaves it there; see .ci/run.
AXE = sorted((Path(__file__).parent.parent / "build").glob("axe-core-*.tgz"))

_FIELDS_FIT = """[...document.querySelectorAll("form :is(input, select, textarea, button)")].every(
    (it) => it.getBoundingClientRect().right <= it.form.getBoundingClientRect().right + 1)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        expect.set_options(timeout=40_000)  # ms, for machines that are busy
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With a few hundred questions that were asked through the API."""
    with world(tmp_path_factory.mktemp("desk") / "home") as made:
        made.ask_many(250)
        made.ask(OFF_TOPIC)
        made.ask(OFF_TOPIC)
        made.escalate(made.ask(HOSTILE, "down", REASON))
        made.see_threads()
        made.give_up_on("T1/C1/1")
        made.keep_eval_run("r1", "a", 0.5)
        made.keep_eval_run("r2", "a", 0.75)
        yield made


@pytest.fixture(params=[1280, 390])
def page(chromium: Browser, desk: World, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Signed in, at a desk's and at a phone's width; whatever a script says ends the test."""
    context = chromium.new_context(viewport={"width": request.param, "height": 844})
    made = context.new_page()
    made.set_default_timeout(40_000)
    made.on("dialog", lambda dialog: pytest.fail(dialog.message))
    made.goto(f"{desk.address}/dashboard")
    made.get_by_label("The API token of this server").fill(TOKEN)
    made.keyboard.press("Enter")
    expect(made.get_by_role("heading", name="Overview")).to_be_visible()
    yield made
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_each_page_fits_its_window_and_asks_nobody_else_for_anything(
    page: Page, desk: World, name: str
) -> None:
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{desk.address}/dashboard/{name}".rstrip("/"))
    expect(page.locator("h1")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(_FIELDS_FIT)
    assert all(url.startswith(desk.address) for url in urls)


def test_questions_are_searched_and_one_of_them_is_opened(page: Page) -> None:
    page.get_by_role("link", name="Questions", exact=True).click()
    page.get_by_label("Words in the question").fill("alert(1)")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("1 question", exact=True)).to_be_visible()
    page.get_by_role("link", name="why?").click()
    expect(page.locator(".asked")).to_have_text(HOSTILE)
    expect(page.locator("blockquote", has_text="it is *old*")).to_have_text(REASON)
    expect(page.locator("main img, main script, main [href^='javascript:']")).to_have_count(0)


def test_a_candidate_is_edited_and_accepted_with_the_keyboard_alone(
    page: Page, desk: World
) -> None:
    answer_id = desk.ask(f"{RETRY} {page.viewport_size}", "up")
    page.goto(f"{desk.address}/dashboard/feedback")
    first = page.locator(".case").first
    first.locator(".edit summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("How do I retry?")
    expect(first.get_by_label("Documents that answer it")).to_be_visible()
    first.get_by_role("button", name="Accept").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("the case is in the dataset")).to_be_visible()
    dataset = (desk.home / "evals" / "cases" / "cases.jsonl").read_text()
    assert f'"id": "{answer_id}", "question": "How do I retry?"' in dataset


def test_a_picture_says_its_figures_in_words_and_as_a_table(page: Page) -> None:
    expect(page.get_by_role("img", name="Questions from")).to_be_visible()
    page.get_by_text("As a table").first.click()
    expect(page.get_by_role("columnheader", name="abstained").first).to_be_visible()


def test_a_shared_answer_opens_and_the_conversation_goes_on(page: Page, desk: World) -> None:
    answer_id = desk.ask(RETRY)
    page.goto(f"{desk.address}/answers/{answer_id}")
    expect(page.locator(".question")).to_have_text(RETRY)
    expect(page.locator(".sources li").first).to_be_visible()
    page.get_by_role("button", name="Helpful", exact=True).click()
    expect(page.get_by_text("Thank you")).to_be_visible()
    page.get_by_label("Your question").fill("And on Kubernetes?")
    page.keyboard.press("Enter")
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.locator("footer").last).to_be_visible()


def test_who_finds_nothing_asks_a_human_whose_answer_stands_behind_the_same_link(
    page: Page, desk: World
) -> None:
    question = f"{OFF_TOPIC} {page.viewport_size}"
    page.goto(desk.address)
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Ask a human").click()
    expect(page.get_by_text("A maintainer will look at it")).to_be_visible()
    store, bot = desk.parts.store, desk.parts.bot
    escalation = next(it for it in store.escalations.all() if it.question == question)
    page.goto(f"{desk.address}/answers/{escalation.answer_id}")
    expect(page.get_by_text("A maintainer will look at it")).to_be_visible()
    expect(page.get_by_role("button", name="Ask a human")).to_be_hidden()
    bot.claim(escalation.id, "cli:max")
    bot.solve(escalation.id, Solution("Feed it <b>daily</b>: `flour`."), "cli:max")
    page.reload()
    expect(page.get_by_role("heading", name="A maintainer answered")).to_be_visible()
    expect(page.locator(".human-answer .prose")).to_have_text("Feed it <b>daily</b>: flour.")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_a_shared_answer_fits_its_window_and_wide_ones_have_sources_beside_it(
    chromium: Browser, desk: World, width: int
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 844})
    context.set_extra_http_headers({"Authorization": f"Bearer {TOKEN}"})
    page = context.new_page()
    page.goto(f"{desk.address}/answers/{desk.ask(RETRY)}")
    sources, text = (page.locator(".sources"), page.locator("[data-part=text]"))
    expect(sources).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    beside, beneath = sources.bounding_box(), text.bounding_box()
    assert beside and beneath
    assert (beside["x"] >= beneath["x"] + beneath["width"]) == (width == 1280)
    context.close()


def test_a_link_to_an_answer_is_copied(chromium: Browser, desk: World) -> None:
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    context.set_extra_http_headers({"Authorization": f"Bearer {TOKEN}"})
    page.goto(f"{desk.address}/answers/{desk.ask(RETRY)}")
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == page.url
    context.close()


@pytest.mark.skipif(not AXE, reason="there is no build/axe-core-*.tgz: npm pack axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_on_any_page(page: Page, desk: World, scheme: Any) -> None:
    with tarfile.open(AXE[-1]) as package:
        file = package.extractfile("package/axe.min.js")
        assert file
        axe = file.read().decode()
    page.emulate_media(color_scheme=scheme)
    question = desk.parts.store.escalations.all()[0].answer_id
    shared = desk.ask(RETRY)
    pages = [f"dashboard/{name}".rstrip("/") for name in PAGES]
    for path in (*pages, f"dashboard/questions/{question}", f"answers/{shared}"):
        page.goto(f"{desk.address}/{path}")
        page.evaluate("document.querySelectorAll('details').forEach((it) => (it.open = true))")
        if path.startswith("answers"):
            expect(page.locator("footer")).to_be_visible()
        page.evaluate(axe)
        found = page.evaluate("axe.run().then((it) => it.violations)")
        faults = [(it["id"], node["html"][:120]) for it in found for node in it["nodes"]]
        assert faults == [], path
