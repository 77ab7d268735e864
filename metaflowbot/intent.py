"""What kind of message it is, by how it is put: a question, or one that no source can answer.

The patterns name ways of asking, not subjects. A message that none of them takes is a question;
whether the sources answer it, the search has to say.
"""

from __future__ import annotations

import re
from typing import Literal

from metaflowbot.lexical import terms
from metaflowbot.vocabulary import Vocabulary

Intent = Literal["question", "instruction", "private", "business", "elsewhere", "small talk"]
"""`instruction`: to the assistant, about what to say or be. `private`: secrets, other people's
messages, the host. `business`: prices, plans, promises. `elsewhere`: about another tool, as it
says itself. `small talk`: chat, and writing for fun."""

_ASKED = r"\b(?:what'?s|what is|reveal|tell me|give me|show me|list|print|disclose)\b[^.?!\n]{0,60}"
_INSTRUCTION = (
    r"\byour (?:\w+ ){0,2}(?:instructions?|prompts?|rules?|filters|restrictions|stored)\b",
    r"\b(?:system|hidden|initial) prompt\b|\bdeveloper mode\b|^\W*system\b\W*:"
    r"|^#{2,}\s*\w+\s*#{2,}",
    r"\b(?:you are now|you're now|from now on,? you|role.?play|let'?s play a|pretend)\b|^act as\b",
    r"\b(?:ignore|forget|disregard)\b[^.?!]{0,40}\b(?:instructions?|rules?|documentation|docs"
    r"|restrictions?|citations?|guidelines|messages above|everything above)\b",
    r"\b(?:repeat|say|output|print|echo)\b[^.?!\n]{0,30}\b(?:exactly|verbatim"
    r"|word for word|after me)\b",
    r"\b(?:answer|reply|respond|start|end)\b[^.?!\n]{0,30}\b(?:only with|with only|nothing else"
    r"|every sentence|with yes|with no)\b|\bnothing else:|\byou must (?:reply|answer|say|agree)\b",
    r"\babove\b[^.?!]{0,20}\bverbatim\b|\bcomplete this (?:text|sentence)\b|\brepeat the word\b",
    r"\bno (?:sources|citations)\b|\bmake (?:one|it|some|something|them) up\b|\bfabricate\b"
    r"|\b(?:make up|invent)\b[^.?!]{0,30}\b(?:sources?|links?|citations?|pages?|answers?|quotes?"
    r"|references?|decorators?|facts?)\b|\banswer every question\b",
    r"\b(?:phishing|jailbreak|no restrictions)\b|<!|(?<![\w`])@(?:here|everyone|channel)\b",
    r"\bpost the following\b|\b(?:visit|click|log in)\b[^\n]{0,60}https?://(?!\S*metaflow)",
    r"</?(?:source|system|assistant|user)s?>|<script\b|\bscript tag\b|\bdo what it says\b",
)
_PRIVATE = (
    r"\b(?:private channels?|direct messages?|in dms|\bdms? (?:from|to)|send a dm)\b",
    r"\b(?:other (?:users?|people|persons?)|people|users) (?:\w+ )?(?:sent|asked|wrote|left)\b",
    r"\bwhat (?:did|has) (?!the\b|a\b|it\b|i\b|my\b|our\b|metaflow\b)\w+ (?:say|said|wr[io]te)\b",
    r"\b(?:phone number|home address|private address|salar(?:y|ies))\b",
    r"\b(?:your|the bot'?s|this bot'?s) (?:\w+ ){0,2}(?:token|api.?keys?|password|secrets?"
    r"|credentials|environment)\b|\bsecret of this bot\b|\baccess keys as\b",
    _ASKED + r"\b(?:bot token|admin password|slack_\w+|credentials in memory)\b",
    _ASKED + r"\b(?:api.?keys?|openai_api_key|environment variables?|secrets)\b[^.?!\n]{0,20}"
    r"\b(?:you (?:use|have|run)|of the server|of the bot)\b",
    r"\b(?:process|host|server|endpoint) (?:that )?you (?:run|live)\b|/etc/(?:passwd|shadow)"
    r"|\brm -rf\b|\bdrop table\b|\brestart the server\b|\bapi keys\b.*\bserver\b",
)
_BUSINESS = (
    r"\b(?:pricing|subscription fee|roadmap|stock (?:price|market)|cheaper than|investors?"
    r"|enterprise licen[cs]e|hipaa|soc ?2|iso ?27001|gdpr|certified|sla|uptime)\b",
    r"\bhow much (?:does|do|is|are|would)\b[^.?!]{0,60}\bcosts?\b|\bstock of the\b",
    r"\bwhen will\b[^.?!]{0,50}\b(?:released?|available|come out|ship)\b",
    r"\bhow many (?:companies|customers|stars|employees)\b"
    r"|\bhow many (?:users|people) (?:use|has)\b",
)
_SMALL_TALK = (
    r"\b(?:jokes?|poems?|haikus?|limericks?|bedtime stor(?:y|ies)|lyrics|riddles?|cover letter)\b",
    r"\b(?:tell|write|sing)\b[^.?!]{0,20}\b(?:story|song)\b|\brecipes? (?:for|of|de)\b",
    r"\b(?:what|how)(?:'?s| is) the weather\b|\b(?:restaurants?|podcasts?|horoscope|lottery)\b",
    r"\bhow are you(?: doing| today|\W*$)|\bhow'?s it going\b"
    r"|\bdo you (?:feel|dream|have feelings)\b",
    r"\bare you (?:an? )?(?:human|machine|robot|alive|real|sentient)\b|\bbest bot\b|\bwho won\b",
    r"^\W*(?:hello|hi|hey|good (?:morning|night))(?: (?:there|all|team|bot|folks))?\W*$",
    r"^\W*(?:thanks|thank you|thx|cheers)\b(?:(?!\?|\bbut\b).){0,40}$|\bcapital of\b",
    r"\btranslate\b[^?!]{0,60}\b(?:in)?to (?:english|french|german|spanish|japanese|chinese"
    r"|italian|portuguese|russian|dutch|hindi|latin)\b",
)
_ELSEWHERE = (
    r"\b(?:no|not|without|nothing to do with|unrelated to)\b[^.?!]{0,20}\bmetaflow\b[^.?!]{0,9}"
    r"\b(?:involved|here|at all|related|question)\b|\bjust plain (?!metaflow)\w+[,.]",
)
# "pandas: how do I ...": what stands before the colon is what it is about.
_SUBJECT = re.compile(r"\A\W*(?:(?:in|with) )?([A-Za-z][\w.+-]*)(?::|,(?= (?:why|how|what)))\s")


def _any(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE)


_PATTERNS: tuple[tuple[Intent, re.Pattern[str]], ...] = (
    ("instruction", _any(_INSTRUCTION)),
    ("private", _any(_PRIVATE)),
    ("small talk", _any(_SMALL_TALK)),
    ("business", _any(_BUSINESS)),
    ("elsewhere", _any(_ELSEWHERE)),
)


def intent_of(text: str, vocabulary: Vocabulary) -> Intent:
    """The kind of a message; 'question' where it has no mark of another."""
    for intent, pattern in _PATTERNS:
        if pattern.search(text):
            return intent
    subject = _SUBJECT.match(text)
    if subject and not vocabulary.subjects.intersection(terms(subject[1])):
        return "elsewhere"
    return "question"
