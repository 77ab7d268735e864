"""Fixtures: where an index keeps its vectors, of either kind.

A module that wants them says `pytest_plugins = ["tests.chroma_server"]`.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import chromadb
import pytest

from metaflowbot.chroma import Chroma, connect
from metaflowbot.settings import Settings


@pytest.fixture(scope="session")
def chroma_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a throw-away Chroma server on loopback."""
    folder = tmp_path_factory.mktemp("chroma-server")
    port = _free_port()
    program = Path(sys.executable).with_name("chroma")
    words = [program, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(words, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(server, port, folder / "log")
        yield port
    finally:
        server.kill()
        server.wait()


def _free_port() -> int:
    """One that the system gives to nobody who asks for any, so it stays free until it is used."""
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            chromadb.HttpClient("127.0.0.1", port).heartbeat()
        except Exception:  # noqa: BLE001 - whatever chromadb raises for a server that starts
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def chroma_client(chroma_port: int) -> Iterator[Any]:
    """A client of the server, which holds nothing before and after the test."""
    client = chromadb.HttpClient("127.0.0.1", chroma_port)
    yield client
    for collection in client.list_collections():
        client.delete_collection(collection.name)


@pytest.fixture(params=["embedded", "server"])
def chroma(request: pytest.FixtureRequest, tmp_path: Path) -> Chroma:
    """Vectors in folders, or on the server."""
    if request.param == "embedded":
        return connect(Settings(home=tmp_path))
    request.getfixturevalue("chroma_client")
    port = request.getfixturevalue("chroma_port")
    return connect(Settings(home=tmp_path, chroma_host="127.0.0.1", chroma_port=port))
