"""From the Trenches: an escalation as a repository that is ready to be pushed.

What people wrote is scrubbed, made inert (no component, shortcode or HTML of theirs is run by the
site that shows it), and quoted only where the asker agreed to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distribution, version
from itertools import zip_longest
from pathlib import Path
from string import Template
from textwrap import shorten

from metaflowbot.citations import verify
from metaflowbot.domain import Citation, Hit, Turn, Usage
from metaflowbot.errors import ModelError, UsageError
from metaflowbot.escalation import Escalation
from metaflowbot.example_flow import Constructs, ExampleFlow, example_flow
from metaflowbot.extracts import cite
from metaflowbot.llm import ChatModel
from metaflowbot.prompts import load
from metaflowbot.scrub import scrub

_TEMPLATES = Path(__file__).parent / "trenches_package"
_FOLDER = "content/learn/deep-dives/from-the-trenches"
_PLACES: Mapping[str, str] = {
    "README.md": "README.md",
    "index.qmd": "index.qmd",
    "slides.qmd": "slides.qmd",
    "_quarto.yml": "_quarto.yml",
    "session-plan.md": "session-plan.md",
    "video-outline.md": "video-outline.md",
    "requirements.txt": "requirements.txt",
    "publish.yml": ".github/workflows/publish.yml",
    "gitignore": ".gitignore",
}
_MOST_SOURCES = 6
_MOST_QUOTES = 4
_ON_A_SLIDE = 2
_TITLE_CHARS = 80
_SLUG_CHARS = 60
_JOINER = "\u2060"  # word joiner: breaks what a site would run, and shows as nothing
_FENCE = r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n]*\n.*?(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)"
_CODE = re.compile(rf"{_FENCE}|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)", re.M | re.S)
_EXECUTED = re.compile(r"^([ \t]*(?:`{3,}|~{3,}))[ \t]*\{[^\n]*", re.M)
_MENTION = re.compile(r"(?<![\w.`])@([A-Za-z][\w.-]+)")
_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_SIGNED = re.compile(
    r"(\b(?:[Tt]hanks|[Tt]hank you|[Cc]heers|[Rr]egards|[Bb]est)[,!.]?\s+|^(?:--|[–—]) ?)"
    r"(?:[A-Z][a-z]+(?: [A-Z][a-z]+)?)(?=[\s.(!]*(?:$|\())",
    re.M,
)
_DECORATORS = frozenset(
    "airflow batch card catch checkpoint conda conda_base environment exit_hook huggingface_hub"
    " kubernetes model parallel project pypi pypi_base resources retry schedule secrets step"
    " timeout torchrun trigger trigger_on_finish user_step_decorator".split()
)
# So many words in a row are somebody's own.
_OWN_WORDS = 6


@dataclass(frozen=True, slots=True)
class Material:
    """What a package is made of.

    `hits` are what the sources say on the question, none of it private. `names` are the names of
    the people in the thread, to be taken out.
    """

    escalation: Escalation
    hits: Sequence[Hit] = ()
    names: Collection[str] = ()

    def clean(self, text: str) -> str:
        """The text without secrets and names, and so that nothing in it is run."""
        return _inert(_nameless(scrub(text).text, self.names))

    @property
    def may_quote(self) -> bool:
        return self.escalation.consent == "given"

    @property
    def question(self) -> str:
        return self.clean(self.escalation.question)

    @property
    def solution(self) -> str:
        """The solution where it may be shown: a message of the thread is somebody's own words."""
        solution = self.escalation.solution
        if solution is None or (solution.message and not self.may_quote):
            return ""
        return self.clean(solution.text)

    @property
    def constructs(self) -> Constructs:
        solution = self.escalation.solution
        return Constructs.named_in(
            "\n".join([self.escalation.question, solution.text if solution else ""])
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a write-up. `note` says where it comes from; `slides` are Markdown too."""

    body: str
    slides: str
    citations: tuple[Citation, ...]
    note: str


def package(material: Material, model: ChatModel | None = None) -> Mapping[str, str]:
    """All files of the repository, by their path. With a model its text is a draft of that model's.

    A model that falls short leaves the facts in their places, and the note says so.
    """
    draft = drafted(material, model) if model else facts(material)
    flow = example_flow(material.constructs)
    slots = _slots(material, draft, flow)
    files = {place: _filled(name, slots) for name, place in _PLACES.items()}
    return {
        **files,
        slots["writeup_path"]: _filled("writeup.md", slots),
        "flow.py": flow.source,
        "test_flow.py": flow.test,
        "LICENSE": distribution("metaflowbot").read_text("licenses/LICENSE") or "",
    }


def check_folder(out: Path) -> None:
    """Raise UsageError where `out` is neither new nor an empty folder."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"--out {out} exists and is not empty: name a new folder")
    except OSError as error:
        raise UsageError(f"--out {out} can't be read: {error.strerror}") from None


def write(files: Mapping[str, str], out: Path) -> None:
    """Write the files into a new or empty folder; UsageError where it is neither."""
    check_folder(out)
    try:
        for place, text in files.items():
            path = out / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {out} can't be written: {error.strerror}") from None


def facts(material: Material) -> Draft:
    """What is known, each in its place, without a model."""
    asked = material.escalation.question
    citations = tuple(
        cite(hit.best, n, asked) for n, hit in enumerate(material.hits[:_MOST_QUOTES], 1)
    )
    known = [f"> {_inert(_one_line(each.quote))} [{each.n}]" for each in citations]
    parts = {
        "The problem": [_problem(material)],
        "The solution": [material.solution or _no_solution(material)],
        "What the sources say": known or ["Nothing in the sources covers it."],
    }
    body, slides = (
        "\n\n".join(f"## {title}\n\n" + "\n\n".join(said[:most]) for title, said in parts.items())
        for most in (_MOST_QUOTES, _ON_A_SLIDE)
    )
    note = "Put together from the facts, without a language model: to be written by a person."
    return Draft(body, slides, citations, note)


def gathered(search: Callable[[str], Sequence[Hit]], escalation: Escalation) -> tuple[Hit, ...]:
    """What the sources say on the solution and on the question, in turn; a document once."""
    solution = escalation.solution.text if escalation.solution else ""
    searched = [search(text) for text in (solution, escalation.question) if text]
    found = (hit for hits in zip_longest(*searched) for hit in hits if hit)
    return tuple({hit.best.document_id: hit for hit in reversed([*found])}.values())[::-1]


def drafted(material: Material, model: ChatModel) -> Draft:
    """The model's draft, its citations verified; the facts where the model fell short of that."""
    writeup = load("trenches_writeup", "quoting", "facts", "sources")
    slides = load("trenches_slides", "article")
    given = "\n\n".join([f"Question:\n{material.question}", f"Answer:\n{material.solution}"])
    sources = [hit.passages for hit in material.hits[:_MOST_SOURCES]]
    shown = "\n\n".join(
        f'<source n="{n}" title="{passages[0].title}">\n'
        + "\n\n".join(passage.text for passage in passages)
        + "\n</source>"
        for n, passages in enumerate(sources, 1)
    )
    quoting = (
        "You may quote the question."
        if material.may_quote
        else "Never quote the question: describe the problem in words of your own."
    )
    try:
        prompt = writeup.fill(quoting=quoting, facts=given, sources=shown)
        verified = verify(_said(model, prompt, "Write the article."), sources)
        if not material.may_quote and _repeats(verified.text, material.question):
            raise ModelError("the model quoted the asker, who did not agree to that")
        body = material.clean(verified.text)
        talk = material.clean(_said(model, slides.fill(article=body), "Write the slides."))
    except ModelError as error:
        plain = facts(material)
        note = f"{plain.note} The model wrote no draft: {error}."
        return Draft(plain.body, plain.slides, plain.citations, note)
    note = f"A draft by {model.name}, from the thread and the sources: no person has read it yet."
    return Draft(body, talk, verified.citations, note)


def _said(model: ChatModel, system: str, request: str) -> str:
    pieces = model.stream(system, [Turn("user", request)])
    return "".join(piece for piece in pieces if not isinstance(piece, Usage)).strip()


def _repeats(text: str, question: str) -> bool:
    """Whether the text holds as many words of the question in a row as only a quote does."""
    said = " ".join(re.findall(r"\w+", text.lower()))
    words = re.findall(r"\w+", question.lower())
    runs = (words[at : at + _OWN_WORDS] for at in range(len(words) - _OWN_WORDS + 1))
    return any(" ".join(run) in said for run in runs)


def _slots(material: Material, draft: Draft, flow: ExampleFlow) -> dict[str, str]:
    escalation, title = material.escalation, _title(material)
    words = re.sub(r"[^a-z0-9]+", " ", title.lower()).strip()
    slug = shorten(words, _SLUG_CHARS, placeholder="").replace(" ", "-") or escalation.id
    named = ", ".join(f"`{name}`" for name in material.constructs.names) or "the asker’s own case"
    description = f"A question from the community, worked through: {named.replace('`', '')}."
    hints = material.constructs.hints
    return {
        "id": escalation.id,
        "title": title,
        "title_json": json.dumps(title, ensure_ascii=False),
        "description": description,
        "description_json": json.dumps(description, ensure_ascii=False),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "diataxis": _diataxis(escalation.question),
        "metaflow": version("metaflow"),
        "writeup_path": f"{_FOLDER}/{slug}.md",
        "body": draft.body,
        "slides": draft.slides,
        "draft_note": draft.note,
        "sources": _listed(draft.citations),
        "flow": flow.source.rstrip(),
        "flow_class": flow.class_alone,
        "elsewhere": _elsewhere(hints),
        "constructs": named,
        "consent_note": _consent(material),
        "session": _session(escalation),
    }


def _filled(name: str, slots: Mapping[str, str]) -> str:
    template = Template((_TEMPLATES / name).read_text(encoding="utf-8"))
    return template.substitute(slots)


def _title(material: Material) -> str:
    """What is asked, where it may be quoted, else the constructs that the question is about."""
    if material.may_quote:
        line = material.question.replace("`", "").split("\n")[0].strip()
        asked = (each for each in _SENTENCES.split(line) if each.endswith("?"))
        fitting = next((each for each in asked if len(each) <= _TITLE_CHARS), line)
        if fitting:
            return shorten(fitting, _TITLE_CHARS, placeholder="…")
    *names, last = material.constructs.names[:3] or ("Metaflow",)
    return "A question about " + " and ".join([", ".join(names), last] if names else [last])


def _diataxis(question: str) -> str:
    """What kind of page answers it: who asks why wants an explanation, others want to do it."""
    asks_why = re.match(r"\W*(?:why|what (?:is|are|does|happens)|when does)\b", question, re.I)
    return "explanation" if asks_why else "how-to"


def _problem(material: Material) -> str:
    why = "; ".join(material.escalation.reasons)
    named = ", ".join(f"`{name}`" for name in material.constructs.names)
    about = f"It is about {named}." if named else "It names no construct of Metaflow."
    if material.may_quote:
        quoted = "\n".join(f"> {line}" for line in material.question.split("\n"))
        return f"{quoted}\n\n{about} Handed to the maintainers because: {why}."
    return (
        f"{about} Handed to the maintainers because: {why}. The asker’s own words are not quoted: "
        "describe the problem as the flow below isolates it."
    )


def _no_solution(material: Material) -> str:
    if material.escalation.solution is None:
        return "There is no solution yet."
    return "The solution is a message of the thread, which may not be quoted: write it anew."


def _listed(citations: Sequence[Citation]) -> str:
    lines = (f"{each.n}. [{_one_line(each.title)}]({each.url})" for each in citations)
    return "\n".join(lines) or "None of the sources covers it."


def _elsewhere(hints: Sequence[str]) -> str:
    if not hints:
        return ""
    listed = "\n".join(f"- {hint}" for hint in hints)
    return f"\nWhat needs more than this computer, and how it is brought in:\n\n{listed}\n"


def _consent(material: Material) -> str:
    return {
        "given": "The asker agreed to be quoted, without a name.",
        "refused": "The asker did not agree to be quoted: none of their words stand here.",
        "": "The asker has not said whether they may be quoted: none of their words stand here.",
    }[material.escalation.consent]


def _session(escalation: Escalation) -> str:
    held = escalation.session
    if held is None:
        return "No day is set yet."
    recording = f" [Recording]({held.recording})" if held.recording else ""
    people = f"{len(held.people)} {'person' if len(held.people) == 1 else 'people'}"
    return f"Day: {held.day.isoformat()}, {people}.{recording}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _nameless(text: str, names: Collection[str]) -> str:
    """The text without these names, and without mentions of people; decorators stay.

    A name of one word is taken out of prose alone and only as a name is written, with a capital:
    `max(…)` and "it will" are words too.
    """
    long = sorted((name for name in names if " " in name.strip()), key=len, reverse=True)
    short = [name[0].upper() + name[1:] for name in names if name.strip() and name not in long]
    for name in long:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "somebody", text, flags=re.IGNORECASE)
    return "".join(
        part if is_code else _without_people(part, short) for part, is_code in _parts(text)
    )


def _without_people(prose: str, names: Sequence[str]) -> str:
    for name in names:
        prose = re.sub(rf"(?<![\w@]){re.escape(name)}(?!\w)", "somebody", prose)
    return _MENTION.sub(_mention, _SIGNED.sub(r"\1somebody", prose))


def _mention(match: re.Match[str]) -> str:
    return match[0] if match[1].split(".")[0] in _DECORATORS else "somebody"


def _inert(text: str) -> str:
    """Markdown in which nothing is a component, a shortcode, HTML, or code to be executed."""
    text = _EXECUTED.sub(r"\1text", text).replace("{{<", f"{{{{{_JOINER}<")
    return "".join(part if is_code else _inert_prose(part) for part, is_code in _parts(text))


def _inert_prose(text: str) -> str:
    text = re.sub(r"\]\((?!https?://)[^)\n]*\)", "]", text)
    text = text.replace("<", "&lt;").replace("{{", f"{{{_JOINER}{{")
    text = re.sub(r"^([ \t]*):(?=:)", rf"\1:{_JOINER}", text, flags=re.M)
    return re.sub(r":(?=[a-z][\w-]*[\[{])", f":{_JOINER}", text)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces that join to it, with whether each is code (a fence or a span)."""
    at = 0
    for match in _CODE.finditer(text):
        yield text[at : match.start()], False
        yield match[0], True
        at = match.end()
    yield text[at:], False
