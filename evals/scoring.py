"""Each question's own scores, by its id and by 'suite/measure'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evals import citing
from evals.cases import Case
from evals.citing import Pages
from evals.measures import CITATIONS, CODE, FOLLOW_UPS, RETRIEVAL
from evals.observing import Observation
from evals.ranking import MEASURES, score
from metaflowbot.answer import Answerer
from metaflowbot.code_check import CodeChecker
from metaflowbot.code_check.blocks import pieces


def ranked(seen: Sequence[Observation], suites: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """The measures of each ranking that a chosen suite reads."""
    suite_of = {it.case.id: ranking_suite(it.case) for it in seen if it.case.gold}
    members = [it for it in seen if suite_of.get(it.case.id) in suites]
    rankings = {f"{it.trial} {it.case.id}": it.judged for it in members}
    for key, values in score(rankings).items():
        case_id = key.partition(" ")[2]
        for name in MEASURES:
            yield case_id, f"{suite_of[case_id]}/{name}", values[name]


def ranking_suite(case: Case) -> str:
    """The suite that reads the ranking of a question with gold."""
    return FOLLOW_UPS if case.history else RETRIEVAL


def cited(seen: Sequence[Observation], answerer: Answerer) -> Iterator[tuple[str, str, float]]:
    """What the citations of each answer are worth."""
    pages = Pages.of(answerer.retriever.generation.passages)
    for item in seen:
        if item.answer is not None and item.case.gold:
            for name, value in citing.scores(item.answer, item.case.gold, pages).items():
                yield item.case.id, f"{CITATIONS}/{name}", value


def coded(seen: Sequence[Observation], checker: CodeChecker) -> Iterator[tuple[str, str, float]]:
    """The share of an answer's blocks of code without a fault; nothing for one without code."""
    for item in seen:
        if item.answer is None or item.answer.abstained or not item.case.gold:
            continue
        text = citing.unquoted(item.answer.text)
        blocks = sum(not piece.inline for piece in pieces(text))
        if blocks:
            bad = sum(not found.inline for found in checker.check_markdown(text))
            yield item.case.id, f"{CODE}/blocks that pass", 1 - bad / blocks
