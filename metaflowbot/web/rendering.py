"""Templates and the words for values in them. Everything a template shows is escaped (Mako, `h`).

A template gets `root`, the relative way from its page to the server's root: so pages hold behind a
proxy's path too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from mako.lookup import TemplateLookup
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup
from starlette.requests import HTTPConnection

from metaflowbot.errors import MetaflowbotError
from metaflowbot.web.access import StaleFormError
from metaflowbot.web.faults import explain

_FOLDER = Path(__file__).parent / "templates"
_CITED = re.compile(r"\[(\d+)\]")
_CODE = Markup('<pre tabindex="0"><code>{}</code></pre>\n')
_TABLE = '<div class="table" tabindex="0" role="region" aria-label="Table">\n'
_lookup = TemplateLookup(
    [str(_FOLDER)], default_filters=["h"], strict_undefined=True, input_encoding="utf-8"
)


def root_of(request: HTTPConnection) -> str:
    """The relative way from the requested page to the server's root, '' from the root itself."""
    return "../" * (str(request.scope["path"]).count("/") - 1)


def page(
    request: HTTPConnection, template: str, status_code: int = 200, **values: Any
) -> HTMLResponse:
    """A page made of a template in templates/."""
    words = {
        each.__name__: each for each in (moment, day, percent, money, took, prose, quoted, channel)
    }
    text = _lookup.get_template(f"{template}.html").render(
        root=root_of(request), path=request.scope["path"], **words, **values
    )
    return HTMLResponse(text, status_code)


class PageRoute(APIRoute):
    """A route whose faults are a page with one line, for the person who reads it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except MetaflowbotError as error:
                status, line = explain(error, request.state.request_id)
                status = 403 if isinstance(error, StaleFormError) else status
                return page(request, "fault", status, line=line, status=status)

        return handle


def moment(at: datetime) -> str:
    """'24 Nov 2026, 14:05', in UTC."""
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M}"


def day(at: datetime) -> str:
    """'24 Nov', in UTC."""
    return f"{at:%-d %b}"


def percent(share: float | None) -> str:
    """'82 %'; '–' for nothing."""
    return "–" if share is None else f"{share:.0%}".replace("%", " %")


def money(dollars: float) -> str:
    """US dollars, to the cent; smaller sums with what counts of them."""
    if dollars >= 100:
        return f"${dollars:,.0f}"
    return f"${dollars:.2f}" if dollars >= 0.01 else f"${dollars:.2g}"


def took(milliseconds: float | None) -> str:
    """'320 ms' or '4.2 s'; '–' for nothing."""
    if milliseconds is None:
        return "–"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def channel(identity: str) -> str:
    """A channel's id as it is shown; what was asked outside Slack has none."""
    return identity or "web or command line"


def prose(markdown: str) -> Markup:
    """Markdown as HTML: no HTML, images or scripts of the text's own; [n] leads to #source-n."""
    reader = _markdown()
    reader.core.ruler.push("cite", _cite)
    return Markup(reader.render(markdown))


def quoted(markdown: str) -> Markup:
    """As `prose`, without markers: in a page's own words [0] is no source."""
    return Markup(_markdown().render(markdown))


def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.disable(["image", "reference"])
    reader.core.ruler.push("reach", _reach)
    return reader


def _reach(state: StateCore) -> None:
    """Code and tables too wide for the page scroll, and can be reached with the keyboard."""
    placed = []
    for block in state.tokens:
        if block.type in ("fence", "code_block"):
            placed.append(_raw(_CODE.format(block.content)))
        elif block.type == "table_open":
            placed += [_raw(_TABLE), block]
        elif block.type == "table_close":
            placed += [block, _raw("</div>\n")]
        else:
            placed.append(block)
    state.tokens = placed


def _raw(html: str) -> Token:
    return Token("html_block", "", 0, content=html)


def _cite(state: StateCore) -> None:
    for block in state.tokens:
        if block.children:
            block.children = [part for each in block.children for part in _cited(each)]


def _cited(token: Token) -> list[Token]:
    """A text with its markers as links; other tokens as they are."""
    if token.type != "text":
        return [token]
    parts = []
    for place, piece in enumerate(_CITED.split(token.content)):
        if place % 2:
            link = f'<a class="cite" href="#source-{piece}">{piece}</a>'
            parts.append(Token("html_inline", "", 0, content=link))
        elif piece:
            parts.append(Token("text", "", 0, content=piece))
    return parts
