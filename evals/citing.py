"""Citations held against the index: do quotes and links hold, and do the sources say it?

Citation recall and precision are those of ALCE (Gao et al. 2023, sec. 3): a statement is recalled
when all that it cites, taken together, bears it out; a citation is precise when its statement is
recalled and it either bears it out alone or can't be left out. Their judge of entailment is a
language model; ours is the product's own check of statements (metaflowbot.grounding), which needs
no key. So these figures tell whether an answer passes the bot's own rule, not whether a person
would agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from metaflowbot.citations import located, plain
from metaflowbot.domain import Answer, Citation, Passage
from metaflowbot.grounding import Grounds
from metaflowbot.markdown import Segment, references, segments, tokens

Entails = Callable[[Sequence[Passage], str], bool]
"""Whether these passages together bear a statement out."""

_URL = re.compile(r"https?://[^\s<>\"'`\])]+")
_QUOTATION = re.compile(r"^[ \t]*>[ \t]?", re.M)
_TITLE = re.compile(r"\*\*.+\*\*[ \t]*(\[[^\n]*\])(?: \([^()\n]*\))?")
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer with the numbers that it cites."""

    text: str
    cited: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pages:
    """What was read, for looking up what an answer cites: passages by document, and addresses."""

    passages: Mapping[str, Sequence[Passage]]
    addresses: Collection[str]

    @classmethod
    def of(cls, passages: Sequence[Passage]) -> Pages:
        """The pages of an index."""
        by_document: dict[str, list[Passage]] = {}
        addresses: set[str] = set()
        for passage in passages:
            by_document.setdefault(passage.document_id, []).append(passage)
            addresses |= {_address(url) for url in (passage.url, *_URL.findall(passage.text))}
        return cls(by_document, addresses)

    def section(self, citation: Citation) -> Sequence[Passage]:
        """The passages of the section that a citation opens, else of its whole document."""
        document = self.passages.get(citation.document_id, ())
        return [passage for passage in document if passage.url == citation.url] or document

    def holds(self, citation: Citation) -> bool:
        """Whether the quote stands in the document that is named."""
        wanted = " ".join(citation.quote.split())
        return any(
            wanted in " ".join(passage.text.split())
            or plain(wanted) in plain(passage.text)
            or located(wanted, passage.text) is not None
            for passage in self.passages.get(citation.document_id, ())
        )


def scores(answer: Answer, gold: Collection[Collection[str]], pages: Pages) -> dict[str, float]:
    """Each 0 to 1; what is not defined for this answer is left out.

    `quotes hold` and `links hold` are shares of its citations and of all addresses in it: without
    any they are not defined. `precision`, `recall` and `gold cited` are of answers alone, not of
    abstentions; an answer that states nothing has neither recall nor precision, one that cites
    nothing has recall 0 and no precision. `gold cited` is the share of gold pages that are cited.
    """
    cited = answer.citations
    found: dict[str, float] = {}
    if cited:
        found["quotes hold"] = _share([pages.holds(citation) for citation in cited])
    if links := [*_URL.findall(answer.text), *(citation.url for citation in cited)]:
        found["links hold"] = _share([_address(link) in pages.addresses for link in links])
    if answer.abstained:
        return found
    if gold:
        documents = {citation.document_id for citation in cited}
        found["gold cited"] = _share([bool(documents & set(page)) for page in gold])
    return found | _alce(answer, pages)


def _alce(answer: Answer, pages: Pages) -> dict[str, float]:
    sections = {citation.n: pages.section(citation) for citation in answer.citations}
    return alce(list(statements(answer.text)), sections, _bears_out(answer.question))


def alce(
    stated: Sequence[Statement], sections: Mapping[int, Sequence[Passage]], entails: Entails
) -> dict[str, float]:
    """Recall over statements and precision over their citations; {} for no statements."""
    recalled, precise = [], []
    for statement in stated:
        numbers = [number for number in statement.cited if number in sections]
        together = [passage for number in numbers for passage in sections[number]]
        is_recalled = bool(numbers) and entails(together, statement.text)
        recalled.append(is_recalled)
        for number in numbers:
            others = [p for other in numbers if other != number for p in sections[other]]
            is_needed = entails(sections[number], statement.text) or not (
                others and entails(others, statement.text)
            )
            precise.append(is_recalled and is_needed)
    found = {"recall": _share(recalled)} if recalled else {}
    return found | ({"precision": _share(precise)} if precise else {})


def statements(text: str) -> Iterator[Statement]:
    """The sentences of an answer's Markdown, without code and headings.

    What is quoted (`>`) cites what the line that leads it in cites, and that line, when it is a
    title in bold alone, states nothing.
    """
    leading: tuple[int, ...] = ()
    for block in re.split(r"\n\s*\n", _without_code(text).strip()):
        if _QUOTATION.match(block):
            for segment in segments(unquoted(block)):
                if segment.is_sentence:
                    yield Statement(segment.text.strip(), leading)
            continue
        leading = ()
        if title := _TITLE.fullmatch(block):
            leading = tuple(number for number, _ in references(title[1]))
            continue
        for segment in segments(block):
            numbers, claim = _read(segment)
            leading = numbers or leading
            if segment.is_sentence and _WORD.search(claim):
                yield Statement(claim, numbers)


def unquoted(text: str) -> str:
    """The text with its quotations as if they were its own words."""
    return _QUOTATION.sub("", text)


def _without_code(text: str) -> str:
    """The text without fences, those in quotations among them."""
    return re.sub(
        r"^([> \t]*)(`{3,}|~{3,})[^\n]*\n.*?(?:^[> \t]*\2[^\n]*$|\Z)", "", text, flags=re.M | re.S
    )


def _read(segment: Segment) -> tuple[tuple[int, ...], str]:
    numbers: list[int] = []
    rest = ""
    for token in tokens(segment.text[segment.lead :]):
        if token.kind == "marker":
            numbers += [number for number, _ in references(token.match[0])]
        else:
            rest += token.match[0]
    return tuple(dict.fromkeys(numbers)), " ".join(rest.split()).replace(" .", ".")


def _bears_out(question: str) -> Entails:
    def entails(passages: Sequence[Passage], statement: str) -> bool:
        bare = " ".join(statement.split())
        if any(bare in " ".join(passage.text.split()) for passage in passages):
            return True
        marked = re.sub(r"([.!?:]?)$", r" [1]\1", bare, count=1)
        admitted = Grounds([list(passages)], question).admit(Segment(0, marked, True))
        return not admitted.removed and "[1" in admitted.text

    return entails


def _address(url: str) -> str:
    return url.partition("#")[0].rstrip("/.,;:!?*_")


def _share(holds: Sequence[bool]) -> float:
    return sum(holds) / len(holds)
