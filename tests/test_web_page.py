"""The page in a real Chromium."""

import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright
from test_web import TOKEN, Desk, served

from metaflowbot.domain import Answer, Citation, Delta, Hit, Passage, Progress, Usage
from metaflowbot.errors import StoreError
from metaflowbot.settings import Settings
from metaflowbot.web.app import build

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on the PATH"),
]

FAILURES = "https://docs.metaflow.org/scaling/failures"
QUOTE = "Use the `@retry` decorator to retry a failed step."
PASSAGE = Passage(
    "docs/failures.md#0", "docs/failures.md", "metaflow-docs", "Failures", (), FAILURES, QUOTE
)
CITATIONS = (
    Citation(1, "docs/failures.md", "Dealing with Failures", FAILURES, QUOTE),
    Citation(2, "slack:ask/1.2", "A thread", "javascript:alert(1)", "Set `times=0`."),
)
WIDE = "x = " + "'wide' + " * 40 + "''"
TEXTS = {
    "retry": "Use `@retry` [1]. Not with side effects [2].",
    "hostile": "<img src=x onerror=alert(1)> [click](javascript:alert(1)) ![a](https://e.example/p)",
    "wide": f"```python\n{WIDE}\n```\n\n| {'a | ' * 30}\n| {'- | ' * 30}\n| {'cell | ' * 30}\n",
    "weather": "The sources do not cover this. The nearest page is [1].",
}


class Writer(Desk):
    """A bot that answers by the question's word, and waits between the pieces when told to."""

    def __init__(self):
        super().__init__()
        self.faults = []

    def _events(self, question):
        if self.faults:
            raise self.faults.pop()
        text = TEXTS.get(question.text, TEXTS["retry"])
        yield Progress("searching")
        yield Progress("reading", (Hit(1, 0.9, (PASSAGE,)),))
        yield Delta(text[:12])
        self.may_go_on.wait(40)
        yield Delta(text[12:])
        yield Progress("checking")
        yield self._written(question.text, text)

    def _written(self, question, text):
        return Answer(
            id="answer-1",
            question=question,
            text=text,
            citations=CITATIONS,
            abstained=question == "weather",
            confidence=0.82,
            model="openai:small",
            prompt_version="p1",
            generation="g-7",
            timings_ms={"retrieve": 20.0, "generate": 1300.0, "total": 1325.0},
            usage=Usage(900, 60, 0.0012),
        )


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        expect.set_options(timeout=40_000)  # ms, for machines that are busy
        yield browser
        browser.close()


@pytest.fixture
def bot():
    return Writer()


@pytest.fixture
def address(bot):
    with served(build(bot, Settings())) as address:
        yield address
        bot.may_go_on.set()


@contextmanager
def opened(chromium, address, **options):
    context = chromium.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(40_000)
    page.goto(address)
    yield page
    context.close()


@pytest.fixture
def page(chromium, address):
    with opened(chromium, address) as page:
        yield page


def ask(page, question):
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


def answered(page, question="retry"):
    ask(page, question)
    turn = page.locator(".turn").last
    expect(turn.locator("footer")).to_be_visible()
    return turn


def test_an_answer_is_shown_as_it_is_written_with_its_steps(page, bot):
    bot.may_go_on.clear()
    ask(page, "How do I retry?")
    turn = page.locator(".turn")
    expect(turn.get_by_role("heading", level=2)).to_have_text("How do I retry?")
    expect(turn.locator(".steps .now")).to_have_text("Reading 1 page")
    expect(turn.locator(".prose")).to_have_text("Use @retry")
    expect(turn.locator(".prose")).to_have_attribute("aria-busy", "true")
    bot.may_go_on.set()
    expect(turn.locator("footer")).to_be_visible()
    expect(turn.locator(".steps")).to_be_hidden()
    expect(turn.locator(".prose")).to_have_attribute("aria-busy", "false")


def test_the_line_below_an_answer_tells_confidence_model_index_and_times(page):
    facts = answered(page).locator(".facts")
    expect(facts).to_have_text(
        "Confidence 82%openai:smallIndex g-71.3 s (search 20 ms, writing 1.3 s)"
    )


def test_a_citation_opens_its_page_and_shows_its_quote_under_the_pointer(page):
    turn = answered(page)
    cite = turn.get_by_role("link", name="Source 1: Dealing with Failures")
    assert cite.get_attribute("href") == FAILURES
    assert cite.get_attribute("rel") == "noopener noreferrer"
    cite.hover()
    expect(page.get_by_role("note")).to_contain_text("Use the @retry decorator")
    page.get_by_role("note").hover()
    expect(page.get_by_role("note")).to_be_visible()
    page.mouse.move(1, 1)
    expect(page.get_by_role("note")).to_be_hidden()


def test_a_citation_shows_its_quote_to_the_keyboard_and_escape_puts_it_away(page):
    turn = answered(page)
    page.keyboard.press("Shift+Tab")  # from the question box into the end of the answer
    cite = turn.get_by_role("link", name="Source 1: Dealing with Failures")
    while not cite.evaluate("node => node === document.activeElement"):
        page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("note")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("note")).to_be_hidden()


def test_a_finger_gets_the_quote_instead_of_leaving_the_page(chromium, address):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with opened(chromium, address, **phone) as page:
        turn = answered(page)
        turn.get_by_role("link", name="Source 1: Dealing with Failures").tap()
        expect(page.get_by_role("note")).to_contain_text("Use the @retry decorator")
        assert len(page.context.pages) == 1
        page.get_by_role("heading", level=2).tap()
        expect(page.get_by_role("note")).to_be_hidden()


def test_sources_are_listed_and_one_without_a_web_address_is_no_link(page):
    sources = answered(page).locator(".sources li")
    expect(sources).to_have_count(2)
    expect(sources.first).to_contain_text("docs.metaflow.org")
    expect(sources.first).to_contain_text("Use the @retry decorator")
    expect(sources.last.get_by_role("link")).to_have_count(0)


def test_a_follow_up_sends_the_conversation_so_far_and_a_new_one_starts_empty(page, bot):
    answered(page, "retry")
    answered(page, "And twice?")
    assert [turn.content for turn in bot.asked[1][0].history] == ["retry", TEXTS["retry"]]
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    answered(page, "retry")
    assert bot.asked[2][0].history == ()


def test_enter_asks_and_shift_enter_starts_a_line(page, bot):
    page.get_by_label("Your question").fill("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(page.locator("footer")).to_be_visible()
    assert bot.asked[0][0].text == "one\ntwo"


def test_an_example_asks_itself(page, bot):
    page.get_by_role("button", name="How do I retry a step").click()
    expect(page.locator("footer")).to_be_visible()
    assert bot.asked[0][0].text == "How do I retry a step that sometimes fails?"


def test_an_abstention_says_that_nothing_was_found_and_lists_the_nearest_pages(page):
    turn = answered(page, "weather")
    expect(turn.get_by_text("Not found in the sources").last).to_be_visible()
    expect(turn.get_by_role("heading", name="Nearest pages")).to_be_visible()
    expect(answered(page, "retry").locator(".absent")).to_be_hidden()


def test_nothing_in_an_answer_runs_loads_or_leads_to_a_script(page):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    prose = answered(page, "hostile").locator(".prose")
    expect(prose).to_contain_text("<img src=x onerror=alert(1)> click a")
    expect(prose.locator("img, script, [href^='javascript:']")).to_have_count(0)
    assert all("e.example" not in url for url in requests)


def test_the_page_asks_nobody_else_for_anything(chromium, address):
    context = chromium.new_context()
    page = context.new_page()
    urls, said = [], []
    page.on("request", lambda request: urls.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    answered(page)
    assert urls
    assert all(url.startswith(address) for url in urls)
    assert said == []
    context.close()


def test_a_thumb_down_is_stored_at_once_and_its_reason_added(page, bot):
    turn = answered(page)
    down = turn.get_by_role("button", name="Not helpful")
    down.click()
    expect(down).to_have_attribute("aria-pressed", "true")
    turn.get_by_label("What was wrong with it?").fill("It is out of date")
    turn.get_by_role("button", name="Send").click()
    expect(turn.locator(".reason")).to_be_hidden()
    [feedback] = bot.verdicts.values()
    assert (feedback.verdict, feedback.reason) == ("down", "It is out of date")


def test_a_thumb_up_asks_no_reason(page, bot):
    turn = answered(page)
    turn.get_by_role("button", name="Helpful", exact=True).click()
    expect(turn.get_by_text("Thank you")).to_be_visible()
    expect(turn.locator(".reason")).to_be_hidden()
    assert [feedback.verdict for feedback in bot.verdicts.values()] == ["up"]


def test_a_fault_is_one_line_and_trying_again_asks_again(page, bot):
    bot.faults = [StoreError("the database does not answer")]
    ask(page, "retry")
    expect(page.get_by_role("alert").first).to_contain_text("the database does not answer")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("footer")).to_be_visible()
    expect(page.locator(".turn")).to_have_count(1)


def test_a_server_that_is_gone_is_said_in_one_line(page):
    page.route("**/api/ask", lambda route: route.abort())
    ask(page, "retry")
    expect(page.get_by_role("alert").first).to_contain_text("can’t be reached")


def test_a_running_answer_can_be_stopped_and_keeps_what_is_there(page, bot):
    bot.may_go_on.clear()
    ask(page, "retry")
    expect(page.locator(".prose")).to_have_text("Use @retry")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped before the end.")).to_be_visible()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    expect(page.locator(".prose")).to_have_text("Use @retry")


@pytest.mark.parametrize("width", [390, 1280])
def test_wide_code_and_tables_scroll_inside_the_page(chromium, address, width):
    with opened(chromium, address, viewport={"width": width, "height": 844}) as page:
        answered(page, "wide")
        root = page.locator("html")
        assert root.evaluate("node => node.scrollWidth <= node.clientWidth")
        assert page.locator(".code pre").evaluate("node => node.scrollWidth > node.clientWidth")


def test_code_is_copied_without_its_fence(chromium, address):
    with opened(chromium, address, permissions=["clipboard-read", "clipboard-write"]) as page:
        turn = answered(page, "wide")
        turn.get_by_role("button", name="Copy").click()
        expect(turn.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("() => navigator.clipboard.readText()") == WIDE


def test_the_page_is_dark_where_the_reader_prefers_it(chromium, address):
    papers = set()
    for scheme in ("light", "dark"):
        with opened(chromium, address, color_scheme=scheme) as page:
            body = page.locator("body")
            papers.add(body.evaluate("node => getComputedStyle(node).backgroundColor"))
    assert len(papers) == 2


def test_without_scripts_the_page_says_what_it_needs(chromium, address):
    with opened(chromium, address, java_script_enabled=False) as page:
        expect(page.get_by_text("This page needs JavaScript")).to_be_visible()
        expect(page.locator("#composer")).to_be_hidden()


@pytest.fixture
def locked(bot):
    with served(build(bot, Settings(api_token=TOKEN))) as address:
        yield address


def test_a_locked_page_opens_with_the_token_and_then_asks(chromium, locked):
    with opened(chromium, locked) as page:
        page.get_by_label("The API token of this server").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That is not the token of this server.")
        page.get_by_label("The API token of this server").fill(TOKEN)
        page.keyboard.press("Enter")
        answered(page)
        page.context.clear_cookies()
        ask(page, "again")
        expect(page.get_by_role("alert").last).to_contain_text("Your sign-in has ended")


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("", ""),
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        ("# A\n### `b`", "<h3>A</h3><h5><code>b</code></h5>"),
        ("**a *b* c** ~~d~~ _e_", "<p><strong>a <em>b</em> c</strong> <del>d</del> <em>e</em></p>"),
        ("snake_case_name and __init__", "<p>snake_case_name and __init__</p>"),
        ("2 * 3 * 4 and a ** b", "<p>2 * 3 * 4 and a ** b</p>"),
        ("``a ` b`` \\*no\\*", "<p><code>a ` b</code> *no*</p>"),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("- a\n\n  b\n- c", "<ul><li><p>a</p><p>b</p></li><li>c</li></ul>"),
        ("> a\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"),
        ("a\n\n---\nb", "<p>a</p><hr><p>b</p>"),
        ("a  \nb", "<p>a<br>b</p>"),
        ("[1] [9]", "<p><cite>1</cite> [9]</p>"),
        ("`x[1]`", "<p><code>x[1]</code></p>"),
        ("[a](ftp://x.example)", "<p>a</p>"),
        ("a & <b>", "<p>a &amp; &lt;b&gt;</p>"),
    ],
)
def test_markdown_becomes_the_html_it_means(page, markdown, html):
    assert rendered(page, markdown) == html


def test_a_table_keeps_its_cells_and_escaped_bars(page):
    html = rendered(page, "| a | b |\n| --- | :-: |\n| `c \\| d` | [1] |\n")
    assert "<th>a</th><th>b</th>" in html
    assert "<td><code>c | d</code></td><td><cite>1</cite></td>" in html


def test_a_fence_still_open_shows_its_code_so_far_and_keeps_indentation(page):
    html = rendered(page, "1. a\n   ```text\n   b\n     c")
    assert '<pre tabindex="0"><code>b\n  c</code></pre>' in html
    assert html.startswith("<ol><li>a<figure")


def test_an_address_in_the_text_is_a_link_without_the_full_stop_after_it(page):
    html = rendered(page, "See https://docs.metaflow.org/a_b_c. Or [x](https://e.example/(y)).")
    assert 'href="https://docs.metaflow.org/a_b_c"' in html
    assert 'href="https://e.example/(y)"' in html
    assert ">x</a>." in html


@pytest.mark.parametrize("piece", ["`", "*", "[", "> ", "- ", "  ", "|-", "~~~", "![", "_a ", "("])
def test_no_text_holds_the_page_up(page, piece):
    page.set_default_timeout(3000)
    assert rendered(page, piece * 4000) is not None


def rendered(page, markdown):
    return page.evaluate(
        """async (markdown) => {
            const { element, render } = await import("./static/markdown.js");
            const cite = (n) => (n === 1 ? element("cite", {}, String(n)) : null);
            return element("div", {}, render(markdown, cite)).innerHTML;
        }""",
        markdown,
    )
