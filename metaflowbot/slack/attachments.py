"""Text that people attach to a question: snippets, traces, small files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import httpx2

from metaflowbot.slack.clients import is_slacks, why

# A question holds 16,000 characters at most; what is longer keeps its beginning and its end.
_MOST_CHARS = 15_000
_HEAD = 3_000
_MOST_FILES = 3
_MOST_BYTES = 1_000_000
_log = logging.getLogger(__name__)


def read_text_files(files: Iterable[Mapping[str, Any]], token: str, api_url: str) -> str:
    """The text files among those, each as a fence under its name; '' for none.

    A file that can't be read is there with what Slack previews of it.
    """
    texts = [file for file in files if _is_text(file)][:_MOST_FILES]
    return "\n\n".join(
        f"{file['name']}:\n```\n{_read(file, token, api_url)}\n```" for file in texts
    )


def described(files: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of Slack's descriptions of files what reading them takes, as plain JSON."""
    kept = ("mimetype", "mode", "name", "preview", "size", "url_private")
    return [{name: each.get(name) for name in kept} for each in files]


def fit(text: str, most: int = _MOST_CHARS) -> str:
    """The text, without its middle where it is longer: a trace tells most at its two ends."""
    if len(text) <= most:
        return text
    left_out = len(text) - most
    tail = most - _HEAD
    return f"{text[:_HEAD]}\n[… {left_out:,} characters left out …]\n{text[-tail:]}"


def _is_text(file: Mapping[str, Any]) -> bool:
    kind = str(file.get("mimetype") or "")
    return bool(file.get("name")) and (file.get("mode") == "snippet" or kind.startswith("text/"))


def _read(file: Mapping[str, Any], token: str, api_url: str) -> str:
    url = str(file.get("url_private") or "")
    preview = str(file.get("preview") or "")
    if not is_slacks(url, api_url):  # the token goes to Slack alone
        return preview
    try:
        text = _fetch(url, token)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        _log.warning("an attached file can't be read: %s", why(error))
        return preview
    return preview if text is None else text


def _fetch(url: str, token: str) -> str | None:
    """The text at an address of Slack's; None for a page or for more than is read of a file."""
    headers = {"Authorization": f"Bearer {token}"}
    with (
        httpx2.Client(timeout=10) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        answer.raise_for_status()
        if answer.headers.get("content-type", "").startswith("text/html"):
            return None  # Slack's sign-in page: the token may not read files
        body = bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > _MOST_BYTES:
                return None
    return body.decode(answer.encoding or "utf-8", errors="replace")
