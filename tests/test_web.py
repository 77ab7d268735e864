import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from starlette.requests import HTTPConnection

from metaflowbot.bot import Vitals
from metaflowbot.domain import (
    Answer,
    Citation,
    Delta,
    Feedback,
    Hit,
    Passage,
    Progress,
    Question,
    Search,
    Usage,
)
from metaflowbot.errors import (
    IndexUnavailableError,
    ModelTimeoutError,
    NotFoundError,
    QuestionError,
    StoreError,
)
from metaflowbot.settings import Settings
from metaflowbot.store import Asking
from metaflowbot.web.access import SESSION_COOKIE, VISITOR_COOKIE, Access
from metaflowbot.web.app import build
from metaflowbot.web.pace import Pace

TOKEN = "a long token of this test"
RETRY = Passage(
    id="docs/scaling/failures.md#3",
    document_id="docs/scaling/failures.md",
    source="metaflow-docs",
    title="Dealing with Failures",
    headings=("Retrying", "How to retry"),
    url="https://docs.metaflow.org/scaling/failures#retrying-tasks-with-the-retry-decorator",
    text="Use the `@retry` decorator to retry a failed step.",
)
HIT = Hit(rank=1, score=0.9, passages=(RETRY,))
CITATION = Citation(1, RETRY.document_id, RETRY.title, RETRY.url, RETRY.text)


class Desk:
    """A bot that knows one passage and obeys what a question says."""

    def __init__(self) -> None:
        self.verdicts: dict[tuple[str, str], Feedback] = {}
        self.asked: list[tuple[Question, Asking]] = []
        self.searched: list[tuple[str, int, frozenset[str]]] = []
        self.lacking: tuple[str, ...] = ()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.left = threading.Event()

    def stream(self, question, asking):
        if not question.text.strip():
            raise QuestionError("the question is empty: write what you want to know")
        self.asked.append((question, asking))
        return self._events(question)

    def _events(self, question):
        yield Progress("searching")
        self._obey(question.text)
        yield Progress("reading", (HIT,))
        yield Delta("Use `@retry` ")
        self.may_go_on.wait(10)
        if question.text == "talk on":
            yield from self._talk_on()
        yield Delta("[1].")
        yield Progress("checking")
        yield self._answer(question.text)

    def _talk_on(self):
        try:
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline:
                yield Delta("and so on ")
        except GeneratorExit:
            self.left.set()
            raise

    def _obey(self, text):
        faults = {
            "break": RuntimeError("secret detail\nof the inside"),
            "no index": IndexUnavailableError("there is no index: run metaflowbot ingest"),
            "no database": StoreError("the database does not answer"),
            "slow model": ModelTimeoutError("the model took too long"),
        }
        if text in faults:
            raise faults[text]

    def _answer(self, text):
        return Answer(
            id="answer-1",
            question=text,
            text="Use `@retry` [1].",
            citations=(CITATION,),
            abstained=text == "the weather",
            confidence=0.82,
            model="openai:small",
            prompt_version="p1",
            generation="g-7",
            timings_ms={"retrieve": 20.0, "generate": 300.0, "total": 325.0},
            usage=Usage(900, 60, 0.0012),
        )

    def search(self, query, k=10, sources=frozenset()):
        if not 1 <= k <= 100:
            raise QuestionError("k must be from 1 to 100")
        self.searched.append((query, k, sources))
        return Search(query, (HIT,), "g-7", 12.5)

    def rate(self, feedback):
        if feedback.answer_id != "answer-1":
            raise NotFoundError(f"there is no answer {feedback.answer_id}")
        self.verdicts[feedback.answer_id, feedback.person] = feedback

    def missing(self):
        return self.lacking

    def vitals(self):
        return Vitals(self.lacking, None, None)

    def generation(self):
        return "" if self.lacking else "g-7"


@contextmanager
def served(app) -> Iterator[str]:
    """The app on a real server; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        # The socket listens already: a request made now waits until the loop accepts it.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def client_of(desk, settings=None, slack=None):
    with (
        served(build(desk, settings or Settings(), slack)) as address,
        httpx.Client(base_url=address, timeout=10, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def client(desk):
    with client_of(desk) as client:
        yield client


@pytest.fixture
def locked(desk):
    with client_of(desk, Settings(api_token=TOKEN)) as client:
        yield client


def bearer(token=TOKEN):
    return {"Authorization": f"Bearer {token}"}


def frames(text):
    """The events of a stream as (name, data)."""
    for frame in text.split("\n\n")[:-1]:
        name, data = frame.split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def ask_stream(client, question):
    headers = {"Accept": "text/event-stream"}
    return client.post("/api/ask", json={"question": question}, headers=headers)


def metric(client, line):
    """The value of one sample, None where there is none."""
    values = [
        float(row.rpartition(" ")[2])
        for row in client.get("/metrics").text.splitlines()
        if row.startswith(f"{line} ")
    ]
    return values[0] if values else None


# Health


def test_it_is_alive_without_an_index_but_not_ready_and_says_what_is_missing(client, desk):
    desk.lacking = ("an index: run metaflowbot ingest",)
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "missing": ["an index: run metaflowbot ingest"]}


def test_it_is_ready_when_nothing_is_missing_and_names_the_generation(client):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "generation": "g-7"})


# Search


def test_a_search_answers_with_ranked_hits_in_the_contracts_shape(client, desk):
    found = client.post("/api/search", json={"query": "retry", "k": 3, "sources": ["labs"]})
    assert found.json() == {
        "hits": [
            {
                "rank": 1,
                "score": 0.9,
                "source": "metaflow-docs",
                "document_id": "docs/scaling/failures.md",
                "title": "Dealing with Failures",
                "heading": "Retrying › How to retry",
                "url": RETRY.url,
                "text": RETRY.text,
            }
        ],
        "generation": "g-7",
        "took_ms": 12.5,
    }
    assert desk.searched == [("retry", 3, frozenset({"labs"}))]


def test_a_search_without_k_and_sources_asks_for_ten_of_all(client, desk):
    assert client.post("/api/search", json={"query": "retry"}).status_code == 200
    assert client.post("/api/search", json={"query": "retry", "sources": None}).status_code == 200
    assert desk.searched == [("retry", 10, frozenset())] * 2


def test_a_misspelt_source_is_refused_with_the_known_ones(client):
    answer = client.post("/api/search", json={"query": "retry", "sources": ["docs"]})
    assert answer.status_code == 422
    line = answer.json()["error"]
    assert line.startswith("sources.0: ")
    for known in ("metaflow-docs", "metaflow-api", "labs", "slack", "github"):
        assert known in line


# Asking


def test_an_answer_comes_in_the_contracts_shape(client, desk):
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    answer = client.post("/api/ask", json={"question": "How to retry?", "history": history})
    assert answer.json() == {
        "answer_id": "answer-1",
        "text": "Use `@retry` [1].",
        "citations": [
            {
                "n": 1,
                "document_id": "docs/scaling/failures.md",
                "title": "Dealing with Failures",
                "url": RETRY.url,
                "quote": RETRY.text,
            }
        ],
        "abstained": False,
        "confidence": 0.82,
        "model": "openai:small",
        "prompt_version": "p1",
        "generation": "g-7",
        "timings_ms": {"retrieve": 20.0, "generate": 300.0, "total": 325.0},
        "usage": {"input_tokens": 900, "output_tokens": 60, "cost_usd": 0.0012},
        "notice": "",
    }
    [(question, asking)] = desk.asked
    assert [(turn.role, turn.content) for turn in question.history] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]
    assert asking.person.startswith("web:")
    assert asking.channel == ""


def test_a_stream_carries_steps_pieces_and_the_same_answer_last(client):
    stream = ask_stream(client, "How to retry?")
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = list(frames(stream.text))
    assert [name for name, _ in events] == [
        "progress",
        "progress",
        "delta",
        "delta",
        "progress",
        "answer",
    ]
    assert events[0][1] == {"step": "searching", "hits": []}
    assert events[1][1]["hits"][0]["title"] == "Dealing with Failures"
    assert "".join(data["text"] for name, data in events if name == "delta") == "Use `@retry` [1]."
    assert events[-1][1] == client.post("/api/ask", json={"question": "How to retry?"}).json()


def test_a_piece_is_sent_as_soon_as_it_is_there(client, desk):
    desk.may_go_on.clear()
    headers = {"Accept": "text/event-stream"}
    with client.stream("POST", "/api/ask", json={"question": "x"}, headers=headers) as stream:
        got = ""
        for piece in stream.iter_text():
            got += piece
            if "Use `@retry`" in got:
                desk.may_go_on.set()
    assert "event: answer" in got


def test_the_bot_stops_when_the_reader_leaves_the_stream(client, desk):
    body, headers = {"question": "talk on"}, {"Accept": "text/event-stream"}
    with client.stream("POST", "/api/ask", json=body, headers=headers) as stream:
        pieces = stream.iter_text()
        while "and so on" not in next(pieces):
            pass
    assert desk.left.wait(40)


def test_a_question_the_bot_refuses_is_the_callers_mistake_streamed_or_not(client):
    for answer in (client.post("/api/ask", json={"question": " "}), ask_stream(client, " ")):
        assert answer.status_code == 422
        assert answer.json() == {"error": "the question is empty: write what you want to know"}


@pytest.mark.parametrize("question", ["no index", "no database"])
def test_what_is_down_for_a_while_is_503_with_the_remedy(client, question):
    answer = client.post("/api/ask", json={"question": question})
    assert answer.status_code == 503
    assert list(answer.json()) == ["error"]


def test_an_unforeseen_fault_gives_a_request_id_and_no_inner_detail(client, caplog):
    with caplog.at_level(logging.ERROR):
        answer = client.post("/api/ask", json={"question": "break"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]
    assert answer.headers["x-request-id"] in caplog.text
    assert "secret detail" in caplog.text


def test_a_fault_in_the_middle_of_a_stream_is_an_event_with_one_line(client):
    stream = ask_stream(client, "break")
    name, data = list(frames(stream.text))[-1]
    assert (name, data["status"]) == ("error", 500)
    assert stream.headers["x-request-id"] in data["error"]
    assert "secret" not in stream.text


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"question": ', "body: it is not valid JSON: "),
        (b"[1, 2]", "body: "),
        (b"", "body: "),
        (b'{"text": "hello"}', "question: field required"),
        (b'{"question": 7}', "question: "),
        (b'{"question": "\\ud800"}', "question: "),
        (b'{"question": "\\u0000"}', "question: "),
        (b'{"question": "x", "history": [{"role": "system", "content": "x"}]}', "history.0.role: "),
        (b'{"question": "\xff"}', "body: "),
        (b"[" * 100_000, "body: "),
    ],
)
def test_a_body_that_is_not_a_question_is_refused_with_the_field_at_fault(client, body, line):
    headers = {"Content-Type": "application/json"}
    answer = client.post("/api/ask", content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(line)
    assert "\n" not in answer.json()["error"]


def test_a_body_not_sent_as_json_is_refused(client):
    headers = {"Content-Type": "text/plain"}
    answer = client.post("/api/ask", content=b'{"question": "x"}', headers=headers)
    assert (answer.status_code, "application/json" in answer.json()["error"]) == (422, True)


def test_a_body_over_256_kib_is_refused_whether_its_length_is_announced_or_not(client, desk):
    body = json.dumps({"question": "x" * 300_000}).encode()
    headers = {"Content-Type": "application/json"}
    for content in (body, iter([body[:200_000], body[200_000:]])):
        answer = client.post("/api/ask", content=content, headers=headers)
        assert (answer.status_code, "256 KiB" in answer.json()["error"]) == (413, True)
    assert desk.asked == []


def test_what_does_not_exist_is_said_in_one_json_line(client):
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert answer.json() == {"error": "there is nothing at /nowhere"}
    answer = client.get("/api/ask")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# Feedback


def test_a_second_verdict_of_one_browser_replaces_its_first(client, desk):
    client.get("/")
    for verdict in ("up", "down"):
        body = {"verdict": verdict, "reason": "out of date"}
        answer = client.post("/api/answers/answer-1/feedback", json=body)
        assert (answer.status_code, answer.content) == (204, b"")
    [feedback] = desk.verdicts.values()
    assert (feedback.verdict, feedback.reason) == ("down", "out of date")


def test_two_browsers_are_two_people_and_callers_without_a_cookie_are_one(client, desk):
    for _ in range(2):
        client.cookies.clear()
        client.get("/")
        client.post("/api/answers/answer-1/feedback", json={"verdict": "up"})
    client.cookies.clear()
    for _ in range(2):
        client.post("/api/answers/answer-1/feedback", json={"verdict": "down"})
    assert len(desk.verdicts) == 3


def test_who_asks_and_who_rates_is_one_person_and_the_cookie_itself_is_not_stored(client, desk):
    client.post("/api/ask", json={"question": "x"})
    client.post("/api/answers/answer-1/feedback", json={"verdict": "up"})
    [(_, person)] = desk.verdicts
    assert desk.asked[0][1].person == person
    assert client.cookies[VISITOR_COOKIE] not in person


def test_feedback_on_an_unknown_answer_is_404_and_an_unknown_verdict_422(client):
    answer = client.post("/api/answers/other/feedback", json={"verdict": "up"})
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no answer other"})
    answer = client.post("/api/answers/answer-1/feedback", json={"verdict": "meh"})
    assert (answer.status_code, answer.json()["error"][:8]) == (422, "verdict:")


# Access


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/ask"),
        ("POST", "/api/search"),
        ("POST", "/api/answers/answer-1/feedback"),
        ("GET", "/api/unheard-of"),
        ("GET", "/metrics"),
        ("GET", "/dashboard"),
    ],
)
def test_with_a_token_set_every_guarded_route_wants_it(locked, method, path):
    for headers in (
        {},
        bearer("wrong"),
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
    ):
        answer = locked.request(method, path, headers=headers, content=b"{")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer" in answer.json()["error"]
    assert locked.request(method, path, headers=bearer()).status_code != 401


def test_a_forged_host_header_opens_no_guarded_route(locked):
    for host in ("x/static/?", "x/healthz#", "x/?"):
        assert locked.get("/metrics", headers={"Host": host}).status_code == 401


def test_health_readiness_and_the_sign_in_need_no_token(locked):
    for path in ("/healthz", "/readyz", "/", "/static/style.css"):
        assert locked.get(path).status_code == 200


def test_without_a_token_nothing_is_asked(client):
    assert client.get("/metrics").status_code == 200
    assert 'id="composer"' in client.get("/").text


def test_signing_in_gives_a_strict_cookie_that_is_not_the_token_and_opens_page_and_api(locked):
    assert 'id="composer"' not in locked.get("/").text
    answer = locked.post("/sign-in", data={"token": TOKEN})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert 'id="composer"' in locked.get(answer.headers["location"]).text
    assert locked.post("/api/search", json={"query": "retry"}).status_code == 200


def test_a_wrong_token_signs_nobody_in(locked):
    answer = locked.post("/sign-in", data={"token": "<b>wrong"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "not the token" in answer.text
    assert "<b>wrong" not in answer.text


@pytest.mark.parametrize("session", ["", ".", "9999999999.", "9999999999.abc", "x.y", "ÿ.ÿ"])
def test_a_made_up_session_opens_nothing(locked, session):
    cookie = f"{SESSION_COOKIE}={session}".encode()
    assert locked.get("/metrics", headers={b"Cookie": cookie}).status_code == 401


def test_a_session_ends_after_its_time_and_with_its_token():
    now = 1_000_000.0
    session = Access(TOKEN, clock=lambda: now).sign_in(TOKEN)

    def admits(access):
        headers = [(b"cookie", f"{SESSION_COOKIE}={session}".encode())]
        return access.admits(HTTPConnection({"type": "http", "path": "/", "headers": headers}))

    assert admits(Access(TOKEN, clock=lambda: now + 29 * 24 * 3600))
    assert not admits(Access(TOKEN, clock=lambda: now + 31 * 24 * 3600))
    assert not admits(Access("another token", clock=lambda: now))


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_another_sites_page_can_neither_ask_nor_rate_nor_sign_in(client, desk, headers):
    body = {"question": "x", "verdict": "up"}
    for path in ("/api/ask", "/api/answers/answer-1/feedback", "/sign-in"):
        assert client.post(path, json=body, headers=headers).status_code == 403
    assert (desk.asked, desk.verdicts) == ([], {})


def test_our_own_page_may_even_behind_a_proxy_that_renames_the_host(client):
    address = str(client.base_url).rstrip("/")
    proxied = {"Sec-Fetch-Site": "same-origin", "Origin": "https://ask.example"}
    for headers in (proxied, {"Origin": address}):
        assert client.post("/api/ask", json={"question": "x"}, headers=headers).status_code == 200


# How often


def from_afar(address="203.0.113.7", **headers):
    """The headers that a proxy on this machine sends for somebody elsewhere."""
    return {"X-Forwarded-For": address, **headers}


def test_who_asks_too_often_is_told_when_to_come_again_and_others_are_not_held_back(desk):
    with client_of(desk, Settings(limits={"address": 2})) as client:

        def ask(**headers):
            return client.post("/api/ask", json={"question": "how?"}, headers=headers)

        asked = [ask(**from_afar()) for _ in range(3)]
        assert [answer.status_code for answer in asked] == [200, 200, 429]
        assert int(asked[2].headers["Retry-After"]) in range(1, 31)
        assert "try again in" in asked[2].json()["error"]
        searched = client.post("/api/search", json={"query": "retry"}, headers=from_afar())
        assert searched.status_code == 429
        assert ask(**from_afar("203.0.113.8")).status_code == 200
        assert [ask().status_code for _ in range(4)] == [200] * 4
        assert len(desk.asked) == 7


def test_without_a_limit_nobody_is_held_back(desk):
    with client_of(desk, Settings(limits={"address": 0})) as client:
        bodies = [
            client.post("/api/search", json={"query": "a"}, headers=from_afar()) for _ in "abc"
        ]
        assert {answer.status_code for answer in bodies} == {200}


def test_who_guesses_at_the_token_is_held_back_and_who_has_it_is_not(locked):
    wrong = [locked.get("/metrics", headers=from_afar(**bearer("no"))) for _ in range(11)]
    assert [answer.status_code for answer in wrong] == [401] * 10 + [429]
    signed = locked.post("/sign-in", data={"token": TOKEN}, headers=from_afar())
    assert signed.status_code == 429
    assert locked.get("/metrics", headers=from_afar(**bearer())).status_code == 200


def test_tokens_come_back_evenly_and_one_household_is_one_caller():
    now = [0.0]
    pace = Pace(2, lambda: now[0])

    def wait(host):
        return pace.wait(HTTPConnection({"type": "http", "headers": [], "client": (host, 1)}))

    assert [wait("2001:db8::1"), wait("2001:db8::2")] == [0, 0]
    assert wait("2001:db8::3") == 30
    assert wait("2001:db8:0:1::1") == 0
    now[0] = 20
    assert wait("2001:db8::1") == pytest.approx(10)
    now[0] = 30
    assert wait("2001:db8::1") == 0
    assert [wait("127.0.0.1") for _ in range(5)] == [0] * 5
    assert [wait("::1") for _ in range(5)] == [0] * 5


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere", "/static/app.js", "/api/ask"])
def test_every_response_carries_an_id_and_the_security_headers(client, path):
    headers = client.get(path).headers
    assert headers["x-request-id"]
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_callers_request_id_is_kept_when_a_log_line_can_carry_it(client):
    def given(value):
        return client.get("/healthz", headers={"X-Request-Id": value}).headers["x-request-id"]

    assert given("trace-1.a_b") == "trace-1.a_b"
    assert given("two words") != "two words"
    assert given("x" * 65) != "x" * 65


# Slack


def test_slack_requests_reach_the_handler_as_sent_and_its_reply_goes_back(desk):
    seen = []

    def handler(body, headers):
        seen.append((body, headers["x-slack-signature"], threading.current_thread()))
        return 200, {"content-type": "text/plain", "x-slack-no-retry": "1"}, b"challenge"

    with client_of(desk, Settings(api_token=TOKEN), handler) as client:
        headers = {"X-Slack-Signature": "v0=abc"}
        answer = client.post("/slack/events", content=b"payload=%7B%7D", headers=headers)
    assert (answer.status_code, answer.text) == (200, "challenge")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-slack-no-retry"] == "1"
    assert seen[0][:2] == (b"payload=%7B%7D", "v0=abc")
    assert "AnyIO worker thread" in seen[0][2].name


def test_without_slacks_http_mode_its_route_says_which_settings_turn_it_on(client):
    answer = client.post("/slack/events", content=b"{}")
    assert answer.status_code == 404
    assert "SLACK_SIGNING_SECRET" in answer.json()["error"]


# Metrics


def test_requests_are_counted_by_route_not_by_address(client):
    for answer_id in ("answer-1", "other"):
        client.post(f"/api/answers/{answer_id}/feedback", json={"verdict": "up"})
    client.get("/wp-login.php")
    route = 'method="POST",route="/api/answers/{answer_id}/feedback"'
    assert metric(client, f'metaflowbot_http_requests_total{{{route},status="204"}}') == 1
    assert metric(client, f'metaflowbot_http_requests_total{{{route},status="404"}}') == 1
    other = 'metaflowbot_http_requests_total{method="GET",route="other",status="404"}'
    assert metric(client, other) == 1
