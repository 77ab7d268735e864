"""The maintainers' pages over HTTP: who gets in, what they show, and what a form changes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from evals import cases as datasets
from metaflowbot.record import Filter
from metaflowbot.store import Asking
from metaflowbot.web.rendering import prose, quoted
from tests.dashboard_world import HOSTILE, REASON, TOKEN, World, world
from tests.small_index import OFF_TOPIC, RETRY
from tests.test_store import an_answer

PAGES = (
    "",
    "/questions",
    "/feedback",
    "/gaps",
    "/threads",
    "/escalations",
    "/knowledge",
    "/evals",
    "/inbox",
    "/log",
)
HTML = {"Accept": "text/html"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def text_of(desk: World, page: str) -> str:
    with desk.client() as client:
        response = client.get(f"/dashboard{page}")
    assert response.status_code == 200, response.text
    return response.text


def token_in(text: str) -> str:
    found = re.search(r'name="token" value="(\w+)"', text)
    assert found
    return found[1]


def until(condition: object) -> None:
    deadline = time.monotonic() + 40
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Who gets in


@pytest.mark.parametrize("page", PAGES)
def test_each_page_comes_over_an_empty_record_and_over_a_filled_one(desk: World, page: str) -> None:
    assert "<h1>" in text_of(desk, page)
    desk.escalate(desk.ask(HOSTILE, "down", REASON))
    desk.see_threads()
    desk.give_up_on("T1/C1/1")
    text = text_of(desk, page)
    assert "<script>" not in text
    assert "onerror=alert(3)>" not in text
    assert 'href="javascript:' not in text


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("token", ["", "wrong"])
def test_without_the_right_token_there_is_a_sign_in_and_no_data(
    desk: World, page: str, token: str
) -> None:
    desk.ask("a very private question", "down", "a private reason")
    with desk.client(token) as client:
        for_a_person = client.get(f"/dashboard{page}", headers=HTML)
        for_a_program = client.get(f"/dashboard{page}")
    assert for_a_person.status_code == for_a_program.status_code == 401
    assert "Sign in" in for_a_person.text
    assert "private" not in for_a_person.text + for_a_program.text


def test_signing_in_leads_to_the_page_that_was_asked_for_and_nowhere_else(desk: World) -> None:
    with desk.client("") as client:
        shown = client.get("/dashboard/questions?text=a", headers=HTML)
        assert 'value="dashboard/questions?text=a"' in shown.text
        for wanted, target in (
            ("dashboard/questions?text=a", "./dashboard/questions?text=a"),
            ("//e.example", "./"),
            ("https://e.example", "./"),
            ("dashboard/..//e.example\\x", "./"),
        ):
            signed = client.post("/sign-in", data={"token": TOKEN, "next": wanted})
            assert (signed.status_code, signed.headers["location"]) == (303, target)
        assert client.get("/dashboard").status_code == 200


# What they show


def test_questions_are_found_by_words_outcome_verdict_model_and_day(desk: World) -> None:
    desk.ask(RETRY, "up")
    desk.ask(OFF_TOPIC, "down")
    for query, count in (
        ("", 2),
        ("?text=FAILING", 1),
        ("?text=100%25_", 0),
        ("?outcome=abstained", 1),
        ("?verdict=up", 1),
        ("?verdict=none", 0),
        ("?model=none", 2),
        ("?model=another", 0),
        ("?channel=none", 2),
        ("?channel=C9", 0),
        ("?since=2001-01-01&until=2001-02-01", 0),
        ("?since=2001-01-01", 2),
        ("?since=0001-01-01&until=9999-12-31", 2),
        ("?page=7", 2),
    ):
        assert f'\n<p class="count" role="status">{count} ' in text_of(desk, f"/questions{query}")


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "outcome=x", "verdict=x", "page=0", "page=x", "page=-1", "text=%00"],
)
def test_a_filter_that_is_none_is_refused_in_one_line(desk: World, query: str) -> None:
    with desk.client() as client:
        response = client.get(f"/dashboard/questions?{query}")
    assert response.status_code == 422
    assert 'role="alert"' in response.text


def test_one_question_is_shown_with_its_whole_trace(desk: World) -> None:
    answer_id = desk.ask(RETRY, "down", REASON)
    text = text_of(desk, f"/questions/{answer_id}")
    for words in ("Cited", "docs/scaling/failures.md", "Time, retrieve", "it is *old*", "Prompt"):
        assert words in text
    assert f"../../answers/{answer_id}" in text


def test_an_unknown_question_is_not_found_in_one_line(desk: World) -> None:
    with desk.client() as client:
        response = client.get("/dashboard/questions/nowhere")
    assert response.status_code == 404
    assert "there is no answer &#39;nowhere&#39;" in response.text


def test_gaps_are_grouped_in_the_background_and_named_by_their_words(desk: World) -> None:
    for number in range(3):
        desk.ask(f"{OFF_TOPIC} {number}")
    text_of(desk, "/gaps")
    until(lambda: not desk.parts.store.gaps.waiting())
    text = text_of(desk, "/gaps")
    assert "3 questions" in text
    assert "sourdough" in text


def test_code_and_tables_that_scroll_can_be_reached_with_the_keyboard() -> None:
    shown = prose("> ```python\n> x = '<b>'\n> ```\n\n| a |\n| - |\n| b [1] |\n\n    indented")
    assert shown.count('<pre tabindex="0"><code>') == shown.count("<pre") == 2
    assert "x = &#39;&lt;b&gt;&#39;" in shown
    assert '<div class="table" tabindex="0" role="region" aria-label="Table">\n<table>' in shown
    assert '<a class="cite" href="#source-1">1</a>' in shown
    assert "[0]" in quoted("of `x` take inputs[0]")


def test_runs_over_the_same_questions_stand_beside_each_other(desk: World) -> None:
    for name, dataset, value in (("r1", "a", 0.5), ("r2", "a", 0.75), ("r3", "b", 0.25)):
        desk.keep_eval_run(name, dataset, value)
    text = text_of(desk, "/evals")
    tables = text.split('class="compared"')[1:]
    figures = [re.findall(r">(0\.\d{3})", table.partition("</table>")[0]) for table in tables]
    assert figures == [["0.250"], ["0.750", "0.500"]]
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["b.jsonl", "a.jsonl"]
    assert "0.70 – 0.80" in text


def test_the_report_of_a_run_is_shown_where_its_script_reaches_none_of_the_pages(
    desk: World,
) -> None:
    desk.keep_eval_run("r1", "a", 0.5)
    (desk.home / "evals" / "r1.html").write_text("<h1>Report</h1>")
    with desk.client() as client:
        shown = client.get("/dashboard/evals/r1")
        others = [
            client.get(f"/dashboard/evals/{name}") for name in ("r2", "..%2Fcases", "r1.html")
        ]
    assert shown.text == "<h1>Report</h1>"
    assert shown.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert [each.status_code for each in others] == [404, 404, 404]


# What a form changes


def test_an_accepted_candidate_lands_in_the_dataset_and_in_the_log(desk: World) -> None:
    answer_id = desk.ask(RETRY, "up")
    with desk.client("") as client:
        client.post("/sign-in", data={"token": TOKEN})
        form = {"answer_id": answer_id, "question": RETRY, "kind": "question", "decision": "accept"}
        form |= {"gold": "docs/scaling/failures.md\n", "answer_points": "use @retry"}
        form["token"] = token_in(client.get("/dashboard/feedback").text)
        done = client.post("/dashboard/feedback", data=form, follow_redirects=True)
        again = client.post("/dashboard/feedback", data=form)
    assert "the case is in the dataset" in done.text
    assert again.status_code == 404
    (case,) = datasets.read(desk.home / "evals" / "cases" / "cases.jsonl").cases
    assert (case.id, case.gold) == (answer_id, (("docs/scaling/failures.md",),))
    (entry,) = desk.parts.store.record.entries()
    assert (entry.action, entry.subject) == ("accepted an eval case", answer_id)


def test_a_rejected_candidate_leaves_the_queue(desk: World) -> None:
    answer_id = desk.ask(RETRY, "up")
    with desk.client() as client:
        form = {"answer_id": answer_id, "decision": "reject"}
        assert client.post("/dashboard/feedback", data=form).status_code == 303
    assert desk.parts.store.cases.queue()[1] == 0


def test_a_case_without_a_document_is_refused_and_nothing_is_lost(desk: World) -> None:
    answer_id = desk.ask(RETRY, "up")
    with desk.client() as client:
        form = {"answer_id": answer_id, "question": "q", "kind": "question", "decision": "accept"}
        refused = client.post("/dashboard/feedback", data=form)
    assert refused.status_code == 422
    assert "there is no document" in refused.text
    assert '<textarea name="question" rows="2" required>q</textarea>' in refused.text
    assert desk.parts.store.cases.queue()[1] == 1


@pytest.mark.parametrize(
    "path",
    [
        "feedback",
        "threads",
        "escalations",
        "knowledge/activate",
        "knowledge/roll-back",
        "inbox/retry",
    ],
)
def test_a_form_of_another_browser_or_none_of_ours_changes_nothing(desk: World, path: str) -> None:
    with desk.client("") as other:
        other.post("/sign-in", data={"token": TOKEN})
        theirs = token_in(other.get("/dashboard/knowledge").text)
    with desk.client("") as client:
        client.post("/sign-in", data={"token": TOKEN})
        client.get("/dashboard")
        for token in ("", "x", theirs):
            refused = client.post(f"/dashboard/{path}", data={"token": token})
            assert refused.status_code == 403
            assert "out of date" in refused.text
    assert desk.parts.store.record.entries() == ()


def test_a_form_that_another_site_sends_is_refused(desk: World) -> None:
    with desk.client("") as client:
        client.post("/sign-in", data={"token": TOKEN})
        headers = {"Sec-Fetch-Site": "cross-site"}
        token = token_in(client.get("/dashboard/knowledge").text)
        sent = client.post("/dashboard/inbox/retry", data={"token": token}, headers=headers)
    assert sent.status_code == 403


def test_a_question_is_handed_to_people_once_by_its_reader_or_by_a_maintainer(
    desk: World,
) -> None:
    first, second = desk.ask(OFF_TOPIC), desk.ask(RETRY)
    with desk.client() as client:
        for _ in range(2):
            assert client.post(f"/api/answers/{first}/escalate").status_code == 204
        assert client.post("/api/answers/nowhere/escalate").status_code == 404
        assert client.get(f"/api/answers/{second}").json()["escalation"] is None
        done = client.post("/dashboard/escalations", data={"answer_id": second})
        assert done.headers["location"].endswith(f"dashboard/questions/{second}?done=handed")
        found = client.get(f"/api/answers/{second}").json()["escalation"]
    assert found == {"state": "open", "text": "", "url": ""}
    assert [each.answer_id for each in desk.parts.store.escalations.all()] == [first, second]
    (entry,) = desk.parts.store.record.entries()
    assert entry.action == "handed a question to people"
    assert "Handed to people" in text_of(desk, f"/questions/{second}")


def test_a_thread_is_ruled_on_and_read_again(desk: World) -> None:
    desk.see_threads()
    with desk.client() as client:
        form = {"key": "ask-metaflow/1.1", "verdict": "approved"}
        assert client.post("/dashboard/threads", data=form).status_code == 303
        unknown = client.post("/dashboard/threads", data={**form, "key": "nowhere/1"})
        odd = client.post("/dashboard/threads", data={**form, "verdict": "liked"})
    assert (unknown.status_code, odd.status_code) == (404, 422)
    assert desk.parts.store.threads.reviews()["ask-metaflow/1.1"].verdict == "approved"
    assert [change.thread for change in desk.parts.store.threads.changes()] == ["1.1"]


def test_another_generation_is_served_and_one_that_is_gone_is_not_found(desk: World) -> None:
    index = desk.parts.index
    newest = index.active_id()
    with desk.client() as client:
        back = client.post("/dashboard/knowledge/roll-back", data={"active": newest})
        assert back.status_code == 303
        assert index.active_id() != newest
        stale = client.post("/dashboard/knowledge/roll-back", data={"active": newest})
        assert stale.status_code == 403
        client.post("/dashboard/knowledge/activate", data={"id": newest})
        gone = client.post("/dashboard/knowledge/activate", data={"id": "../../x"})
    assert (index.active_id(), gone.status_code) == (newest, 404)


def test_what_was_given_up_on_is_tried_again(desk: World) -> None:
    desk.give_up_on("T1/C1/1")
    assert "T1/C1/1" in text_of(desk, "/inbox")
    with desk.client() as client:
        assert client.post("/dashboard/inbox/retry", data={"key": "nowhere"}).status_code == 404
        assert client.post("/dashboard/inbox/retry", data={"key": "T1/C1/1"}).status_code == 303
    assert desk.parts.store.health().dead == 0


# A shared answer


def test_an_answer_of_the_page_is_shared_and_one_of_a_private_channel_never(desk: World) -> None:
    answer_id = desk.ask(RETRY)
    desk.parts.store.save_answer(an_answer("private"), Asking("slack:U1", "C7", "1.0", "1.0"))
    with desk.client() as client:
        assert client.get(f"/api/answers/{answer_id}").json()["question"] == RETRY
        assert client.get(f"/answers/{answer_id}").status_code == 200
        for unknown in ("private", "nowhere"):
            assert client.get(f"/api/answers/{unknown}").status_code == 404
            page = client.get(f"/answers/{unknown}")
            assert page.status_code == 404
            assert "can&#39;t be shared" in page.text
    with desk.client("") as client:
        assert client.get(f"/api/answers/{answer_id}").status_code == 401


def test_the_log_is_a_page_that_names_nobody(desk: World) -> None:
    answer_id = desk.ask(RETRY, "up")
    with desk.client() as client:
        client.post("/dashboard/feedback", data={"answer_id": answer_id, "decision": "reject"})
    text = text_of(desk, "/log")
    assert "rejected an eval case" in text
    assert "web:" not in text
    assert desk.parts.store.record.page(Filter()).total == 1


def test_pages_are_not_kept_by_a_browser_and_run_no_inline_script(desk: World) -> None:
    with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        response = client.get(f"{desk.address}/dashboard")
    assert response.headers["cache-control"] == "no-store"
    assert "style=" not in response.text
