"""Loads, fills and versions the prompts: Markdown files with $slots in the folder prompts/."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from string import Template

from metaflowbot.errors import SettingsError

# The line by which a model says that the sources do not hold the answer; answer.md asks for it.
NOT_COVERED = "NOT_COVERED"

# Beside the package, in the repository as in an installation. Not by the name 'prompts', which
# another distribution might own.
_FOLDER = Path(__file__).resolve().parent.parent / "prompts"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt: Markdown with $slots (and `$$` for a dollar sign).

    `version` is the first 12 hexadecimal digits of the file's SHA-256, to be kept with each answer.
    """

    name: str
    text: str
    version: str

    def fill(self, **slots: str) -> str:
        """The text with every slot filled; dollar signs in the values stay as they are.

        Raises ValueError that names the slots which are missing or unknown.
        """
        template = Template(self.text)
        if fault := _difference(set(template.get_identifiers()), slots.keys()):
            raise ValueError(f"prompt '{self.name}' {fault}")
        return template.substitute(slots)


def version_of(*loaded: Prompt) -> str:
    """One version for several prompts: of a single one its own."""
    versions = "".join(prompt.version for prompt in loaded)
    return versions if len(loaded) == 1 else hashlib.sha256(versions.encode()).hexdigest()[:12]


def check_folder(folder: Path | None) -> None:
    """Raise SettingsError for a folder that is none, or with a prompt that nobody would read."""
    if folder is None:
        return
    if not folder.is_dir():
        raise SettingsError(f"METAFLOWBOT_PROMPTS: there is no folder {folder}: name one, or none")
    known = {path.name for path in _FOLDER.glob("*.md")}
    for path in sorted(folder.glob("*.md")):
        if path.name not in known:
            names = ", ".join(sorted(known))
            raise SettingsError(
                f"METAFLOWBOT_PROMPTS: nothing reads {path}: the prompts are {names}"
            )


def load(name: str, *slots: str, folder: Path | None = None) -> Prompt:
    """The prompt in `name`.md, which must have exactly these slots.

    A file of that name in `folder` replaces the one that comes with Metaflowbot.

    Raises SettingsError where the file can't be read, has a stray dollar sign, or lacks a slot or
    has another one; the text names it.
    """
    own = folder / f"{name}.md" if folder else None
    path = own if own and own.exists() else _FOLDER / f"{name}.md"
    try:
        data = path.read_bytes()
        template = Template(data.decode())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the prompt {path} can't be read: {error}") from None
    if not template.is_valid():
        raise SettingsError(f"the prompt {path} has a stray dollar sign: write '$$' for a literal")
    if fault := _difference(set(slots), set(template.get_identifiers())):
        raise SettingsError(f"the prompt {path} {fault}")
    return Prompt(name, template.template, hashlib.sha256(data).hexdigest()[:12])


def _difference(expected: Set[str], given: Set[str]) -> str:
    """What is wrong with the given slots, '' for nothing."""
    missing = ", ".join(f"${slot}" for slot in sorted(expected - given))
    unknown = ", ".join(f"${slot}" for slot in sorted(given - expected))
    faults = [f"lacks {missing}"] * bool(missing) + [f"does not know {unknown}"] * bool(unknown)
    return " and ".join(faults)
