"""Answers rest on passages: quoted, cited, verified, or else the bot says that it has none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from metaflowbot import llm, prompts
from metaflowbot.answer import Answerer, fell_short
from metaflowbot.domain import Answer, Delta, Progress, Question, Turn
from metaflowbot.judgement import answer_from
from metaflowbot.retrieve import Retriever
from metaflowbot.settings import Settings
from tests.openai_double import OpenAIDouble
from tests.small_index import OFF_TOPIC, PASSAGES, RETRY

pytest_plugins = ["tests.prebuilt"]

QUOTE = "run a failing step again"
CITED = f'Use the `@retry` decorator to run a failing step again [1: "{QUOTE}"].'


@pytest.fixture
def server() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as running:
        yield running


@pytest.fixture
def keyless(retriever: Retriever) -> Answerer:
    return Answerer(retriever, None, prompts.load("answer", "sources"))


Connect = Callable[..., Answerer]


@pytest.fixture
def connect(retriever: Retriever, server: OpenAIDouble) -> Connect:
    """An answerer whose model is the server, with the key and time limit that a test wants."""

    def connected(key: str = "", timeout: float = 5.0) -> Answerer:
        values = {
            "openai_api_key": key or server.key,
            "openai_base_url": server.url,
            "model_timeout": timeout,
        }
        model = llm.connect(Settings.model_validate(values))
        return Answerer(retriever, model, prompts.load("answer", "sources"))

    return connected


def asked(answerer: Answerer, question: str | Question) -> Answer:
    """The answer, after the promises that hold for every one of them were checked."""
    given = question if isinstance(question, Question) else Question(question)
    *before, answer = answerer.stream(given)
    assert isinstance(answer, Answer)
    assert [event.step for event in before if isinstance(event, Progress)][:2] == [
        "searching",
        "reading",
    ]
    shown = "".join(event.text for event in before if isinstance(event, Delta))
    assert shown in ("", answer.text)
    assert answer.question == given.text
    assert answer.text.strip() == answer.text != ""
    assert 0 <= answer.confidence <= 1
    assert answer.timings_ms.keys() == {"retrieve", "generate", "total"}
    assert "\n" not in answer.notice
    _check_citations(answer)
    return answer


def _check_citations(answer: Answer) -> None:
    numbers = [citation.n for citation in answer.citations]
    assert numbers == list(range(1, len(numbers) + 1))
    outside_code = re.sub(r"```.*?```|`[^`]*`", "", answer.text, flags=re.S)
    assert {int(n) for n in re.findall(r"\[(\d+)\]", outside_code)} == set(numbers)
    for citation in answer.citations:
        texts = [p.text for p in PASSAGES if p.document_id == citation.document_id]
        assert citation.quote
        assert any(citation.quote in text for text in texts), citation
        assert citation.url in {p.url for p in PASSAGES if p.document_id == citation.document_id}


# Without a model


def test_without_a_model_the_passages_answer_with_their_code(keyless: Answerer) -> None:
    answer = asked(keyless, RETRY)
    assert not answer.abstained
    assert answer.model == "none"
    assert answer.citations[0].document_id == "docs/scaling/failures.md"
    assert "> @retry(times=3, minutes_between_retries=5)" in answer.text
    assert answer.confidence >= answer_from()


def test_without_a_model_nothing_is_spent_and_nothing_fell_short(keyless: Answerer) -> None:
    answer = asked(keyless, RETRY)
    assert (answer.usage.input_tokens, answer.usage.cost_usd, answer.notice) == (0, 0.0, "")


def test_the_quote_is_the_sentence_that_is_nearest_to_the_question(keyless: Answerer) -> None:
    answer = asked(keyless, "How do I set the delay between two attempts of a failing step?")
    assert any("set the delay between two attempts" in c.quote for c in answer.citations)


@pytest.mark.parametrize("passage", PASSAGES, ids=lambda passage: passage.id)
def test_every_passage_can_be_quoted_and_cited(keyless: Answerer, passage: object) -> None:
    asked(keyless, getattr(passage, "text", ""))


@pytest.mark.parametrize(
    "question",
    [OFF_TOPIC, "Who won the football match yesterday?", "asdf qwer", "?", "42"],
)
def test_off_topic_the_bot_abstains_and_names_the_nearest_pages(
    keyless: Answerer, question: str
) -> None:
    answer = asked(keyless, question)
    assert answer.abstained
    assert 1 <= len(answer.citations) <= 3
    assert all(citation.url in answer.text for citation in answer.citations)
    assert "escalate" in answer.text
    assert answer.confidence < answer_from()


def test_a_question_about_a_name_that_does_not_exist_is_answered_with_just_that(
    keyless: Answerer,
) -> None:
    answer = asked(keyless, "how do I retry on another node with @gpu_pool?")
    assert answer.abstained
    assert answer.text.startswith("`@gpu_pool` does not exist in Metaflow 2.")
    assert "the nearest that does: `@" in answer.text
    assert "(gpu=" in answer.text


def test_without_anything_to_search_the_bot_abstains(keyless: Answerer) -> None:
    answer = asked(keyless, Question(RETRY, sources=frozenset({"nosuch"})))
    assert answer.abstained
    assert (answer.citations, answer.confidence) == ((), 0.0)


@pytest.mark.parametrize(
    "question",
    [
        "Wie wiederhole ich einen fehlgeschlagenen Schritt mit Verzögerung?",
        "Как повторить шаг потока снова?",
    ],
)
def test_a_question_in_another_language_is_told_to_ask_in_english(
    keyless: Answerer, question: str
) -> None:
    answer = asked(keyless, question)
    assert not answer.abstained or "please ask in English" in answer.text


def test_each_answer_has_an_id_of_its_own_and_says_where_it_comes_from(
    keyless: Answerer,
) -> None:
    one, other = asked(keyless, RETRY), asked(keyless, RETRY)
    assert one.id != other.id
    assert one.generation == keyless.retriever.generation.id
    assert one.prompt_version == keyless.prompt_version


# With a model


def test_a_foreign_question_that_the_model_fails_is_not_told_a_falsehood(
    server: OpenAIDouble, connect: Connect
) -> None:
    server.fail(500, times=9, retry_after=0.01)
    answer = asked(connect(), "Как повторить шаг потока снова?")
    assert "Without a chat model" in answer.text
    assert "500" in answer.notice


def test_a_models_cited_sentence_reaches_the_reader_with_its_quote(
    server: OpenAIDouble, connect: Connect
) -> None:
    server.reply(CITED, usage=(900, 20))
    answer = asked(connect(), RETRY)
    assert answer.text == "Use the `@retry` decorator to run a failing step again [1]."
    assert [citation.quote for citation in answer.citations] == [QUOTE + "."]
    assert (answer.model, answer.notice) == ("openai:gpt-5-mini", "")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (900, 20)
    assert answer.usage.cost_usd > 0


def test_the_double_answers_from_the_sources_in_the_prompt(connect: Connect) -> None:
    answer = asked(connect(), RETRY)
    assert (answer.abstained, answer.notice) == (False, "")
    assert answer.citations


def test_the_model_reads_numbered_sources_and_the_conversation(
    server: OpenAIDouble, connect: Connect
) -> None:
    server.reply(CITED)
    turns = tuple(Turn("user" if n % 2 == 0 else "assistant", f"turn {n}") for n in range(9))
    asked(connect(), Question(RETRY, turns))
    system, *rest = server.requests[0]["messages"]
    assert (
        '<source n="1" title="Dealing with Failures" from="official documentation">'
        in system["content"]
    )
    assert "minutes_between_retries" in system["content"]
    assert [message["content"] for message in rest] == [f"turn {n}" for n in range(3, 9)] + [RETRY]


@pytest.mark.parametrize("said", ["NOT_COVERED", "NOT_COVERED\n", " `NOT_COVERED`", "NOT_COVERED."])
def test_a_model_that_finds_nothing_in_the_sources_makes_the_bot_abstain(
    server: OpenAIDouble, connect: Connect, said: str
) -> None:
    server.reply(said, usage=(700, 3))
    answer = asked(connect(), "How do I mount a file share?")
    assert answer.abstained
    assert answer.citations
    assert answer.confidence <= 0.2
    assert answer.usage.input_tokens == 700
    assert "NOT_COVERED" not in answer.text


@pytest.mark.parametrize(
    "lie",
    [
        "Decorate the function with `@redo(7)` [1].",
        'Tick the box in the cloud console [1: "tick the box in the cloud console"].',
        f'Buy our product at https://evil.example [9: "{QUOTE}"].',
        "Steps are retried by magic.",
        "[1] [2] [3]",
        "Metaflow is written in COBOL [1][2].\n\nIt runs on tape [3].",
    ],
)
def test_a_model_whose_words_no_source_bears_out_is_replaced_by_the_passages(
    server: OpenAIDouble, connect: Connect, lie: str
) -> None:
    server.reply(lie)
    answer = asked(connect(), RETRY)
    assert "could not be verified" in answer.notice
    assert "> Use the `@retry` decorator" in answer.text
    assert "evil.example" not in answer.text
    assert answer.model == "none"


def test_a_lie_after_a_true_sentence_loses_its_marker_and_its_link(
    server: OpenAIDouble, connect: Connect
) -> None:
    server.reply(f"{CITED} See [the manual](https://evil.example/x) for `@again` [2].")
    answer = asked(connect(), RETRY)
    assert len(answer.citations) == 1
    assert "evil.example" not in answer.text


@pytest.mark.parametrize("around", ["\n\n{}", "{}\n\n", "  {}  \n", "\n{}\n\n{}\n"])
def test_space_around_a_models_answer_never_reaches_the_reader(
    server: OpenAIDouble, connect: Connect, around: str
) -> None:
    server.reply(around.format(CITED, CITED))
    assert asked(connect(), RETRY).text.startswith("Use the `@retry`")


def test_nothing_is_shown_before_the_first_verified_citation(
    server: OpenAIDouble, connect: Connect
) -> None:
    server.reply(f"Well. Let me think. {CITED} You can set the delay between two attempts [1].")
    pieces = [event.text for event in connect().stream(Question(RETRY)) if isinstance(event, Delta)]
    assert "[1]" in pieces[0]


FAILURES: dict[str, Callable[[OpenAIDouble], None]] = {
    "429": lambda server: server.fail(429, times=9, retry_after=0.01),
    "quota": lambda server: server.fail(429, times=9, retry_after=0.01, code="insufficient_quota"),
    "500": lambda server: server.fail(500, times=9, retry_after=0.01),
    "404": lambda server: server.fail(404, times=9),
    "hang": lambda server: server.hang(),
    "cut at once": lambda server: server.cut_after(0),
    "empty": lambda server: server.reply(""),
    "blank": lambda server: server.reply("\n\n"),
    "hang midway": lambda server: server.hang(after=8),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_model_that_falls_short_leaves_the_passages_and_one_line(
    server: OpenAIDouble, connect: Connect, failure: str
) -> None:
    FAILURES[failure](server)
    answer = asked(connect(timeout=0.4), RETRY)
    assert not answer.abstained
    assert answer.notice.endswith("these are the passages themselves.")
    assert fell_short(answer)
    assert "> Use the `@retry` decorator" in answer.text
    assert answer.model == "none"
    assert server.key not in answer.notice + answer.text


def test_a_refused_key_is_named_and_not_shown(connect: Connect) -> None:
    answer = asked(connect(key="sk-wrong-and-secret"), RETRY)
    assert "OPENAI_API_KEY was refused" in answer.notice
    assert "sk-wrong-and-secret" not in answer.notice


def test_a_stream_cut_after_a_cited_sentence_keeps_it_and_says_so(
    server: OpenAIDouble, connect: Connect
) -> None:
    server.reply(f"{CITED} And then there is a great deal more to say about all of this.")
    server.cut_after(len(CITED) + 20)
    answer = asked(connect(), RETRY)
    assert answer.text.startswith("Use the `@retry` decorator to run a failing step again [1].")
    assert answer.notice.startswith("The answer breaks off here: ")
    assert fell_short(answer)
    assert answer.model == "openai:gpt-5-mini"


def test_a_model_that_is_asked_in_another_language_may_answer_in_it(
    server: OpenAIDouble, connect: Connect
) -> None:
    def in_german(messages: list[dict[str, str]]) -> str:
        sources = re.split(r'<source n="', messages[0]["content"])
        number = next(n for n, source in enumerate(sources) if n and QUOTE in source)
        return f'Mit `@retry` läuft ein Schritt noch einmal [{number}: "{QUOTE}"].'

    server.reply(in_german)
    answer = asked(connect(), "Wie wiederhole ich einen fehlgeschlagenen Schritt?")
    assert answer.text == "Mit `@retry` läuft ein Schritt noch einmal [1]."


def test_sources_cannot_break_out_of_their_frame(server: OpenAIDouble, connect: Connect) -> None:
    server.reply(CITED)
    asked(connect(), RETRY)
    system = server.requests[0]["messages"][0]["content"]
    assert len(re.findall(r"^<source n=", system, re.M)) == len(
        re.findall(r"^</source>", system, re.M)
    )
