"""What changed of one repository since it was read last, through GitHub's APIs into its archive.

The list of issues is read whole, oldest first: so its pages stay as they are but where something
changed, GitHub answers 304 for the others (which its rate limit does not count), and an issue that
is on none of them is gone. Of discussions the list holds numbers and times alone, and a hundred
of them cost one point of the limit. What a list shows as unchanged is not read again.

A reaction to a comment changes no list: it is seen when something else in the thread changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ingest.sources import Omission
from ingest.sources.github_api import GitHub, GitHubRefusalError
from ingest.sources.github_archive import Archive, Page, Said, Talk
from ingest.sources.github_json import (
    Comment,
    Discussion,
    Issue,
    ListedDiscussion,
    PageInfo,
    Post,
)
from ingest.sources.github_markdown import cleaned
from metaflowbot.scrub import scrub

_Model = TypeVar("_Model", bound=BaseModel)

_GONE = (404, 410)
_DISCUSSIONS = """
query ($owner: String!, $name: String!, $after: String) {
  repository(owner: $owner, name: $name) {
    discussions(first: 100, after: $after, orderBy: {field: CREATED_AT, direction: ASC}) {
      pageInfo { hasNextPage endCursor }
      nodes { number updatedAt answerChosenAt closed comments { totalCount } }
    }
  }
}
"""
# Of the replies to one comment the first hundred: more would have to be asked for one by one.
_DISCUSSION = """
query ($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    discussion(number: $number) {
      title url body createdAt authorAssociation closed stateReason
      answerChosenBy { login __typename }
      author { login __typename }
      comments(first: 50, after: $after) {
        pageInfo { hasNextPage endCursor }
        nodes {
          body createdAt authorAssociation isAnswer isMinimized
          author { login __typename }
          reactions(first: 50) { nodes { content user { login } } }
          replies(first: 100) {
            nodes {
              body createdAt authorAssociation isAnswer isMinimized
              author { login __typename }
            }
          }
        }
      }
    }
  }
}
"""


class Reader:
    """Brings the archive of one repository, 'owner/name', up to date.

    `decorators` are names that with an @ before them are no person. `omissions` takes what of the
    repository can't be read.
    """

    def __init__(
        self,
        api: GitHub,
        repository: str,
        archive: Archive,
        decorators: frozenset[str],
        omissions: list[Omission],
    ) -> None:
        self._api = api
        self._repository = repository
        self._archive = archive
        self._decorators = decorators
        self._omissions = omissions

    def update(self) -> None:
        """Read what changed; what was read is in the archive even where this raises.

        Raises GitHubRefusalError where nothing of the repository may be read, and what GitHub's
        calls raise. A private repository counts as one that is not there: whoever may ask the bot
        would read it.
        """
        about = self._api.get(f"/repos/{self._repository}")
        if about.get("visibility", "private" if about.get("private") else "public") == "private":
            raise GitHubRefusalError(404, "it is private: only public repositories are read")
        try:
            keys = self._of("issues", self._issues) if about.get("has_issues", True) else set()
            if about.get("has_discussions", True):
                keys |= self._of("discussions", self._discussions)
            self._archive.only(keys)
        finally:
            self._archive.save()

    def _of(self, kind: str, read: Callable[[], set[str]]) -> set[str]:
        """The keys of one kind; those that are kept where the token may not read this kind."""
        try:
            return read()
        except GitHubRefusalError as error:
            why = f"GitHub refuses them to GITHUB_TOKEN ({error})"
            self._omissions.append(Omission(f"{self._repository} {kind}", why))
            return {key for key in self._archive.talks if key.startswith(kind)}

    def _issues(self) -> set[str]:
        listing = "state=all&sort=created&direction=asc&per_page=100"
        url = self._api.url(f"/repos/{self._repository}/issues?{listing}")
        pages: dict[str, Page] = {}
        while url and url not in pages:
            last = self._archive.pages.get(url)
            pages[url] = page = self._issue_page(url, last)
            if page is not last:
                self._archive.pages[url] = page
                self._archive.save()
            url = page.following
        self._archive.pages = pages
        return {key for page in pages.values() for key in page.keys}

    def _issue_page(self, url: str, last: Page | None) -> Page:
        """A page whose issues are all in the archive."""
        answer = self._api.page(url, last.etag if last else "")
        if answer.entries is None and last:
            return last
        issues = [it for it in self._valid(Issue, answer.entries or (), url) if not it.pull_request]
        for issue in issues:
            if not self._archive.known(issue.key, issue.fingerprint):
                self._put(issue.key, partial(self._whole_issue, issue))
        keys = tuple(issue.key for issue in issues if issue.key in self._archive.talks)
        return Page(answer.etag, keys, answer.following)

    def _whole_issue(self, issue: Issue) -> Talk:
        path = f"/repos/{self._repository}/issues/{issue.number}/comments?per_page=100"
        entries = self._api.pages(path) if issue.comments else ()
        return issue.talk(self._valid(Comment, entries, issue.key))

    def _discussions(self) -> set[str]:
        keys = set()
        for listed in self._valid(ListedDiscussion, self._listed(), "discussions"):
            if not self._archive.known(listed.key, listed.fingerprint):
                self._put(listed.key, partial(self._whole_discussion, listed))
            if listed.key in self._archive.talks:
                keys.add(listed.key)
        return keys

    def _listed(self) -> Iterator[Any]:
        more = PageInfo(has_next_page=True)
        while more.has_next_page:
            listed = self._ask(_DISCUSSIONS, after=more.end_cursor).get("discussions") or {}
            yield from listed.get("nodes") or ()
            more = PageInfo.model_validate(listed.get("pageInfo") or {})

    def _whole_discussion(self, listed: ListedDiscussion) -> Talk | None:
        posts: list[Post] = []
        discussion: Discussion | None = None
        more = PageInfo(has_next_page=True)
        while more.has_next_page:
            data = self._ask(_DISCUSSION, number=listed.number, after=more.end_cursor)
            found = [*self._valid(Discussion, [data.get("discussion")], listed.key)]
            if not found:
                return None
            discussion = found[0]
            posts += discussion.comments.nodes
            more = discussion.comments.page_info
        return discussion.talk(listed, posts) if discussion else None

    def _put(self, key: str, read: Callable[[], Talk | None]) -> None:
        """Take a talk in; one that was deleted or moved since the list was read goes."""
        try:
            talk = read()
        except GitHubRefusalError as error:
            if error.status not in _GONE:
                raise
            talk = None
        if talk:
            self._archive.talks[key] = _kept(talk, self._decorators)
        else:
            self._archive.talks.pop(key, None)

    def _ask(self, query: str, **variables: object) -> Mapping[str, Any]:
        owner, _, name = self._repository.partition("/")
        repository = self._api.query(query, owner=owner, name=name, **variables).get("repository")
        return repository if isinstance(repository, dict) else {}

    def _valid(self, model: type[_Model], entries: Iterable[Any], where: str) -> Iterator[_Model]:
        for entry in entries:
            try:
                yield model.model_validate(entry)
            except ValidationError as error:
                fault: Any = error.errors()[0]
                field = ".".join(map(str, fault["loc"])) or "it"
                what = f"{self._repository} {where}: {field}"
                self._omissions.append(Omission(what, f"not a {model.__name__.lower()} of GitHub"))


def _kept(talk: Talk, decorators: frozenset[str]) -> Talk:
    """As it is kept: oldest comment first, every text cleaned and scrubbed, the finds counted."""
    comments = sorted(talk.comments, key=lambda said: said.at)
    removed: Counter[str] = Counter()

    def scrubbed(text: str) -> str:
        found = scrub(text)
        removed.update(found.counts)
        return found.text

    kept: list[Said] = []
    earlier = ""
    for said in (talk.opening, *comments):
        kept.append(replace(said, text=scrubbed(cleaned(said.text, earlier, decorators))))
        earlier += f"\n{said.text}"
    title = scrubbed(cleaned(talk.title, "", decorators))
    opening, *rest = kept
    return replace(talk, title=title, opening=opening, comments=tuple(rest), removed=dict(removed))
