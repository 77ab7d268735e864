"""Prompts load, fill and carry a version."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from metaflowbot import prompts
from metaflowbot.errors import SettingsError


def a_prompt(folder: Path, text: str, *slots: str) -> prompts.Prompt:
    (folder / "greet.md").write_text(text, encoding="utf-8")
    return prompts.load("greet", *slots, folder=folder)


def test_the_answer_prompt_loads_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    text = prompts.load("answer", "sources").fill(sources="[1] about S3")

    assert "[1] about S3" in text
    assert "$" not in text


def test_the_answer_prompt_asks_for_the_line_that_the_program_looks_for() -> None:
    assert f"`{prompts.NOT_COVERED}`" in prompts.load("answer", "sources").text


def test_a_version_is_the_start_of_the_files_sha256(tmp_path: Path) -> None:
    prompt = a_prompt(tmp_path, "Hello $name.", "name")

    assert prompt.version == hashlib.sha256(b"Hello $name.").hexdigest()[:12]


def test_what_is_filled_in_is_never_searched_for_slots(tmp_path: Path) -> None:
    prompt = a_prompt(tmp_path, "$a and ${b} for $$5", "a", "b")

    assert prompt.fill(a="$b", b="$HOME ${a} $$") == "$b and $HOME ${a} $$ for $5"


def test_a_file_without_an_expected_slot_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"greet\.md lacks \$name"):
        a_prompt(tmp_path, "Hello.", "name")


def test_a_file_with_an_unknown_slot_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"lacks \$name and does not know \$nmae"):
        a_prompt(tmp_path, "Hello $nmae.", "name")


def test_a_stray_dollar_sign_is_refused_at_load(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="stray dollar sign"):
        a_prompt(tmp_path, "It costs $5.")


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.md can't be read"):
        prompts.load("absent", folder=tmp_path)


def test_filling_names_the_slots_that_are_missing_or_unknown(tmp_path: Path) -> None:
    prompt = a_prompt(tmp_path, "Hello $name.", "name")

    with pytest.raises(ValueError, match=r"'greet' lacks \$name and does not know \$nick"):
        prompt.fill(nick="x")


def test_a_prompt_of_ones_own_replaces_the_one_of_that_name_and_changes_the_version(
    tmp_path: Path,
) -> None:
    (tmp_path / "answer.md").write_text("Be brief. $sources", encoding="utf-8")
    prompts.check_folder(tmp_path)

    own = prompts.load("answer", "sources", folder=tmp_path)
    mend = prompts.load("mend", "faults", folder=tmp_path)

    assert own.fill(sources="x") == "Be brief. x"
    assert mend.text == prompts.load("mend", "faults").text
    shipped = prompts.load("answer", "sources")
    assert prompts.version_of(own, mend) != prompts.version_of(shipped, mend)


@pytest.mark.parametrize("fault", ["absent", "misspelt"])
def test_a_folder_of_prompts_that_nothing_would_read_is_refused_by_name(
    tmp_path: Path, fault: str
) -> None:
    (tmp_path / "anwser.md").write_text("Hello", encoding="utf-8")
    folder = tmp_path / "nowhere" if fault == "absent" else tmp_path

    with pytest.raises(SettingsError, match=r"METAFLOWBOT_PROMPTS: .*(nowhere|anwser\.md)"):
        prompts.check_folder(folder)
