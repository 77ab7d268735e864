"""A loopback server that speaks OpenAI's chat completions and embeddings, scripted by the test.

    with OpenAIDouble() as server:
        server.reply("Use `@batch`.", usage=(120, 8))
        ...                                  # point the client at server.url with server.key
        assert server.requests[0]["model"] == "gpt-5-mini"

On its own, `python -m tests.openai_double --port 9000` answers from the numbered sources that it
finds in the prompt, with citations.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import math
import random
import re
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Message = dict[str, Any]
Answerer = Callable[[list[Message]], str]

_SOURCE = re.compile(
    r"""<source\b[^>]*?\b(?:n|id|number)\s*=\s*["']?(\d+)[^>]*>(.*?)</source>"""
    r"|^\[(\d+)\](.*?)(?=^\[\d+\]|\Z)",
    re.S | re.M,
)
_WORD = re.compile(r"[^\W_]+")


@dataclass
class _Failure:
    status: int
    times: int
    retry_after: float | None
    message: str
    code: str | None


class OpenAIDouble:
    """Serves while it is entered. `requests` are the decoded bodies in order of arrival,
    `request_ids` what each was called by who sent it, '' for nothing."""

    def __init__(self, port: int = 0, key: str = "sk-test-0123456789") -> None:
        self.key = key
        self.requests: list[dict[str, Any]] = []
        self.request_ids: list[str] = []
        self._answer: Answerer = cited_answer
        self._usage: tuple[int, int] | None = None
        self._failures: list[_Failure] = []
        self._refused: set[str] = set()
        self._cut: int | None = None
        self._hang: int | None = None
        self._comments = False
        self._garbled = False
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.double = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> OpenAIDouble:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def reply(self, answer: str | Answerer, usage: tuple[int, int] | None = None) -> None:
        """Answer so from now on. Without `usage` (tokens in, out) the words are counted."""
        self._answer = (lambda _: answer) if isinstance(answer, str) else answer
        self._usage = usage

    def fail(
        self,
        status: int,
        times: int = 1,
        retry_after: float | None = None,
        message: str = "scripted failure",
        code: str | None = None,
    ) -> None:
        """Answer the next `times` requests with this HTTP status."""
        self._failures.append(_Failure(status, times, retry_after, message, code))

    def refuse(self, field: str) -> None:
        """Answer 400 to every request that has this field, as strict servers do."""
        self._refused.add(field)

    def hang(self, after: int = -1) -> None:
        """Never answer, or stop for good after that many characters of the answer."""
        self._hang = after

    def cut_after(self, characters: int) -> None:
        """Close the connection, quietly, after that many characters of the answer."""
        self._cut = characters

    def only_comments(self) -> None:
        """Send keep-alive comments for ever and never a chunk."""
        self._comments = True

    def garble(self) -> None:
        """Send what is no chunk of the protocol."""
        self._garbled = True

    def heal(self) -> None:
        """Take back all of the above; who waits already waits on."""
        self._failures, self._cut, self._hang = [], None, None
        self._comments = self._garbled = False

    def next_failure(self) -> _Failure | None:
        with self._lock:
            while self._failures and self._failures[0].times <= 0:
                self._failures.pop(0)
            if not self._failures:
                return None
            self._failures[0].times -= 1
            return self._failures[0]

    def record(self, body: dict[str, Any], request_id: str) -> None:
        with self._lock:
            self.requests.append(body)
            self.request_ids.append(request_id)

    def refused(self, body: dict[str, Any]) -> str:
        return next((field for field in sorted(self._refused) if field in body), "")

    def wait(self, written: int) -> None:
        """Block here for good when the script says to hang after this many characters."""
        if self._hang is not None and written > self._hang:
            self._released.wait()
            raise ConnectionError("the server is closing")

    def answer(self, messages: list[Message]) -> tuple[str, dict[str, int]]:
        text = self._answer(messages)
        read = sum(len(str(message["content"]).split()) for message in messages)
        counts = self._usage or (read, len(text.split()))
        return text, {
            "prompt_tokens": counts[0],
            "completion_tokens": counts[1],
            "total_tokens": sum(counts),
        }

    def events(self, body: dict[str, Any]) -> Iterator[str]:
        """The server-sent events of one streamed answer."""
        while self._comments and not self._released.is_set():
            yield ": keep-alive"
            time.sleep(0.02)
        if self._garbled:
            yield "data: <html>502 Bad Gateway"
        text, usage = self.answer(body["messages"])
        yield _chunk(body, [{"index": 0, "delta": {"role": "assistant", "content": ""}}])
        written = 0
        for piece in re.findall(r"\s*\S+\s*?", text) or [text]:
            if self._cut is not None and written + len(piece) > self._cut:
                raise ConnectionError("scripted cut")
            self.wait(written)
            yield _chunk(body, [{"index": 0, "delta": {"content": piece}}])
            written += len(piece)
        yield _chunk(body, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if (body.get("stream_options") or {}).get("include_usage"):
            yield _chunk(body, [], usage)
        yield "data: [DONE]"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    double: OpenAIDouble


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        read = self.rfile.read(size)
        if len(read) < size:
            return  # the client is gone
        body = json.loads(read)
        self.server.double.record(body, self.headers.get("X-Client-Request-Id", ""))
        with contextlib.suppress(ConnectionError):
            self.server.double.wait(0)
            self._respond(body)

    def _respond(self, body: dict[str, Any]) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.server.double.key}":
            self._error(401, "Incorrect API key provided: sk-****.", "invalid_api_key")
        elif failure := self.server.double.next_failure():
            self._error(failure.status, failure.message, failure.code, failure.retry_after)
        elif field := self.server.double.refused(body):
            self._error(400, f"Unrecognized request argument supplied: {field}", None)
        elif self.path.endswith("/embeddings"):
            self._json(200, _embeddings(body))
        elif not self.path.endswith("/chat/completions"):
            self._error(404, f"Invalid URL (POST {self.path})", None)
        elif body.get("stream"):
            self._stream(body)
        else:
            self._json(200, _completion(body, *self.server.double.answer(body["messages"])))

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in self.server.double.events(body):
            self.wfile.write(f"{event}\n\n".encode())
            self.wfile.flush()

    def _error(
        self, status: int, message: str, code: str | None, retry_after: float | None = None
    ) -> None:
        error = {"message": message, "type": "error", "param": None, "code": code}
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        self._json(status, {"error": error}, headers)

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _chunk(
    body: dict[str, Any], choices: list[dict[str, Any]], usage: dict[str, int] | None = None
) -> str:
    value = {
        "id": "chatcmpl-double",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body.get("model"),
        "choices": [{"finish_reason": None, **choice} for choice in choices],
        "usage": usage,
    }
    return f"data: {json.dumps(value)}"


def _completion(body: dict[str, Any], text: str, usage: dict[str, int]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-double",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    given = body["input"]
    texts = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    data = []
    for index, text in enumerate(texts):
        vector: object = embed(str(text), body.get("dimensions") or 64)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()  # type: ignore[arg-type,misc]
        data.append({"object": "embedding", "index": index, "embedding": vector})
    count = sum(len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


def embed(text: str, dimensions: int = 64) -> list[float]:
    """A unit vector from the hashes of the text's words: like texts are near each other."""
    total = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        generator = random.Random(hashlib.sha256(word.encode()).digest())
        total = [value + generator.gauss(0, 1) for value in total]
    length = math.sqrt(sum(value * value for value in total))
    return [value / length for value in total]


def cited_answer(messages: list[Message]) -> str:
    """The sentences of the prompt's numbered sources that share most words with the question.

    `NOT_COVERED` where there is no source, or none shares two words.
    """
    asked = _words(str(messages[-1]["content"]))
    prompt = "\n".join(str(m["content"]) for m in messages if m["role"] in ("system", "developer"))
    found: list[tuple[int, int, str]] = []
    for match in _SOURCE.finditer(prompt):
        number, text = int(match[1] or match[3]), match[2] or match[4]
        found += [(len(asked & _words(line)), -number, line) for line in _quotable(text)]
    best = [entry for entry in sorted(found, reverse=True)[:2] if entry[0] >= 2]
    lines = [f'{line.rstrip(".!?")} [{-number}: "{line}"].' for _, number, line in best]
    return "\n\n".join(lines) or "NOT_COVERED"


def _words(text: str) -> set[str]:
    return {word[:6] for word in _WORD.findall(text.lower()) if len(word) > 3}


def _quotable(text: str) -> Iterator[str]:
    """Whole sentences of 5 to 25 words without brackets, links or quotation marks."""
    for block in re.split(r"\n\s*\n|\n(?=[#>|*:`-])", text):
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(block.split())):
            plain = re.match(r'[A-Z`][^\[\]"“”<>|]*$', sentence)
            if plain and 5 <= len(sentence.split()) <= 25:
                yield sentence


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default="sk-test-0123456789")
    chosen = parser.parse_args(arguments)
    with OpenAIDouble(chosen.port, chosen.key) as server:
        sys.stdout.write(f"OPENAI_BASE_URL={server.url} OPENAI_API_KEY={server.key}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
