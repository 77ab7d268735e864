"""One running process: the web server, and Slack when its tokens are set."""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from metaflowbot import bootstrap
from metaflowbot.errors import MetaflowbotError, SettingsError
from metaflowbot.settings import Settings

if TYPE_CHECKING:
    from metaflowbot.slack.service import SlackService


def say(line: str) -> None:
    """One line for the operator."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until the process is told to stop; raises SettingsError where it can't start."""
    say(f"metaflowbot starts; state in {settings.home}")
    _check_exposure(settings, host)
    listener = _listen(host, port)
    parts = bootstrap.build(settings)
    slack = _start_slack(settings, parts)
    # Uvicorn shuts down gracefully, then raises the signal again: it must not kill us before the
    # rest is closed.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        _run(settings, parts, slack, listener)
    finally:
        if slack is not None:
            slack.stop()
        parts.store.close()
        say("stopped")


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


def _check_exposure(settings: Settings, host: str) -> None:
    if settings.api_token.get_secret_value():
        return
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise SettingsError(
            f"--host {host} opens the server to others: set METAFLOWBOT_API_TOKEN first, "
            "or bind to 127.0.0.1"
        )


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else is opened, so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"--port {port}: can't listen on {host}:{port} ({reason}): choose another port"
        ) from None


def _start_slack(settings: Settings, parts: bootstrap.Parts) -> SlackService | None:
    if settings.slack_mode == "off":
        return None
    from metaflowbot.slack.service import SlackService

    service = SlackService(settings, parts.bot, parts.store)
    service.start()
    return service


def _run(
    settings: Settings,
    parts: bootstrap.Parts,
    slack: SlackService | None,
    listener: socket.socket,
) -> None:
    import uvicorn

    from metaflowbot.web import app as web

    application = web.build(parts.bot, settings, slack.dispatch if slack else None)
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    threading.Thread(target=_prepare, args=(parts,), name="prepare", daemon=True).start()
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"model {settings.model}; Slack {settings.slack_mode}; ask at http://{shown}:{port}/")
    uvicorn.Server(config).run(sockets=[listener])


def _prepare(parts: bootstrap.Parts) -> None:
    """Load index and embedding model before the first question, and say whether that worked."""
    missing = parts.bot.missing()
    if missing:
        say("not ready: " + "; ".join(missing))
        return
    try:
        parts.bot.search("metaflow")
    except MetaflowbotError as error:
        say(f"not ready: {error}")
        return
    say(f"ready: index {parts.bot.generation()}")
