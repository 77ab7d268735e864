"""The files of a deployment hold together, and the runbook's commands do what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from metaflowbot.bot import Vitals
from metaflowbot.domain import Answer, Feedback
from metaflowbot.index import Index
from metaflowbot.ingest_run import IngestRun
from metaflowbot.manifest import Manifest, SourceCount
from metaflowbot.settings import _ENVIRONMENT, _SECRETS, load
from metaflowbot.store import Asking, InboxHealth, Store
from metaflowbot.telemetry import Ended, ModelFault
from metaflowbot.web.metrics import Metrics
from tests.databases import PostgresServer

pytest_plugins = ["tests.databases", "tests.prebuilt"]

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RULES = DEPLOY / "alerts.yml"
ALERTS = [
    rule
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/metaflowbot.json").read_text(encoding="utf-8"))
ANSWER = Answer("a1", "why?", "so", (), False, 0.9, "openai:m", "p1", "g1", {"total": 1.0})


# Alerts and dashboard


def expressions() -> dict[str, str]:
    """Every PromQL expression, by the alert or the panel that has it."""
    found = {rule["alert"]: rule["expr"] for rule in ALERTS}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def everything_shown() -> str:
    """What /metrics says once everything that is counted has happened."""
    metrics, now = Metrics(), datetime.now(UTC)
    fault = ModelFault("openai:m", "ModelBusyError")
    metrics.ended(replace(Ended.begin("web", "", ""), answer=ANSWER, faults=(fault,)))
    metrics.rated(Feedback("a1", "web", "up"))
    metrics.request("GET", "/", 200, 0.1)
    sources = {"labs": SourceCount(1, 1)}
    manifest = Manifest("g1", 1, now.isoformat(), "local", sources, 1, {}, {})
    vitals = Vitals((), manifest, InboxHealth(0, 0.0, 0))
    return metrics.render(vitals, IngestRun(now, 1.0, True, "active: g1")).decode()


def test_every_metric_of_alerts_and_dashboard_is_one_that_is_shown() -> None:
    shown = set(re.findall(r"^(\w+)[{ ]", everything_shown(), re.MULTILINE))
    for where, expression in expressions().items():
        names = set(re.findall(r"\b(?:metaflowbot|process)_\w+", expression))
        assert names <= shown, where


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    drawn = " ".join(expressions().values())
    families = set(re.findall(r"^# TYPE (metaflowbot_\w+) ", everything_shown(), re.MULTILINE))
    counted = {name for name in families if not name.endswith("_created")}
    assert {name for name in counted if name not in drawn} == set()


def test_every_alert_says_how_urgent_it_is_and_has_its_part_in_the_runbook() -> None:
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
    assert re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE) == [rule["alert"] for rule in ALERTS]


def test_promtool_takes_the_rules_and_they_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    for words in (["check", "rules", str(RULES)], ["test", "rules", "tests/alerts_test.yml"]):
        done = subprocess.run(
            [promtool, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_overlap_and_ask_the_provisioned_data_source() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"prometheus"}


# Compose


def test_the_compose_file_is_one_by_the_published_schema() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    line = [tool, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_every_service_is_limited_restarted_and_kept_from_new_privileges() -> None:
    for name, service in SERVICES.items():
        assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert service["restart"] == "unless-stopped"
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"]["max-size"]


def test_our_services_have_a_read_only_root_and_no_capabilities() -> None:
    for name in ("bot", "ingest", "chroma"):
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_database_and_vectors_are_on_a_network_without_a_way_out_or_in() -> None:
    assert COMPOSE["networks"]["data"]["internal"] is True
    for name in ("postgres", "chroma"):
        assert SERVICES[name]["networks"] == ["data"]
        assert "ports" not in SERVICES[name]


def test_ports_are_published_on_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_named_file_volume_secret_and_network_is_there() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys(), name
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (ROOT / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
            assert known, volume


def test_secrets_reach_the_bot_by_files_that_make_secrets_has_made(tmp_path: Path) -> None:
    made = secrets_in(tmp_path)
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == made.keys()
    given = {
        name: value.replace("/run/secrets", str(tmp_path / "secrets"))
        for name, value in SERVICES["bot"]["environment"].items()
        if name.endswith("_FILE")
    }
    secret_names = {f"{name}_FILE" for name, field in _ENVIRONMENT.items() if field in _SECRETS}
    assert given.keys() <= secret_names
    assert not SERVICES["bot"]["environment"].keys() & {n.removesuffix("_FILE") for n in given}
    settings = load({**given, "METAFLOWBOT_HOME": str(tmp_path)})
    assert settings.api_token.get_secret_value() == made["api_token"]
    assert made["postgres_password"] in settings.sqlalchemy_url
    assert (settings.slack_mode, settings.model) == ("off", "none")


def test_made_secrets_are_of_their_owner_alone_and_are_never_made_anew(tmp_path: Path) -> None:
    before = secrets_in(tmp_path)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    (tmp_path / "secrets" / "slack_bot_token").write_text("xoxb-pasted")
    assert secrets_in(tmp_path) == {**before, "slack_bot_token": "xoxb-pasted"}
    assert len(before["api_token"]) >= 32
    assert before["api_token"] != before["postgres_password"]


def secrets_in(folder: Path) -> dict[str, str]:
    line = ["make", "-s", "-f", str(ROOT / "Makefile"), "secrets"]
    subprocess.run(line, cwd=folder, check=True, timeout=60)
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


# The image


def test_the_image_runs_as_nobody_special_and_checks_its_health() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert "ARG PYTHON_IMAGE=" in DOCKERFILE.partition("\nFROM ")[0]
    assert "--require-hashes --no-deps -r requirements.lock" in DOCKERFILE


def test_the_build_copies_what_is_there_and_sees_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {name for line in copies for name in line.split()}
    assert "*" in ignored
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_what_is_installed_is_locked_with_hashes_and_without_published_holes() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", lock, re.MULTILINE))
    assert lock.count("--hash=sha256:") >= len(locked) > 100
    assert "://" not in lock
    # CVE-2026-48710 and CVE-2026-54283 are closed in 1.3.1.
    assert tuple(map(int, locked["starlette"].split("."))) >= (1, 3, 1)


def test_no_secret_of_a_deployment_is_kept_in_the_repository_or_in_the_image() -> None:
    kept_out = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"secrets/", ".env"} <= set(kept_out)
    for line in DOCKERFILE.splitlines():
        assert not re.search(r"(TOKEN|SECRET|KEY|PASSWORD)=", line), line


# Back-up and restore, by the runbook's own commands


def commands(above: str) -> list[str]:
    """The lines of the first block of commands after this line of the runbook."""
    _, found, rest = RUNBOOK.partition(above)
    assert found, above
    block = re.search(r"(?:^    .+\n)+", rest, re.MULTILINE)
    assert block
    return [line.strip() for line in block[0].splitlines()]


def run(lines: list[str], **names: str) -> None:
    for line in lines:
        subprocess.run(
            ["bash", "-euc", line],
            check=True,
            env={"PATH": os.environ["PATH"], **names},
            timeout=60,
        )


def keep(store: Store, answer_id: str) -> None:
    store.save_answer(replace(ANSWER, id=answer_id), Asking("slack:U1"))
    store.rate(Feedback(answer_id, "slack:U2", "up"))


def test_a_bot_on_sqlite_comes_back_from_its_back_up(home: Path, tmp_path: Path) -> None:
    names = {"METAFLOWBOT_HOME": str(home), "BACKUP": str(tmp_path / "kept")}
    (tmp_path / "kept").mkdir()
    store = Store.open(f"sqlite:///{home}/metaflowbot.db")
    keep(store, "before")
    run(commands("SQLite, while the bot runs"), **names)
    keep(store, "after")
    active = Index(home).active_id()
    store.close()
    (home / "index" / "current").write_text("damaged")
    run(commands("Restore, with the bot stopped"), **names)
    store = Store.open(f"sqlite:///{home}/metaflowbot.db")
    assert [each.answer_id for each in store.rated()] == ["before"]
    store.close()
    assert Index(home).active_id() == active
    assert len(Index(home).load().passages) == 12


def test_a_database_on_postgresql_comes_back_from_its_back_up(
    postgres: PostgresServer, postgres_url: str, postgres_programs: Path, tmp_path: Path
) -> None:
    name = postgres_url.partition("@/")[2].partition("?")[0]

    def here(lines: list[str]) -> list[str]:
        """The commands for PostgreSQL, on this machine instead of in its container."""
        ours = [line for line in lines if "exec -T postgres" in line]
        assert len(ours) == 1
        line = ours[0].removeprefix("docker compose exec -T postgres ")
        line = line.replace("-U metaflowbot", "-U bot")
        for option in ("-d", "-Fc"):
            line = line.replace(f"{option} metaflowbot", f"{option} {name}")
        return [f"{postgres_programs}/{line}"]

    names = {"BACKUP": str(tmp_path), "PGHOST": postgres.home}
    store = Store.open(postgres_url)
    keep(store, "before")
    run(here(commands("PostgreSQL in Docker, while the bot runs")), **names)
    keep(store, "after")
    store.close()
    run(here(commands("Restore, into a database that is there")), **names)
    store = Store.open(postgres_url)
    assert [each.answer_id for each in store.rated()] == ["before"]
    keep(store, "later")
    store.close()
