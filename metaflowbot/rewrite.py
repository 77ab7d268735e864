"""A chat model says what to search for, once before it answers: metaflowbot.toml, answers.rewrite.

Whatever goes wrong here, the question is searched for as it was put.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaflowbot.domain import Question, Turn, Usage
from metaflowbot.errors import ModelError
from metaflowbot.llm import ChatModel
from metaflowbot.prompts import Prompt
from metaflowbot.telemetry import model_failed

_TURNS, _TURN_CHARS = 6, 1000
_QUESTION_CHARS = 4000
# A reply that is longer is no query, nor a list of numbers.
_REPLY_CHARS = 400


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What to search for, and what it cost to know."""

    text: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Turns a message, with the conversation before it, into a query that stands by itself.

    The prompt has the slot $conversation.
    """

    model: ChatModel
    prompt: Prompt

    def rewrite(self, question: Question) -> Rewritten:
        """The query in place of the question; the question's own text where none can be had."""
        said = (f"{turn.role}: {turn.content[:_TURN_CHARS]}" for turn in question.history[-_TURNS:])
        system = self.prompt.fill(conversation="\n\n".join(said) or "(none)")
        reply, usage = short_reply(self.model, system, question.text[:_QUESTION_CHARS])
        query = reply.strip().strip("`")
        is_query = query and len(reply) <= _REPLY_CHARS and "\n" not in query
        return Rewritten(query if is_query else question.text, usage)


def short_reply(model: ChatModel, system: str, message: str) -> tuple[str, Usage]:
    """What the model replies, and what that cost; '' where it falls short, which is noted.

    A reply that runs on is broken off; what it cost is then counted here.
    """
    text = ""
    try:
        for piece in model.stream(system, [Turn("user", message)]):
            if isinstance(piece, Usage):
                return text, piece
            text += piece
            if len(text) > _REPLY_CHARS:
                break
    except ModelError as error:
        model_failed(error, model.name)
        return "", Usage()
    return text, Usage(model.count_tokens(system + message), model.count_tokens(text))
