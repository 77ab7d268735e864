"""What a message leans on: the earlier messages without which it can't be understood.

People change the subject in a thread as often as they go on with it, so earlier words count only
where the message points back: it opens with "and", speaks of "it", or says next to nothing.
"""

from __future__ import annotations

import re

from metaflowbot.domain import Question
from metaflowbot.lexical import terms

# So many earlier messages of the asker are looked at: what is further back is seldom meant.
_REACH = 4
_CHARS = 2000
_ANSWER_CHARS = 300
# A message with fewer different terms says too little by itself.
_FEWEST_TERMS = 4

_GOES_ON = re.compile(
    r"\W*(?:(?:ok|okay|thanks|thx|cool|great|hm+|yes|no|right|sure)\b\W*)*"
    r"(?:and|but|or|so|then|also|what about|how about|what if|instead|with|without|only|same)\b",
    re.IGNORECASE,
)
_POINTS_BACK = re.compile(
    r"\b(?:it|its|it['’]s|that|this|these|those|them|they|there|then|ones?|same|instead|too|also|"
    r"else|again|still|above|previous|(?:does|did)(?:n['’]?t| not) (?:work|help))\b",
    re.IGNORECASE,
)
# The same words where they point at nothing before: "is it possible", "the file that is read".
_POINTS_NOWHERE = re.compile(
    r"\b(?:is it|it is|it['’]s) (?:possible|ok|fine)\b"
    r"|\bthat (?:is|are|can|has|have|was|were|runs?|does)\b"
    r"|\bthere (?:is|are)\b|\b(?:is|are) there\b|\bone of\b|\band then\b"
    r"|\bthis (?:is|error|message)\b",
    re.IGNORECASE,
)
_BEGINS_ANEW = re.compile(
    r"\W*(?:(?:an?)?(?:different|another|other|new|next|separate|unrelated)\b.{0,25}?"
    r"\b(?:question|topic|thing|issue|problem)\b|unrelated\b|on another note\b|something else\b"
    r"|btw\b|by the way\b)",
    re.IGNORECASE,
)


def leaned_on(question: Question) -> str:
    """What was said before, back to a message that stands by itself; '' where the question does.

    Of the bot's answers it is how they begin: they call by name what was asked about.
    """
    if not _leans(question.text):
        return ""
    said: list[str] = []
    asked = 0
    for turn in reversed(question.history):
        if turn.role == "assistant":
            said.insert(0, turn.content[:_ANSWER_CHARS])
            continue
        said.insert(0, turn.content[:_CHARS])
        asked += 1
        if asked == _REACH or not _leans(turn.content):
            break
    return "\n".join(said) if asked else ""


def _leans(text: str) -> bool:
    if _BEGINS_ANEW.match(text):
        return False
    points_back = _POINTS_BACK.search(_POINTS_NOWHERE.sub(" ", text))
    return bool(_GOES_ON.match(text) or points_back) or len(set(terms(text))) < _FEWEST_TERMS
