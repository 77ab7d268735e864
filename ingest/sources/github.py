"""Issues and discussions of GitHub repositories that hold an answer that worked.

They are read with a token through GitHub's REST and GraphQL APIs, kept scrubbed under the home,
and read again only where something changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ingest.sources import Item, NotSetUpError, Omission
from ingest.sources.github_api import GitHub, GitHubRefusalError, GitHubWaitError
from ingest.sources.github_archive import Archive
from ingest.sources.github_reader import Reader
from ingest.sources.github_threads import documents
from metaflowbot import metaflow_api
from metaflowbot.errors import SettingsError, SourceError
from metaflowbot.settings import Settings

_REPOSITORY = re.compile(r"[A-Za-z0-9-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class GitHubThreads:
    """The threads of the repositories that `settings` names, kept in the folder `cache`.

    Raises SettingsError where one of them is not named as 'owner/name'.
    """

    settings: Settings
    cache: Path
    name: str = "github"

    def __post_init__(self) -> None:
        for repository in self.settings.sources.github.repositories:
            if not _REPOSITORY.fullmatch(repository):
                raise SettingsError(
                    f"sources.github.location: '{repository}' is no repository: "
                    "name it as 'owner/name'"
                )

    def read(self) -> Iterator[Item]:
        """Yield a Document for each resolved thread and an Omission for each that was left out.

        Raises NotSetUpError without a token, and SourceError when GitHub refuses the token, does
        not answer, or gives nothing. When its rate limit is used up what was read is given: the
        next run goes on from there.
        """
        repositories = self.settings.sources.github.repositories
        if not repositories:
            raise NotSetUpError("name repositories as sources.github.location in metaflowbot.toml")
        if not self.settings.github_token.get_secret_value():
            named = ", ".join(repositories)
            raise NotSetUpError(f"set GITHUB_TOKEN to read issues and discussions of {named}")
        archives = {name: Archive.load(self._path(name)) for name in repositories}
        self._sweep()
        omissions = self._update(archives)
        yield from omissions
        if omissions and not any(archive.talks for archive in archives.values()):
            raise SourceError("; ".join(f"{it.what}: {it.why}" for it in omissions))
        for name, archive in archives.items():
            yield from documents(name, list(archive.talks.values()))

    def _update(self, archives: dict[str, Archive]) -> list[Omission]:
        """Bring them up to date; what of them can't be read now is named, and stays as it was.

        What is no longer to be seen at all goes.
        """
        omissions: list[Omission] = []
        decorators = _decorators()
        with GitHub(self.settings) as api:
            for name, archive in archives.items():
                reader = Reader(api, name, archive, decorators, omissions)
                try:
                    reader.update()
                except GitHubWaitError as error:
                    return [*omissions, Omission(name, str(error))]
                except GitHubRefusalError as error:
                    if error.status == 404:
                        archive.only(())
                        archive.path.unlink(missing_ok=True)
                    omissions.append(Omission(name, f"GitHub refuses it to GITHUB_TOKEN ({error})"))
        return omissions

    def _path(self, repository: str) -> Path:
        return self.cache / f"{repository.replace('/', '__')}.json"

    def _sweep(self) -> None:
        """Delete what was kept of repositories that are not to be read any more."""
        wanted = {self._path(name) for name in self.settings.sources.github.repositories}
        for path in self.cache.glob("*"):
            if path not in wanted:
                path.unlink()


@cache
def _decorators() -> frozenset[str]:
    """The names of Metaflow's decorators, which people write with an @ as they write people's."""
    symbols = metaflow_api.load().symbols.values()
    return frozenset(it.short for it in symbols if it.kind in ("decorator", "flow-decorator"))
