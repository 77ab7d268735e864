"""One running process: the web server, and Slack when its tokens are set."""

from __future__ import annotations

import gc
import ipaddress
import logging
import math
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from metaflowbot import bootstrap, telemetry
from metaflowbot.errors import MetaflowbotError, SettingsError, StoreError
from metaflowbot.refresh import Refresher
from metaflowbot.settings import Settings

if TYPE_CHECKING:
    from metaflowbot.slack.service import SlackService
    from metaflowbot.web.metrics import Metrics

_DAY_SECONDS = 24 * 3600.0
# When the threads were read longer ago than this, people may have written while nobody listened.
_MISSED_SECONDS = 600.0
_log = logging.getLogger(__name__)


def say(line: str, level: int = logging.INFO) -> None:
    """One line for the operator."""
    _log.log(level, "%s", line)


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until the process is told to stop; raises SettingsError where it can't start."""
    telemetry.configure()
    say(f"metaflowbot starts; state in {settings.home}")
    settings.check_serving()
    _check_exposure(settings, host)
    listener = _listen(host, port)
    metrics = _metrics()
    traces = telemetry.Traces.to(settings.otel_endpoint) if settings.otel_endpoint else None
    parts = bootstrap.build(settings, (telemetry.Journal(), metrics, *filter(None, [traces])))
    slack = _start_slack(settings, parts)
    refresher = _start_refresher(settings, parts)
    # Uvicorn shuts down gracefully, then raises the signal again: it must not kill us before the
    # rest is closed.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        _run(settings, parts, slack, listener, metrics)
    finally:
        if slack is not None:
            slack.stop()
        if refresher is not None:
            refresher.stop()
        parts.store.close()
        if traces is not None:
            traces.close()
        say("stopped")


def _metrics() -> Metrics:
    from metaflowbot.web.metrics import Metrics

    return Metrics()


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


def _start_refresher(settings: Settings, parts: bootstrap.Parts) -> Refresher | None:
    """Keep the index in step with Slack's threads, where these are read."""
    if not settings.reads_live_threads:
        return None
    last = settings.home / "index" / "documents" / "slack.jsonl"
    age = time.time() - last.stat().st_mtime if last.exists() else math.inf
    missed = settings.reads_workspace and age > _MISSED_SECONDS
    refresher = Refresher(
        parts.store.threads, lambda: parts.index.active_id() is not None, catch_up=missed
    )
    refresher.start()
    return refresher


def _run(
    settings: Settings,
    parts: bootstrap.Parts,
    slack: SlackService | None,
    listener: socket.socket,
    metrics: Metrics,
) -> None:
    import uvicorn

    from metaflowbot.web import app as web

    application = web.build(parts.bot, settings, slack.dispatch if slack else None, metrics, parts)
    config = uvicorn.Config(
        application,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    threading.Thread(target=_prepare, args=(parts,), name="prepare", daemon=True).start()
    keep = (parts, settings.record.keep_days)
    threading.Thread(target=_expire_daily, args=keep, name="expire", daemon=True).start()
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"model {settings.model}; Slack {settings.slack_mode}; ask at http://{shown}:{port}/")
    uvicorn.Server(config).run(sockets=[listener])


def _prepare(parts: bootstrap.Parts) -> None:
    """Load index and embedding model before the first question, and say whether that worked."""
    missing = parts.bot.missing()
    if missing:
        say("not ready: " + "; ".join(missing), logging.WARNING)
        return
    try:
        parts.bot.search("metaflow")
    except MetaflowbotError as error:
        say(f"not ready: {error}", logging.WARNING)
        return
    # What is loaded now, libraries above all, stays: without this the collector walks all of it
    # again and again, and nothing else runs for a third of a second.
    gc.collect()
    gc.freeze()
    say(f"ready: index {parts.bot.generation()}")


def _expire_daily(parts: bootstrap.Parts, keep_days: int) -> None:
    """Erase what has been kept long enough, at the start and once a day."""
    while True:
        try:
            erased = parts.store.expire(keep_days)
            if any(erased.values()):
                telemetry.event("expired", **erased)
        except StoreError as error:
            say(f"old answers could not be erased: {error}", logging.WARNING)
        time.sleep(_DAY_SECONDS)
