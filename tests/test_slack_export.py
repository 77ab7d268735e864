"""Promises of the Slack export source: what becomes a document, what stays out, what is refused."""

import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from ingest.sources import Omission, Removed
from ingest.sources.slack_export import SlackExport
from ingest.sources.slack_reading import Known
from metaflowbot.domain import Document
from metaflowbot.errors import SourceError

EXPORT = Path(__file__).parent / "corpus" / "slack-export"
RETRY = "slack:ask/1700000000.000100"
QUESTION = "why does `train` fail with an error?"


def read(
    location: Path | str, **options: tuple[str, ...]
) -> tuple[dict[str, Document], dict[str, str]]:
    """Documents by id, and why each omission was made."""
    found = list(SlackExport(str(location), **options).read())  # type: ignore[arg-type]
    documents = {item.id: item for item in found if isinstance(item, Document)}
    return documents, {item.what: item.why for item in found if isinstance(item, Omission)}


def text(document: Document) -> str:
    return "\n".join([document.title, *(section.text for section in document.sections)])


def message(ts: str, user: str, words: str | None, **more: object) -> dict[str, object]:
    return {"type": "message", "ts": ts, "user": user, "text": words, **more}


def answered(*replies: dict[str, object], root: str = "1.0") -> list[dict[str, object]]:
    """A question, what comes between, and an answer that its asker marks."""
    mark = [{"name": "white_check_mark", "users": ["UA"], "count": 1}]
    answer = message("9.0", "UB", "set `@retry` on it", thread_ts=root, reactions=mark)
    return [message(root, "UA", QUESTION, thread_ts=root), *replies, answer]


def export(folder: Path, files: Mapping[str, object]) -> Path:
    """An export with one channel, `ask`, and these files: text as it is, other values as JSON."""
    listed = {"channels.json": [{"id": "C1", "name": "ask"}], "users.json": [], **files}
    for name, value in listed.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return folder


def zipped(folder: Path, archive: Path, top: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(folder.glob("**/*.json")):
            target.write(path, top + path.relative_to(folder).as_posix())
    return archive


def test_resolved_threads_of_public_channels_become_documents_and_nothing_else_does() -> None:
    documents, omissions = read(EXPORT)
    assert set(documents) == {RETRY, "slack:ask/1706800000.000100"}
    assert omissions["ask/1700010000.000100"].startswith("not resolved")
    assert omissions["ask/1700008000.000100"] == "not resolved: a bot's post"


def test_a_document_joins_a_thread_over_days_and_speaks_of_roles() -> None:
    documents, _ = read(EXPORT)
    document = documents[RETRY]
    assert document.title.startswith("how do I retry a flaky step?")
    assert document.url == "https://garden.slack.com/archives/C1/p1700000000000100"
    assert document.version == "2023-11-14, Metaflow 2.12.5"
    question, answer = (section.text for section in document.sections)
    assert "```\nValueError: x < 0 && y > 1\n```" in question
    assert "@retry(times=3)" in answer
    assert "[dealing with failures](https://docs.metaflow.org/scaling/failures)" in answer
    assert "The asker confirmed" in answer
    assert "by hand" not in answer


def test_no_persons_name_id_or_mention_is_in_any_document() -> None:
    documents, _ = read(EXPORT, channels=("ask", "dev", "private-room", "D1"))
    everything = "\n".join(text(document) for document in documents.values()).lower()
    users = json.loads((EXPORT / "users.json").read_text(encoding="utf-8"))
    for user in users:
        for name in {user["id"], user["name"], *user["profile"].values()}:
            assert name.lower() not in everything
    assert "<@" not in everything


def test_a_superseded_thread_says_which_later_one_supersedes_it() -> None:
    documents, _ = read(EXPORT)
    later = "https://garden.slack.com/archives/C1/p1706800000000100"
    assert f"Outdated: a later thread (2024-02-01) supersedes this: {later}" in text(
        documents[RETRY]
    )


def test_a_thread_that_addresses_an_assistant_is_held_back_for_review() -> None:
    documents, omissions = read(EXPORT)
    assert "slack:dev/1700020000.000100" not in documents
    assert "review" in omissions["dev/1700020000.000100"]


def test_private_channels_and_direct_messages_are_read_only_when_named() -> None:
    assert "marmalade" not in str(read(EXPORT))
    documents, _ = read(EXPORT, channels=("#private-room",))
    assert set(documents) == {"slack:private-room/1700030000.000100"}


def test_what_is_private_may_be_shown_in_its_own_channel_only() -> None:
    documents, _ = read(EXPORT, channels=("ask", "private-room"))
    private = [document for document in documents.values() if document.channel]
    assert [document.id for document in private] == ["slack:private-room/1700030000.000100"]
    listed = json.loads((EXPORT / "groups.json").read_text(encoding="utf-8"))
    assert private[0].channel in {channel["id"] for channel in listed}
    assert set(read(EXPORT, channels=("D1",))[0]) == {"slack:D1/1700040000.000100"}


def test_a_channel_that_is_not_in_the_export_is_named() -> None:
    assert read(EXPORT, channels=("aks",))[1] == {"aks": "there is no such channel in the export"}


def test_nothing_of_people_who_opted_out_is_read() -> None:
    assert RETRY not in read(EXPORT, known=lambda: Known(opted_out=("U1ASK",)))[0]
    assert RETRY not in read(EXPORT, known=lambda: Known(opted_out=("U3MAIN",)))[0]
    assert RETRY in read(EXPORT, known=lambda: Known(opted_out=("U2HELP",)))[0]


def test_a_zip_gives_the_same_documents_as_its_folder(tmp_path: Path) -> None:
    expected = read(EXPORT)
    assert read(zipped(EXPORT, tmp_path / "flat.zip")) == expected
    assert read(zipped(EXPORT, tmp_path / "nested.zip", "My export/")) == expected


def test_secrets_are_counted_by_kind_and_never_shown(tmp_path: Path) -> None:
    value = "ghp_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j"
    root = message("1.0", "UA", f"why does `{value}` fail? mail jo@example.com", thread_ts="1.0")
    folder = export(tmp_path, {"ask/2024-01-01.json": [root, *answered()[1:]]})
    items = list(SlackExport(str(folder)).read())
    assert value not in str(items)
    assert Removed({"github token": 1, "e-mail": 1}) in items


def test_a_broken_day_is_named_with_its_line_and_the_rest_is_kept(tmp_path: Path) -> None:
    broken = {
        "ask/2024-01-01.json": '[\n {"ts": "2.0",\n  oops}\n]',
        "ask/2024-01-02.json": {"not": "a list"},
        "ask/2024-01-03.json": "[" * 100_000,
        "ask/2024-01-04.json": answered(),
    }
    folder = export(tmp_path, broken)
    (folder / "ask/2024-01-05.json").write_bytes(b'[\n{"text": "\xff"}]')
    documents, omissions = read(folder)
    assert set(documents) == {"slack:ask/1.0"}
    places = " ".join(omissions)
    for place in ("01.json, line 3", "02.json, line 1", "03.json, line 1", "05.json, line 2"):
        assert f"ask/2024-01-{place}" in places


def test_odd_messages_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    odd: list[object] = [
        message("2.0", "UC", None, thread_ts="1.0", blocks=None, reactions=None),
        {"type": "message", "ts": "3.0", "thread_ts": "1.0"},
        message("4.0", "UC", "?", subtype="never_seen_before", thread_ts="1.0"),
        message("5.0", "USLACKBOT", "gone", subtype="tombstone", hidden=True, thread_ts="1.0"),
        {"type": "message", "text": "no ts at all"},
        message("9" * 12, "UC", "beyond all calendars", thread_ts="1.0"),
        message("6.0", "UC", "beyond all numbers?", thread_ts="9" * 400),
        "not even an object",
    ]
    first, last = answered()
    folder = export(tmp_path, {"ask/2024-01-01.json": [first, *odd, last]})
    documents, omissions = read(folder)
    assert set(documents) == {"slack:ask/1.0"}
    assert "ask/2024-01-01.json, message 6: ts" in omissions
    assert "ask/2024-01-01.json, message 7: ts" in omissions
    assert "ask/2024-01-01.json, message 9: it" in omissions


def test_of_two_messages_with_one_ts_the_later_one_counts(tmp_path: Path) -> None:
    first, last = answered()
    edited = {**last, "text": "set `@catch` on it", "edited": {"user": "UB", "ts": "10.0"}}
    documents, _ = read(export(tmp_path, {"ask/2024-01-01.json": [first, last, edited]}))
    assert "@catch" in text(documents["slack:ask/1.0"])
    assert "set `@retry`" not in text(documents["slack:ask/1.0"])


def test_an_answer_sent_to_the_channel_as_well_counts_once(tmp_path: Path) -> None:
    first, last = answered()
    shown = {**last, "subtype": "thread_broadcast", "root": first}
    documents, _ = read(export(tmp_path, {"ask/2024-01-01.json": [first, shown]}))
    assert text(documents["slack:ask/1.0"]).count("set `@retry`") == 1


def test_words_only_in_blocks_or_attachments_are_read(tmp_path: Path) -> None:
    code = {"type": "text", "text": "a < b", "style": {"code": True}}
    rich = {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_section", "elements": [
                {"type": "text", "text": "why does "}, code, {"type": "text", "text": " fail? "},
                {"type": "link", "url": "https://x.example", "text": "log"},
                {"type": "user", "user_id": "UB"}]},
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "E: x > 1"}]},
        ],
    }  # fmt: skip
    first, last = answered()
    root = {**first, "text": "", "blocks": [rich, {"type": "new_kind"}, None]}
    answer = {**last, "text": "", "attachments": [{"text": "set `@retry` on it"}, "odd"]}
    documents, _ = read(export(tmp_path, {"ask/2024-01-01.json": [root, answer]}))
    question, reply = (section.text for section in documents["slack:ask/1.0"].sections)
    assert "why does `a < b` fail? [log](https://x.example)a member" in question
    assert "```\nE: x > 1\n```" in question
    assert "set `@retry` on it" in reply


def test_replies_whose_root_is_missing_stand_under_a_deleted_one(tmp_path: Path) -> None:
    mark = [{"name": "white_check_mark", "users": ["UA"], "count": 1}]
    answer = message("9.0", "UB", "<@UA> set `@retry` on it", thread_ts="1.0", reactions=mark)
    documents, _ = read(export(tmp_path, {"ask/2024-01-01.json": [answer]}))
    assert [section.headings for section in documents["slack:ask/1.0"].sections] == [("Answer",)]


def test_a_thread_of_ten_thousand_replies_is_read(tmp_path: Path) -> None:
    crowd = [
        message(f"2.{n:06d}", f"UC{n % 50}", "+1, same error here", thread_ts="1.0")
        for n in range(10_000)
    ]
    documents, _ = read(export(tmp_path, {"ask/2024-01-01.json": answered(*crowd)}))
    assert "set `@retry`" in text(documents["slack:ask/1.0"])


def rewritten(entry: str, archive: Path, content: bytes = b"[]") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("channels.json", "[]")
        target.writestr(entry, content)
    return archive


@pytest.mark.parametrize("entry", ["../evil.json", "/etc/evil.json", "ask/../../x", "C:/evil.json"])
def test_a_zip_that_reaches_out_of_its_folder_is_refused(entry: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="outside of its folder"):
        read(rewritten(entry, tmp_path / "evil.zip"))


def test_a_zip_with_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("ask/2024-01-01.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as target:
        target.writestr("channels.json", "[]")
        target.writestr(link, "/etc/passwd")
    with pytest.raises(SourceError, match="symbolic link"):
        read(tmp_path / "link.zip")


def test_a_zip_that_explodes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = rewritten("ask/2024-01-01.json", tmp_path / "bomb.zip", b" " * 20_000_000)
    with pytest.raises(SourceError, match="times its size"):
        read(bomb)


def test_an_encrypted_zip_is_refused_with_the_way_out(tmp_path: Path) -> None:
    archive = zipped(EXPORT, tmp_path / "export.zip")
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 1)
    archive.write_bytes(data)
    with pytest.raises(SourceError, match="encrypted: unpack it first"):
        read(archive)


def test_a_damaged_zip_is_refused_in_one_line(tmp_path: Path) -> None:
    archive = zipped(EXPORT, tmp_path / "export.zip")
    data = bytearray(archive.read_bytes())
    (tmp_path / "short.zip").write_bytes(data[: len(data) // 2])
    for place in range(60, 400):
        data[place] ^= 0x55
    (tmp_path / "flipped.zip").write_bytes(data)
    (tmp_path / "text.zip").write_text("hello")
    for name in ("short.zip", "flipped.zip", "text.zip"):
        with pytest.raises(SourceError, match="ZIP file") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_link_that_leaves_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(answered()), encoding="utf-8")
    folder = export(tmp_path / "export", {"ask/2024-01-01.json": []})
    (folder / "ask/2024-01-02.json").symlink_to(outside)
    assert read(folder)[0] == {}


@pytest.mark.parametrize(
    ("make", "message_part"),
    [
        (lambda folder: folder / "missing", "does not exist"),
        (lambda folder: folder, "no channels.json"),
        (lambda folder: export(folder, {"channels.json": "[\n{"}), "channels.json, line 2"),
    ],
)
def test_what_is_no_export_is_refused_with_the_reason(
    make: object, message_part: str, tmp_path: Path
) -> None:
    assert callable(make)
    with pytest.raises(SourceError, match=message_part):
        read(make(tmp_path))
