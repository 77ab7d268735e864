"""Secrets and personal data out of text that people wrote, before it is stored or embedded.

Own rules come first, because they see a secret in its surroundings: a header, an assignment, a
URL. The token formats that detect-secrets knows come after them. Its keyword, entropy and address
detectors are not used: on prose and code they find parameters, digests and versions.

Kept on purpose: bucket names and production tokens such as `production:HelloFlow-0-abcd` (names,
not credentials: an answer makes little sense without them), addresses that mean the same
everywhere (127.0.0.1, 10.0.0.0/8, host.docker.internal, *.cluster.local), run ids, versions,
image digests and UUIDs outside of a secret's assignment.
"""

from __future__ import annotations

import importlib
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """Text with a placeholder like `[removed: aws key]` for each find, and the finds by kind."""

    text: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Rule:
    """Removes the group `value` (without one, the whole match) where `accept` agrees."""

    kind: str
    pattern: re.Pattern[str]
    accept: Callable[[re.Match[str]], bool] = lambda _: True


class _Detector(Protocol):
    secret_type: str

    def analyze_string(self, string: str) -> Iterable[str]: ...


def scrub(text: str) -> Scrubbed:
    """Replace what must not be stored; '' gives ''. Scrubbing twice changes nothing more."""
    counts: Counter[str] = Counter()
    for rule in _RULES:
        text = _apply(rule, text, counts)
    for detector in _detectors():
        kind = detector.secret_type.lower().replace("detector", "").strip()
        for value in sorted(set(detector.analyze_string(text)), key=len, reverse=True):
            if value and _MARK not in value and value in text:
                counts[kind] += text.count(value)
                text = text.replace(value, _placeholder(kind))
    return Scrubbed(text, dict(counts))


def _placeholder(kind: str) -> str:
    return f"{_MARK} {kind}]"


def _apply(rule: _Rule, text: str, counts: Counter[str]) -> str:
    group: str | int = "value" if "value" in rule.pattern.groupindex else 0

    def replace(match: re.Match[str]) -> str:
        value = match[group]
        if value is None or _MARK in value or not rule.accept(match):
            return match[0]
        counts[rule.kind] += 1
        start, end = (place - match.start() for place in match.span(group))
        return match[0][:start] + _placeholder(rule.kind) + match[0][end:]

    return rule.pattern.sub(replace, text)


def _entropy(value: str) -> float:
    """Shannon's entropy in bits a character; 0 for ''."""
    shares = (count / len(value) for count in Counter(value).values())
    return -sum(share * math.log2(share) for share in shares)


def _has_digit(value: str) -> bool:
    return any(character.isdigit() for character in value)


def _is_reference(value: str) -> bool:
    """A value that names where the secret comes from, or stands in its place."""
    return bool(_REFERENCE.match(value)) or len(set(value)) < 3


def _is_secret_value(match: re.Match[str]) -> bool:
    """A literal that only a machine would write, next to a name such as `token` or `api_key`."""
    value = match["value"]
    if _is_reference(value) or _WORDS.match(value):
        return False
    # "the token is …", without a sign between, is prose more often than not.
    kinds, least = (3, 16) if match["sign"] is None else (2, 8)
    found = sum(bool(re.search(kind, value)) for kind in (r"[a-z]", r"[A-Z]", r"\d"))
    return found >= kinds and len(value) >= least and _has_digit(value) and _entropy(value) >= 2.8


def _is_password(match: re.Match[str]) -> bool:
    """Any literal after `password=`; in prose ("password: see below") only what is no word."""
    value = match["value"]
    if _is_reference(value) or len(value) < 4:
        return False
    is_name = re.fullmatch(r"[A-Za-z_]\w*", value) and not _has_digit(value)
    if is_name and not match["quote"]:
        follows = match.string[match.end("value") :][:1]
        is_assigned = "=" in match["sign"] or match["key"].isupper()
        return is_assigned and follows not in tuple(",).([")
    return True


def _is_bare_aws_secret(match: re.Match[str]) -> bool:
    """40 characters of base64 with all kinds of characters; a commit's hash has only some."""
    value = match[0]
    kinds = (r"[a-z]", r"[A-Z]", r"\d")
    is_path = value.count("/") > 4 or bool(re.search(r"/[a-z]{6,}/", value))
    return all(re.search(kind, value) for kind in kinds) and _entropy(value) > 4.2 and not is_path


def _is_own_address(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.ip_interface(match["value"]).ip
    except ValueError:
        return False
    before = match.string[max(0, match.start() - 14) : match.start()]
    return match["value"] not in _EVERYONES and not (
        address.is_loopback
        or address.is_unspecified
        or address.is_link_local
        or match["value"].startswith("255.")
        or _VERSION_BEFORE.search(before)
    )


def _is_phone(match: re.Match[str]) -> bool:
    return 8 <= len(re.sub(r"\D", "", match[0])) <= 15


def _is_host(match: re.Match[str]) -> bool:
    """Not the attribute of a module (`threading.local()`), and not a name everyone has."""
    name = match["value"].lower()
    if name.endswith(("cluster.local", "docker.internal", "google.internal")):
        return False
    start = max(0, match.start() - 8)
    return not re.search(r"(?:import|from)\s+$|\$\{?$", match.string[start : match.start()])


def _rule(
    kind: str, pattern: str, accept: Callable[[re.Match[str]], bool] = lambda _: True
) -> _Rule:
    return _Rule(kind, re.compile(pattern), accept)


_MARK = "[removed:"
_EVERYONES = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/0", "8.8.8.8", "1.1.1.1"}
_REFERENCE = re.compile(
    r"""(?ix) [<{\[(…] | \$[{(] | %\( | os\. | env[.\[(] | getenv\b | (?:self|config|settings)\.
    | (?: \$[a-z_]+ | %\w+% | \*+ | \.{3} | xxx+\S* | none | null | true | false | redacted
        | your[-_\ ]\S* | my[-_](?:password|token|key) | change-?me | example | password | secret
        | token | (?:production|user):.* | mfprj-.* | https?:.* | arn:.* | s3:.* | /.* )\Z""",
)
# `aws-secrets-manager`, `metaflow_db_credentials-2`: words and short numbers, joined.
_WORDS = re.compile(r"[a-z]+\d{0,2}(?:[-_.:/][a-z]*\d{0,3})*\Z|[A-Z]+(?:_[A-Z\d]+)*\Z")
_VERSION_BEFORE = re.compile(
    r"(?i)(?:[=<>~!]=|[<>^~-]|\bv|version|release|release\s+\w+)[\s`'\"]*\Z"
)
_ASSIGN = r"(?P<sign>\s*(?:=>|:=|[:=])\s*)(?P<quote>[\"'`]?)"
_END = r"(?<![A-Za-z0-9])"

_RULES = (
    _rule(
        "private key",
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?"
        r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    _rule(
        "slack webhook",
        r"https://hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/[\w/-]+",
    ),
    _rule("webhook", r"https://(?:discord(?:app)?\.com/api|[\w.-]*webhook\.office\.com)/[\w/@-]+"),
    _rule(
        "password in url",
        r"(?<![\w+.-])[a-zA-Z][\w+.-]{0,20}://(?P<value>[^\s/:@<>\"'`]{0,200}:[^\s/<>\"'`]{1,300})@",
    ),
    _rule("token in url", r"https?://(?P<value>[A-Za-z0-9_-]{16,})@"),
    _rule(
        "signature in url",
        r"(?i)[?&](?:sig|signature|x-amz-signature|x-amz-security-token|x-amz-credential"
        r"|x-goog-signature|access_token|api_?key|token)=(?P<value>[^&\s\"'`<>)]{8,})",
    ),
    _rule("slack token", r"\bxox[a-z](?:\.xox[a-z])?-[\w-]{8,}|\bxapp-\d[\w-]{8,}"),
    _rule("github token", _END + r"(?:gh[pousr]_\w{16,}|github_pat_\w{20,})"),
    _rule("gitlab token", _END + r"(?:gl[a-z]{2,5}-[\w-]{20,}|GR1348941[\w-]{20,})"),
    _rule("anthropic key", _END + r"sk-ant-[\w-]{16,}"),
    _rule("openai key", _END + r"sk-(?=[\w-]*[\dA-Z])(?:proj-|svcacct-|admin-|or-v1-)?[\w-]{18,}"),
    _rule("google key", _END + r"(?:AIza[\w-]{30,}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,})"),
    _rule("stripe key", _END + r"(?:[rsp]k_(?:live|test)_|whsec_)[A-Za-z0-9]{10,}"),
    _rule("npm token", _END + r"npm_[A-Za-z0-9]{30,}"),
    _rule("pypi token", _END + r"pypi-Ag[\w-]{16,}"),
    _rule(
        "service token",
        _END + r"(?:hf_[A-Za-z0-9]{20,}|dckr_pat_[\w-]{20,}|dapi[0-9a-f]{32}|hv[sb]\.[\w-]{20,}"
        r"|glsa_\w{30,}|lin_api_\w{30,}|dop_v1_[0-9a-f]{60,}|\d{8,10}:AA[\w-]{33})",
    ),
    _rule("jwt", r"\beyJ[\w-]{6,}\.eyJ[\w-]{6,}(?:\.[\w-]*)?"),
    _rule(
        "aws key id",
        _END + r"(?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    ),
    _rule(
        "aws secret key",
        r"(?i)(?:secret[-_ ]?(?:access[-_ ]?)?key|aws_secret\w*)\W{1,6}"
        r"(?P<value>[A-Za-z0-9/+=]{36,44})(?![A-Za-z0-9/+])",
    ),
    _rule(
        "aws session token",
        r"(?i)session[-_ ]?token[\"'`]?\s*[:=]\s*[\"'`]?(?P<value>[A-Za-z0-9/+=]{40,})",
    ),
    _rule(
        "authorization header",
        r"(?i)\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|token|digest)\s+)?"
        r"(?P<value>[\w.~+/=-]{8,})",
        lambda match: not _is_reference(match["value"]),
    ),
    _rule(
        "bearer token",
        r"(?i)\bbearer\s+(?P<value>(?=[^\s]*\d)[\w.~+/=-]{8,}|[\w.~+/=-]{24,})",
    ),
    _rule("password", r"(?i)\s-u\s+(?!\d+:\d+)[\"']?(?P<value>[^\s:\"'$<{]+:[^\s\"'$<{]+)"),
    _rule(
        "password",
        r"(?i)(?<!\w)(?P<key>\w{0,40}?(?:passw(?:or)?d|passphrase|pswd|pwd|pgpass|_pass))[\"'`]?"
        + _ASSIGN
        + r"(?P<value>(?<=[\"'`])[^\"'`\s,][^\"'`\n]*|[^\s\"'`,;)]+)",
        _is_password,
    ),
    _rule(
        "password",
        r"(?i)(?:--password|\bpassword\s+(?:is|was))(?P<key>)(?P<sign>[ \t]+)(?P<quote>[\"'`]?)"
        r"(?P<value>(?=[^\s\"'`]*[\d!@#%^&*])[^\s\"'`,;]{4,})",
        _is_password,
    ),
    _rule(
        "secret",
        r"(?i)(?:secret|token|api[-_ ]?key|apikey|access[-_ ]?key|account[-_ ]?key|auth[-_ ]?key"
        r"|private[-_ ]?key|signing[-_ ]?key|encryption[-_ ]?key|credentials?|auth)[\"'`]?"
        r"(?:" + _ASSIGN + r"|[ \t]+(?:is[ \t]+)?(?=\S*\d))"
        r"(?P<value>[\w.~+/=:!@#%^&*-]{8,})",
        _is_secret_value,
    ),
    _rule("aws secret key", r"(?<![\w/+=.-])[A-Za-z0-9/+]{40}(?![\w/+=.-])", _is_bare_aws_secret),
    _rule(
        "e-mail",
        r"(?<![\w.+-])(?!git@)[\w.+-]+@(?!sha256)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
        r"(?![\w@])",
    ),
    _rule("phone", r"(?<![\w+])\+\d{1,3}(?:[\s().-]{0,2}\d){6,13}(?![\d\w])", _is_phone),
    _rule(
        "phone",
        r"(?<![\w.+/-])(?:1[-. ])?(?:\(\d{3}\)[ ]?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w/-]|\.\d)",
    ),
    _rule(
        "private host",
        r"(?<![\w.$-])(?P<value>[A-Za-z0-9](?:[\w-]*\.)+"
        r"(?:internal|corp|local|lan|intranet|private|localdomain|home\.arpa)(?:\.[a-z]{2,6})?)"
        r"(?![\w-]|\.\w|\s*\(|\s=)",
        _is_host,
    ),
    _rule(
        "private host",
        r"(?<![\w.-])(?:(?:ip|ec2)-\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}(?:\.[\w.-]+\w)?"
        r"|[\w.-]+\.(?:rds|elb|eks|cache|compute|redshift|execute-api|es)"
        r"(?:\.[a-z]{2}-[a-z-]+-\d)?\.amazonaws\.com"
        r"|[\w.-]+\.[a-z]{2}-[a-z-]+-\d\.(?:rds|elb|eks|cache|compute|redshift|execute-api|es)"
        r"\.amazonaws\.com)",
    ),
    _rule(
        "address",
        r"(?<![\w.])(?P<value>(?:\d{1,3}\.){3}\d{1,3}(?:/\d\d?)?)(?![\w]|\.\d)",
        _is_own_address,
    ),
    _rule(
        "address",
        r"(?<![\w:.])(?P<value>(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{0,4})(?![\w:])",
        _is_own_address,
    ),
    _rule("aws account", r"\barn:aws[\w-]*:[\w-]*:[\w-]*:(?P<value>\d{12})\b"),
    _rule("aws account", r"(?<!\d)(?P<value>\d{12})(?=\.dkr\.ecr\.)"),
    _rule("aws account", r"(?i)\baccount[-_ ]?(?:id|number)?\W{0,3}(?:is\s+)?(?P<value>\d{12})\b"),
    _rule("aws account", r"\bs3n?a?://[\w.-]*?(?<!\d)(?P<value>\d{12})(?!\d)"),
    _rule(
        "user name",
        r"(?:/home/|/Users/|\\Users\\+)(?!(?:ubuntu|ec2-user|user|username|me|you|runner|jovyan"
        r"|vscode|workspace|app|metaflow|root|admin|node|conda|airflow|shared|public)\b)"
        r"(?P<value>[\w][\w.-]*)",
    ),
    _rule(
        "user name",
        r"\buser:(?!(?:ubuntu|ec2-user|root|user|username|me|you|runner|jovyan|password|pass"
        r"|name|admin)\b)(?P<value>[A-Za-z][\w.-]*)",
    ),
    _rule(
        "user name",
        r"\b(?:METAFLOW_USER|SUDO_USER|USERNAME|USER)=[\"']?"
        r"(?!(?:your|my|root|ubuntu|user|name|me|ec2-user)\b)(?P<value>[A-Za-z][\w.-]*)",
    ),
)

# detect-secrets' detectors that are a token's format and nothing else.
_FORMATS = {
    "artifactory": "ArtifactoryDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "jwt": "JwtTokenDetector",
    "mailchimp": "MailchimpDetector",
    "openai": "OpenAIDetector",
    "private_key": "PrivateKeyDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "twilio": "TwilioKeyDetector",
}


@cache
def _detectors() -> tuple[_Detector, ...]:
    modules = {name: importlib.import_module(f"detect_secrets.plugins.{name}") for name in _FORMATS}
    return tuple(getattr(modules[name], kind)() for name, kind in _FORMATS.items())
