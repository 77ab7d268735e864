"""Promises of the scrubber: what must go goes, and what Metaflow's users write stays whole."""

import time

import pytest

from metaflowbot.scrub import scrub

# Joined here, so that no scanner takes this file's own made-up values for a leak.
A20, A36 = "Ab3dEf6hIj9lMn2pQr5t", "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfi" + "CYEXAMPLEKEY"
SECRETS = [
    ("aws key id", "AKIA" + "IOSFODNN7EXAMPLE", "aws_access_key_id = {}"),
    ("aws secret key", AWS_SECRET, "AWS_SECRET_ACCESS_KEY={}"),
    ("aws secret key", AWS_SECRET, "and then {} as the other one"),
    ("slack token", "xoxb-" + "123456789012-123456789012-" + A20, "our bot token `{}`"),
    ("slack token", "xapp-" + "1-A0123-456-" + A20, "SLACK_APP_TOKEN={}"),
    ("slack webhook", "https://hooks.slack.com/" + "services/T0/B0/" + A20, "--slack-url {}"),
    ("github token", "ghp_" + A36, "the PAT `{}`"),
    ("github token", "github_pat_" + A36, "git clone with {}"),
    ("gitlab token", "glpat-" + A20, "GITLAB={}"),
    ("openai key", "sk-" + A36, "it wants {} there"),
    ("openai key", "sk-proj-" + A36 + "-" + A20, "export X={}"),
    ("anthropic key", "sk-ant-api03-" + A36, "key {}"),
    ("google key", "AIza" + A36[:35], "maps {}"),
    ("stripe key", "sk_live_" + A20, "pay {}"),
    ("npm token", "npm_" + A36, "//registry/:_authToken={}"),
    ("pypi token", "pypi-AgEIcHlwaS5vcmc" + A36, "twine -p {}"),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + A20, "cookie {}"),
    ("bearer token", A20, "curl -H 'X: Bearer {}'"),
    ("authorization header", "dXNlcjpwYXNzd29yZA==", "Authorization: Basic {}"),
    ("secret", A20 + A20, "curl -H 'x-api-key: {}'"),
    ("secret", "8f14e45fceea167a5a36dedd4bea2543", "client_secret: {}"),
    ("password in url", "svc:Tr0ub4dor", "https://{}@s3.example.com/metaflow"),
    ("password in url", "metaflow:p-w", "postgresql://{}@db:5432/metaflow"),
    ("password", "hunter2!", "password = '{}'"),
    ("password", "correcthorse", "MF_METADATA_DB_PSWD={}"),
    ("password", "hunter2", "the password is {}"),
    ("password", "me:hunter2", "curl -u {} https://example.com"),
    ("e-mail", "jordan.q@example.com", "write to {}"),
    ("phone", "+1-555-0142", "or call {}"),
    ("phone", "(555) 010-0142", "or call {}"),
    ("private host", "mf-meta.eu-west.corp.internal", "https://{}/ping"),
    ("private host", "ip-10-1-2-3.us-west-2.compute.internal", "on {} it hangs"),
    ("private host", "metaflow.abc123.us-east-1.rds.amazonaws.com", "host={}"),
    ("address", "10.1.2.3", "ssh ubuntu@{}"),
    ("address", "203.0.113.7:8080", "http://203.0.113.7:8080"),
    ("address", "2001:db8:0:1:2:3:4:5", "listens on {}"),
    ("aws account", "123456789012", "arn:aws:iam::{}:role/metaflow"),
    ("aws account", "123456789012", "{}.dkr.ecr.us-east-1.amazonaws.com/python:3.11"),
    ("user name", "jordanq", 'File "/Users/{}/flows/flow.py", line 4'),
    ("user name", "jordanq", "Metaflow 2.12.5 executing HelloFlow for user:{}"),
]  # fmt: skip

ORDINARY = [
    "HelloFlow/1234/start/5 and HelloFlow/1723829756519226/train/41",
    "pip install metaflow==2.12.5 'boto3>=1.40' some-package==1.2.3.4 needs version 1.2.3.4",
    "python@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "run-id 123e4567-e89b-12d3-a456-426614174000, commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "@secrets(sources=['aws-secrets-manager.metaflow-db'])",
    "METAFLOW_DEFAULT_SECRETS_BACKEND_TYPE=aws-secrets-manager",
    "connect(user=user, password=password, token=token)",
    "password = os.environ['DB_PASSWORD']; print('the password:', os.environ['x'])",
    "kubectl create secret generic metaflow-db -n argo",
    "the production token is production:HelloFlow-0-abcd; namespace('production:HelloFlow-0-abcd')",
    "http://127.0.0.1:8080 http://localhost:8080 http://host.docker.internal:8083/ 0.0.0.0",
    "http://metaflow-service.default.svc.cluster.local:8080",
    "git@github.com:Netflix/metaflow.git and s3://my-bucket/metaflow/data",
    "local = threading.local(); self.next(self.join)",
    "metaflow/plugins/argo/argo_workflows_deployer_objects.py",
    "export USERNAME='your-name'; /home/ubuntu/flow.py /home/ec2-user/x",
    "timestamps 2024-01-11T12:30:45 and 1700000000.000100, 67108864 bytes, 10 min -> 40 s",
    "scikit-learn sk-learn-contrib-extra-metrics task-with-a-very-long-name-here",
    "https://docs.metaflow.org/scaling/dependencies/libraries#alternative-pypi-and-conda-decorators",
    "pagination token: next page; docker run -u 1000:1000 image",
]


@pytest.mark.parametrize(("kind", "value", "template"), SECRETS)
def test_a_secret_or_personal_value_is_replaced_by_a_placeholder_of_its_kind(
    kind: str, value: str, template: str
) -> None:
    scrubbed = scrub(template.format(value))
    assert value not in scrubbed.text
    assert f"[removed: {kind}]" in scrubbed.text
    assert scrubbed.counts[kind] == 1


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_metaflow_text_stays_as_it_is(text: str) -> None:
    assert scrub(text).text == text
    assert scrub(text).counts == {}


def test_a_private_key_goes_whole_even_when_its_end_was_cut_off() -> None:
    begin = "-----BEGIN RSA " + "PRIVATE KEY-----"
    assert scrub(f"see {begin}\nMIIE\nabc").text == "see [removed: private key]"
    whole = f"{begin}\nMIIE\n{begin.replace('BEGIN', 'END')} thanks"
    assert scrub(whole).text == "[removed: private key] thanks"


def test_a_format_that_only_detect_secrets_knows_goes_too() -> None:
    value = "SG." + "a1" * 11 + "." + "b2" * 21 + "c"
    assert value not in scrub(f"mail with {value} please").text


def test_scrubbing_twice_changes_nothing_more() -> None:
    once = scrub("\n".join(template.format(value) for _, value, template in SECRETS)).text
    assert scrub(once).text == once
    assert scrub(once).counts == {}


def test_empty_text_gives_empty_text() -> None:
    assert scrub("") == scrub("")
    assert scrub("").text == ""


@pytest.mark.parametrize(
    "piece", ["a", "a.", "1.", "eyJaaaaaaa.", "_pass", "https://", "a:", "A1b"]
)
def test_text_made_to_slow_it_down_is_scrubbed_in_time_that_grows_with_its_length(
    piece: str,
) -> None:
    started = time.perf_counter()
    scrub((piece * 40_000)[:40_000])
    assert time.perf_counter() - started < 5
