from __future__ import annotations

import pytest

from ingest.download import gate_for, kind_of
from metaflowbot.errors import SourceError


def test_a_location_that_is_no_url_or_cannot_be_found_is_told() -> None:
    with pytest.raises(SourceError, match="is not an http or https URL"):
        gate_for("ftp://127.0.0.1/llms.txt")
    with pytest.raises(SourceError, match="can't be found"):
        gate_for("https://labs..example/llms.txt")


def test_a_loopback_location_may_use_plain_http_there() -> None:
    gate = gate_for("http://127.0.0.1:1/llms.txt")
    assert gate.admit("http://127.0.0.2/llms.txt") == "127.0.0.2"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://127.0.0.1/x", "a loopback address"),
        ("https://[::1]/x", "a loopback address"),
        ("https://[::ffff:10.0.0.1]/x", "a private address"),
        ("http://8.8.8.8/x", "not an https URL"),
    ],
)
def test_from_a_public_location_nothing_leads_inside_or_to_plain_http(
    url: str, reason: str
) -> None:
    gate = gate_for("https://8.8.8.8/llms-full.txt")
    assert gate.admit("https://1.1.1.1/llms.txt") == "1.1.1.1"
    with pytest.raises(SourceError, match=reason):
        gate.admit(url)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.216.34", "public"),
        ("127.0.0.2", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("0.0.0.0", "private"),
        ("224.0.0.1", "private"),
        ("fc00::1", "private"),
    ],
)
def test_every_address_is_of_a_known_kind(address: str, kind: str) -> None:
    assert kind_of(address) == kind
