"""GitHub's own JSON, as its REST and GraphQL APIs give it -> talks, with their texts as sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ingest.sources.github_archive import Outcome, Said, Talk
from ingest.sources.github_markdown import person

_MAINTAINERS = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})
_FRIENDLY = frozenset({"+1", "heart", "hooray", "rocket", "THUMBS_UP", "HEART", "HOORAY", "ROCKET"})
_UNFRIENDLY = frozenset({"-1", "confused", "THUMBS_DOWN", "CONFUSED"})


class _User(BaseModel):
    login: str
    type: str = "User"


class Comment(BaseModel):
    """A comment of an issue; `reactions` are counts by kind, among other things."""

    user: _User | None = None
    body: str | None = None
    created_at: datetime
    author_association: str = "NONE"
    reactions: Mapping[str, Any] | None = None

    def said(self) -> Said:
        return Said(
            author=person(self.user.login) if self.user else "",
            at=int(self.created_at.timestamp()),
            text=self.body or "",
            by_maintainer=self.author_association in _MAINTAINERS,
            by_bot=self.user is not None and self.user.type == "Bot",
            approvals=self._count(_FRIENDLY) - self._count(_UNFRIENDLY),
        )

    def _count(self, kinds: Collection[str]) -> int:
        counts = self.reactions or {}
        return sum(count for kind in kinds if isinstance(count := counts.get(kind), int))


class Issue(Comment):
    """An issue, or the pull request that the same list gives."""

    number: int
    title: str
    html_url: str
    state: str
    state_reason: str | None = None
    updated_at: str
    comments: int = 0
    pull_request: Any = None

    @property
    def key(self) -> str:
        return f"issues/{self.number}"

    @property
    def fingerprint(self) -> str:
        """Changes when the issue does, or one of its comments is written, edited or deleted."""
        return f"{self.updated_at} {self.state} {self.state_reason} {self.comments}"

    @property
    def outcome(self) -> Outcome:
        """Issues closed before there were reasons have none: they count as completed."""
        if self.state != "closed":
            return "open"
        return "completed" if self.state_reason in (None, "completed") else "not planned"

    def talk(self, comments: Iterable[Comment]) -> Talk:
        return Talk(
            key=self.key,
            url=self.html_url,
            title=self.title,
            state=self.fingerprint,
            outcome=self.outcome,
            opening=self.said(),
            comments=tuple(comment.said() for comment in comments),
        )


class _GraphQL(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class _Actor(_GraphQL):
    login: str
    kind: str = Field(default="User", alias="__typename")


class _Reaction(_GraphQL):
    content: str
    user: _Actor | None = None


class _Reactions(_GraphQL):
    nodes: tuple[_Reaction, ...] = ()


class Post(_GraphQL):
    """What a discussion, its comments and their replies have in common."""

    author: _Actor | None = None
    body: str = ""
    created_at: datetime
    author_association: str = "NONE"
    is_answer: bool = False
    is_minimized: bool = False
    reactions: _Reactions = _Reactions()
    replies: Posts | None = None

    def said(self) -> Said:
        kinds = [reaction.content for reaction in self.reactions.nodes]
        friends = (r.user.login for r in self.reactions.nodes if r.user and r.content in _FRIENDLY)
        return Said(
            author=person(self.author.login) if self.author else "",
            at=int(self.created_at.timestamp()),
            text=self.body,
            by_maintainer=self.author_association in _MAINTAINERS,
            by_bot=self.author is not None and self.author.kind == "Bot",
            accepted=self.is_answer,
            approvals=sum((kind in _FRIENDLY) - (kind in _UNFRIENDLY) for kind in kinds),
            approved_by=tuple(sorted(map(person, friends))),
        )


class PageInfo(_GraphQL):
    """Where the next page begins."""

    has_next_page: bool = False
    end_cursor: str | None = None


class Posts(_GraphQL):
    """A page of posts."""

    page_info: PageInfo = PageInfo()
    nodes: tuple[Post, ...] = ()


class ListedDiscussion(_GraphQL):
    """A discussion in the list: enough to see whether it changed."""

    number: int
    updated_at: str
    answer_chosen_at: str | None = None
    closed: bool = False
    comments: Mapping[str, int] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"discussions/{self.number}"

    @property
    def fingerprint(self) -> str:
        """Changes when the discussion does."""
        count = self.comments.get("totalCount")
        return f"{self.updated_at} {self.answer_chosen_at} {self.closed} {count}"


class Discussion(Post):
    """A discussion with a page of its comments."""

    title: str
    url: str
    closed: bool = False
    state_reason: str | None = None
    answer_chosen_by: _Actor | None = None
    comments: Posts

    @property
    def outcome(self) -> Outcome:
        if not self.closed:
            return "open"
        return "completed" if self.state_reason in (None, "RESOLVED") else "not planned"

    def talk(self, listed: ListedDiscussion, posts: Iterable[Post]) -> Talk:
        """With all its comments, and the replies to them; what was hidden stays out."""
        spoken = [reply for post in posts for reply in (post, *(post.replies or Posts()).nodes)]
        return Talk(
            key=listed.key,
            url=self.url,
            title=self.title,
            state=listed.fingerprint,
            outcome=self.outcome,
            opening=self.said(),
            comments=tuple(post.said() for post in spoken if not post.is_minimized),
            chosen_by=person(self.answer_chosen_by.login) if self.answer_chosen_by else "",
        )
