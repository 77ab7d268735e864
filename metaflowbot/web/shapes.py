"""What the JSON API takes and gives, as /api/openapi.json documents it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from metaflowbot.domain import Role, Verdict
from metaflowbot.escalation import State

Source = Literal["metaflow-docs", "metaflow-api", "labs", "slack", "github"]
Sources = Annotated[list[Source] | None, Field(description="limits the search; none means all")]


def _storable(text: str) -> str:
    """JSON can escape what UTF-8 can't carry and databases refuse."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be text without NUL characters and lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_storable)]


class SearchBody(BaseModel):
    query: Text
    k: Annotated[int, Field(strict=True, json_schema_extra={"minimum": 1, "maximum": 100})] = 10
    sources: Sources = None


class TurnBody(BaseModel):
    role: Role
    content: Text


class AskBody(BaseModel):
    question: Text
    history: list[TurnBody] | None = None
    sources: Sources = None


class FeedbackBody(BaseModel):
    verdict: Verdict
    reason: Annotated[Text, Field(max_length=4000)] | None = None


class Fault(BaseModel):
    error: str


class HitShape(BaseModel):
    rank: int
    score: float
    source: str
    document_id: str
    title: str
    heading: str
    url: str
    text: str


class SearchShape(BaseModel):
    hits: list[HitShape]
    generation: str
    took_ms: float


class CitationShape(BaseModel):
    n: int
    document_id: str
    title: str
    url: str
    quote: str


class UsageShape(BaseModel):
    input_tokens: int
    output_tokens: int
    cost_usd: float


class AnswerShape(BaseModel):
    answer_id: str
    text: Annotated[str, Field(description="Markdown; every [n] in it is one of the citations")]
    citations: list[CitationShape]
    abstained: bool
    confidence: Annotated[float, Field(ge=0, le=1)]
    model: str
    prompt_version: str
    generation: str
    timings_ms: dict[str, float]
    usage: UsageShape
    notice: str


class EscalationShape(BaseModel):
    state: State
    text: str = Field(description="what a maintainer answered; '' where a thread of Slack has it")
    url: str = Field(description="the published write-up, '' before it")


class SharedShape(AnswerShape):
    question: str
    escalation: EscalationShape | None


def responses(given: type[BaseModel] | None, *faults: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer: this with 200, and one line with the status of any fault."""
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": Fault} for status in (401, 403, 413, 422, 429, 500, 503, *faults)
    }
    return documented | ({200: {"model": given}} if given else {})
