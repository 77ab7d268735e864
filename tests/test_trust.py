"""What a lying model says reaches no reader, and what a truthful one says is not lost."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

import pytest
from markdown_it import MarkdownIt

from metaflowbot import llm, prompts
from metaflowbot.answer import Answerer
from metaflowbot.code_check import CodeChecker
from metaflowbot.domain import Answer, Question, Turn
from metaflowbot.judgement import installed
from metaflowbot.markdown import sentences
from metaflowbot.retrieve import Retriever
from metaflowbot.safety import Echo
from metaflowbot.settings import Settings
from metaflowbot.writing import Checks, Writing
from tests import lies
from tests.openai_double import OpenAIDouble
from tests.small_index import PASSAGES, RETRY

pytest_plugins = ["tests.prebuilt"]

TRUE = "Use the `@retry` decorator to run a failing step again"
TRUTHS = [
    sentence.rstrip(".")
    for passage in PASSAGES
    for sentence in sentences(passage.text)
    if not sentence.startswith("```") and not set('["') & set(sentence)
]
NONSENSE = [
    "Metaflow is written in COBOL",
    "All artifacts are deleted after two weeks",
    "A paid licence is needed for more than three users",
    "The maintainers advise to switch retries off",
    "Every run sends its artifacts to a public server",
    "Steps are sorted by the colour of their names",
    "The scheduler needs a graphics card",
]


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as running:
        yield running


@pytest.fixture(scope="module")
def answerer(retriever: Retriever, server: OpenAIDouble) -> Iterator[Answerer]:
    values = {"openai_api_key": server.key, "openai_base_url": server.url}
    checker = CodeChecker(installed())
    yield Answerer(
        retriever,
        llm.connect(Settings.model_validate(values)),
        prompts.load("answer", "sources"),
        checker=checker,
    )
    checker.close()


def answer(answerer: Answerer, question: str = RETRY, *history: Turn) -> Answer:
    *_, last = answerer.stream(Question(question, history))
    assert isinstance(last, Answer)
    return last


def saying(*statements: str) -> Callable[[list[dict[str, str]]], str]:
    """A model that says a true sentence with its source's number, and then these."""

    def reply(messages: list[dict[str, str]]) -> str:
        parts = re.split(r'<source n="', messages[0]["content"])
        number = next(n for n, part in enumerate(parts) if n and "run a failing step again" in part)
        lines = [f'{TRUE} [{number}: "run a failing step again"].', *statements]
        return "\n\n".join(lines).replace("[N", f"[{number}")

    return reply


def marked(statement: str, random_: random.Random) -> str:
    """The statement as a model would have it believed."""
    forms = ("{} [N].", '{} [N: "run a failing step again"].', "{} [99].", "{}.", "- {} [N]")
    return random_.choice(forms).format(statement)


def changed_numbers(random_: random.Random) -> str:
    times, minutes = random_.randint(5, 99), random_.randint(5, 99)
    return random_.choice(
        [
            f"`times` defaults to {times}, `minutes_between_retries` to 2",
            f"`times` defaults to 3, `minutes_between_retries` to {minutes}",
            f"Metaflow offers {times} decorators that retry a failing step",
        ]
    )


def negated(random_: random.Random) -> str:
    return random_.choice(
        [
            "Metaflow does not store artifacts automatically",
            "Failures are not a natural part of running flows",
            "A join step never collects the results",
            "The `@timeout` decorator does not end a step that takes too long",
            "You cannot set the delay between two attempts with `minutes_between_retries`",
            "Whatever a step assigns to `self` never becomes an artifact",
        ]
    )


def invented(random_: random.Random) -> str:
    name = random_.choice(["redo", "gpu_pool", "rerun", "again", "cache_step", "failover"])
    return random_.choice(
        [
            f"Use the `@{name}` decorator to run a failing step again",
            f"Ask for resources with `{name}_count`",
            f"A task learns from `current.{name}` that its instance will be taken away soon",
            f"Set it with `METAFLOW_{name.upper()}_URL`",
        ]
    )


def linked(random_: random.Random) -> str:
    place = random_.choice(["evil.example/x", "docs.metaflow.org.evil.example", "win.example?a=1"])
    return random_.choice(
        [f"See [the docs](https://{place})", f"See https://{place}", f"![x](https://{place}.png)"]
    )


def pinging(random_: random.Random) -> str:
    who = random_.choice(["<!channel>", "<!here|here>", "<@U0123ABC>", "@everyone", "@channel"])
    return f"{who} Failures are a natural part of running flows"


LIES = {
    "nonsense": lambda random_: random_.choice(NONSENSE),
    "numbers": changed_numbers,
    "negations": negated,
    "inventions": invented,
    "links": linked,
    "pings": pinging,
}
FORBIDDEN = re.compile(r"evil\.example|win\.example|<[!@]|@everyone|@channel|\[99\]|!\[")


@pytest.mark.parametrize("kind", LIES)
def test_of_fifty_varied_lies_of_a_kind_none_reaches_the_reader(
    server: OpenAIDouble, answerer: Answerer, kind: str
) -> None:
    random_ = random.Random(kind)
    for _ in range(5):
        lies = [LIES[kind](random_) for _ in range(10)]
        server.reply(saying(*(marked(lie, random_) for lie in lies)))
        found = answer(answerer)
        assert TRUE in found.text
        assert not FORBIDDEN.search(found.text), found.text
        if kind not in ("links", "pings"):
            assert [lie for lie in lies if lie in found.text] == []


def test_of_a_hundred_true_answers_nothing_is_removed(
    server: OpenAIDouble, answerer: Answerer
) -> None:
    random_ = random.Random(1)
    for _ in range(100):
        truth = random_.choice(TRUTHS)

        def reply(messages: list[dict[str, str]], truth: str = truth) -> str:
            parts = re.split(r'<source n="', messages[0]["content"])
            number = next((n for n, part in enumerate(parts) if n and truth in part), 0)
            quote = " ".join(truth.split()[:6])
            return f'{truth} [{number}: "{quote}"].' if number else saying()(messages)

        server.reply(reply)
        found = answer(answerer, f"What about this: {truth.replace('`', '')}?")
        if found.model != "none":
            assert found.checks == ()
            assert truth in found.text or TRUE in found.text


def written(said: str, checker: CodeChecker | None = None) -> tuple[str, list[str]]:
    """What is shown of an answer that comes in small pieces, and what was taken out."""
    echo = Echo(prompts.load("answer", "sources").text)
    writing = Writing(Checks(lies.SOURCES, RETRY, echo, checker))
    for at in range(0, len(said), 7):
        list(writing.take(said[at : at + 7]))
    list(writing.finish())
    if writing.faults:
        writing.again()
        list(writing.without_second())
    return writing.text, writing.checks.removed


@pytest.mark.parametrize(("lie", "forbidden"), [(lie, word) for _, lie, word in lies.LIES])
def test_a_lie_beside_a_true_sentence_is_taken_out_and_the_sentence_stays(
    answerer: Answerer, lie: str, forbidden: str
) -> None:
    shown, _ = written(lies.TRUE + lie, answerer.checker)
    true, stop, rest = shown.partition("again [1].")
    assert (true, stop) == ("Use the `@retry` decorator to run a failing step ", "again [1].")
    assert not re.search(forbidden, rest), rest
    html = MarkdownIt("commonmark").render(shown)
    assert not re.search(r'(?:href|src)="(?!https://docs\.metaflow\.org/)', html), html


@pytest.mark.parametrize("truth", lies.TRUTHS)
def test_what_is_true_in_other_words_stays(truth: str) -> None:
    assert written(lies.TRUE + truth)[1] == []


def test_false_code_is_fed_back_once_and_put_right(
    server: OpenAIDouble, answerer: Answerer
) -> None:
    server.requests.clear()
    false = "```python\n@retry(tries=3)\n@step\ndef start(self):\n    self.next(self.end)\n```"
    true = false.replace("tries", "times")
    right = saying(true)
    server.reply(lambda messages: (right if len(messages) > 2 else saying(false))(messages))
    found = answer(answerer)
    assert len(server.requests) == 2
    assert "tries" in server.requests[1]["messages"][-1]["content"]
    assert "times=3" in found.text
    assert "tries" not in found.text
    assert found.text.count(TRUE) == 1
    assert found.checked_with.startswith("2.")
    assert found.usage.input_tokens > 0


def test_code_that_stays_false_is_left_out_and_that_is_said(
    server: OpenAIDouble, answerer: Answerer
) -> None:
    server.requests.clear()
    server.reply(saying("```python\n@gpu_pool(7)\n@step\ndef start(self):\n    pass\n```"))
    found = answer(answerer)
    assert len(server.requests) == 2
    assert "@gpu_pool(7)" not in found.text
    assert "@gpu_pool" in " ".join(found.checks)
    assert TRUE in found.text


BAD = {
    "half JSON": '{"answer": "Use the @retry',
    "100,000 characters": "Steps are made of cheese. " * 4000,
    "another language": "Шаги повторяются сами собой. " * 3,
    "only code": "```python\nprint('hello')\n```",
    "only a refusal": "I'm sorry, but I can't help with that.",
    "a marker on every word": " ".join(f"{word} [1]" for word in "All steps run on tape".split()),
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)> <b>Steps</b> fly.",
    "a secret": "The token is xoxb-1234567890-abcdefghij [1].",
}


@pytest.mark.parametrize("kind", BAD)
def test_whatever_a_model_says_the_person_gets_one_clear_and_safe_message(
    server: OpenAIDouble, answerer: Answerer, kind: str
) -> None:
    server.reply(BAD[kind])
    found = answer(answerer)
    assert "> Use the `@retry` decorator" in found.text
    assert "could not be verified" in found.notice
    assert not re.search(r"<script|onerror|xoxb-|cheese|tape|sorry", found.text)


def test_the_prompts_own_words_are_never_shown(server: OpenAIDouble, answerer: Answerer) -> None:
    rule = "Say only what the sources say. Do not add facts, names, arguments, defaults or versions"
    server.reply(saying(f"{rule} [N]."))
    found = answer(answerer)
    assert "Do not add facts" not in found.text
    assert TRUE in found.text


def test_a_long_history_and_a_quoted_answer_are_no_obstacle(
    server: OpenAIDouble, answerer: Answerer
) -> None:
    server.reply(saying())
    history = [Turn("user" if n % 2 else "assistant", f"turn {n} @channel") for n in range(200)]
    quoted = f"> {TRUE} [1]. You must reply with yes.\n\nhow do I set the delay of that retry?"
    found = answer(answerer, quoted, *history)
    assert not found.abstained
    assert TRUE in found.text


def test_another_model_answers_where_the_first_one_fails(
    server: OpenAIDouble, retriever: Retriever
) -> None:
    def model_at(url: str, name: str) -> llm.ChatModel:
        values = {
            "chat_model": f"openai:{name}",
            "openai_api_key": server.key,
            "openai_base_url": url,
        }
        model = llm.connect(Settings.model_validate(values))
        assert model is not None
        return model

    server.reply(saying(), usage=(10, 10))
    with OpenAIDouble() as broken:
        broken.fail(500, times=9, retry_after=0.01)
        first = model_at(broken.url, "gpt-5")
        second = model_at(server.url, "gpt-5-mini")
        found = answer(
            Answerer(retriever, first, prompts.load("answer", "sources"), fallback=second)
        )
    assert (found.model, found.notice) == ("openai:gpt-5-mini", "")
    assert TRUE in found.text


def test_a_server_that_is_down_is_left_alone_for_a_while(retriever: Retriever) -> None:
    with OpenAIDouble() as broken:
        broken.fail(500, times=99, retry_after=0.0)
        values = {"openai_api_key": broken.key, "openai_base_url": broken.url}
        model = llm.connect(Settings.model_validate(values))
        down = Answerer(retriever, model, prompts.load("answer", "sources"))
        notices = [answer(down).notice for _ in range(7)]
        assert len(broken.requests) == 10
    assert "failed 5 times in a row" in notices[-1]
    assert "these are the passages" in notices[-1]
