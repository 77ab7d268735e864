"""The HTTP routes under requests made up from the API's own document, and under anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from metaflowbot.bootstrap import Parts
from metaflowbot.domain import Question
from metaflowbot.index import Index
from metaflowbot.settings import Settings
from metaflowbot.store import Asking, Store
from metaflowbot.web.app import build
from tests.fuzz.harm import TEXTS, fuzzed
from tests.small_index import RETRY
from tests.test_web import served
from tests.trenches_scene import a_bot

WITH_BODY = ["/api/search", "/api/ask", "/api/answers/{answer_id}/feedback"]
WITHOUT = ["/api/answers/{answer_id}", "/api/answers/{answer_id}/escalate"]
PAGES = ["", "/questions", "/questions/{}", "/gaps", "/feedback", "/threads", "/escalations"]
PAGES += ["/evals", "/knowledge", "/inbox", "/log"]
FORMS = ["/feedback", "/threads", "/knowledge/activate", "/knowledge/roll-back", "/inbox/retry"]
FIELDS = ["q", "page", "show", "outcome", "verdict", "model", "since", "until", "source", "surface"]
FIELDS += ["token", "answer_id", "decision", "question", "kind", "gold", "key", "id", "active"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real bot behind a real server."""
    home = tmp_path_factory.mktemp("home")
    store = Store.open(f"sqlite:///{home}/bot.db")
    parts = Parts(a_bot(home, store), store, Index(home))
    parts.bot.ask(Question(RETRY), Asking("web:1"))
    with served(build(parts.bot, Settings(home=home), parts=parts)) as address:
        yield address
    store.close()


@pytest.fixture(scope="module")
def api(address: str) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{address}/api/openapi.json")


@pytest.mark.parametrize("route", WITH_BODY + WITHOUT)
def test_a_right_request_gets_what_the_document_says(api: BaseSchema, route: str) -> None:
    check(api[route], GenerationMode.POSITIVE)


@pytest.mark.parametrize("route", WITH_BODY)
def test_a_wrong_request_is_refused_as_the_document_says(api: BaseSchema, route: str) -> None:
    check(api[route], GenerationMode.NEGATIVE)


def check(methods: Mapping[str, Any], mode: GenerationMode) -> None:
    for operation in methods.values():

        @fuzzed
        @given(operation.as_strategy(generation_mode=mode))
        def send(case: Case) -> None:
            answer = case.call()
            assert "Traceback" not in answer.text
            # A blank question is a string as well, and so are NUL characters.
            case.validate_response(answer, excluded_checks=[positive_data_acceptance])

        send()


def test_the_document_lists_every_route_of_the_api(api: BaseSchema) -> None:
    assert sorted(api) == sorted(WITH_BODY + WITHOUT)


def test_pages_and_forms_take_anything_without_a_fault_of_ours(address: str) -> None:
    fields = st.dictionaries(st.sampled_from(FIELDS) | TEXTS, TEXTS, max_size=4)
    words = st.sampled_from(["a1", "..", "%00", "%ff", "%2e%2e", "0", "-1", "x" * 300])
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:

        @fuzzed
        @given(page=st.sampled_from(PAGES), query=fields, word=words)
        def read(page: str, query: dict[str, str], word: str) -> None:
            answer = client.get("/dashboard" + page.format(word), params=sendable(query))
            assert answer.status_code < 500, answer.text
            assert "Traceback" not in answer.text

        @fuzzed
        @given(form=st.sampled_from(FORMS), data=st.binary(max_size=200) | fields)
        def write(form: str, data: bytes | dict[str, str]) -> None:
            given = {"content": data} if isinstance(data, bytes) else {"data": sendable(data)}
            answer = client.post(f"/dashboard{form}", **given)
            assert 400 <= answer.status_code < 500, answer.text
            assert "Traceback" not in answer.text

        read()
        write()


def sendable(fields: dict[str, str]) -> dict[str, str]:
    """What a client can put on the wire."""
    return {
        name.encode(errors="replace").decode(): text.encode(errors="replace").decode()[:2000]
        for name, text in fields.items()
    }
