"""What one message of a thread says about the thread: "that worked", "same error", "duplicate".

Judged by phrases, sentence by sentence, on prose alone: code, quotes, links and mentions say
nothing about whether an answer held.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remark:
    """One message, read.

    `confirms` (0 to 1) is how firmly it says that something works or is settled. `retracts`: what
    seemed to work does not; `denies`: a plain no to what was said last. `solves`: its writer
    reports an answer found; `shares`: it adds something others can copy. `asks`: it holds nothing
    but questions; `inquires`: it holds at least one. `defers`: a promise, a shrug or an open end
    instead of an answer. `redirects`: it only points to another thread. `releases`: it tells of a
    fix or a version. `outdates`: it calls an older answer outdated. `commands`: it addresses an
    assistant, not a person.
    """

    confirms: float = 0.0
    retracts: bool = False
    denies: bool = False
    solves: bool = False
    shares: bool = False
    asks: bool = False
    inquires: bool = False
    defers: bool = False
    redirects: bool = False
    releases: bool = False
    outdates: bool = False
    commands: bool = False
    substance: int = 0

    @property
    def settles(self) -> bool:
        """More than a courtesy that looks forward: "thanks, will try" settles nothing."""
        return self.confirms > 0.1


def read(text: str) -> Remark:
    """Read one message in Slack's markup; '' gives a Remark that says nothing."""
    prose = _prose(text)
    sentences = [part.strip() for part in _SENTENCE.findall(prose) if re.search(r"\w|:", part)]
    statements = [part for part in sentences if not part.endswith("?")]
    said = " . ".join(statements)
    redirects = bool(_REDIRECTS.search(prose)) and len(_WORD.findall(said)) < 15
    return Remark(
        confirms=_confirmation(statements),
        retracts=bool(_RETRACTS.search(_EXCUSED.sub(" ", said))),
        denies=bool(_DENIES.match(prose)),
        solves=bool(_SOLVES.search(said)),
        shares="```" in text or bool(_SHARES.search(said)),
        asks=bool(sentences) and _only_asks(sentences, statements, text),
        inquires=len(statements) < len(sentences),
        defers=bool(_DEFERS.search(said)),
        redirects=redirects,
        releases=bool(_RELEASES.search(prose)),
        outdates=bool(_OUTDATES.search(prose)),
        commands=addresses_assistant(text),
        substance=_substance(prose),
    )


def old_answer(text: str) -> str:
    """The words in which a message speaks of an older thread or answer, '' when it does not."""
    parts = re.split(r"(?<=[.!?\n])\s+", text)
    return " ".join(part for part in parts if _OLD_ANSWER.search(part))


def addresses_assistant(text: str) -> bool:
    """Whether text gives orders to a language model instead of speaking to people."""
    return bool(_COMMANDS.search(re.sub(r"[\s*_~`]+", " ", text)))


def is_question(text: str, *, by_maintainer: bool = False) -> bool:
    """Whether a root message asks for help, rather than announcing or chatting.

    What a maintainer states without a question mark or trouble is news; what others state about
    software is taken for a report of theirs.
    """
    prose = _prose(text)
    in_trouble = bool(_TROUBLE.search(prose)) or "```" in text
    if _SOCIAL.search(prose) and not (in_trouble and "`" in text):
        return False
    if "?" in prose or in_trouble:
        return len(_WORD.findall(prose)) >= 3 or "`" in text
    return not by_maintainer and is_technical(text)


def is_technical(text: str) -> bool:
    """Whether text speaks of software at all: code, a version, a flag, or a word of the trade."""
    return bool(_TECHNICAL.search(text))


def _prose(text: str) -> str:
    text = re.sub(r"```.*?(?:```|\Z)", " CODE ", text, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]+`", " CODE ", text)
    text = re.sub(r"(?m)^(?:&gt;|>).*$", " ", text)
    text = re.sub(r"<?https?://[^\s<>|]{1,200}?/archives/[^\s<>|]*(?:\|[^>]*)?>?", " THREAD ", text)
    text = re.sub(r"<(?:https?:[^>|]*)(?:\|[^>]*)?>|https?://\S+", " LINK ", text)
    text = re.sub(r"<[@#!][^>]*>", " ", text).replace("’", "'")
    return re.sub(r"[*_~]", "", text).strip()


def _substance(prose: str) -> int:
    """Words, with code, a link or a version counting for five each."""
    solid = len(re.findall(r"\bCODE\b|\bLINK\b|\d+\.\d+", prose))
    return len(_WORD.findall(_EMOJI.sub(" ", prose))) + 5 * solid


def _only_asks(sentences: list[str], statements: list[str], text: str) -> bool:
    """Only questions, or questions behind a few words; a question around code may be an answer."""
    if len(statements) == len(sentences):
        return False
    said = sum(len(_WORD.findall(part)) for part in statements)
    return said < 4 and not ("`" in text and _PROPOSES.search(text))


def _confirmation(statements: list[str]) -> float:
    firm = praising = thankful = tentative = False
    for statement in statements:
        unsure = bool(_TENTATIVE.search(statement))
        tentative |= unsure
        firm |= bool(_WORKS.search(_NEGATED.sub(" ", statement))) and not unsure
        praising |= bool(_PRAISE.search(statement))
        thankful |= bool(_THANKS.search(statement))
    if firm:
        return 0.8 if praising or thankful else 0.7
    if tentative:
        return 0.1 if praising or thankful else 0.0
    if praising:
        return 0.7 if thankful else 0.6
    return 0.45 if thankful else 0.0


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile(r"(?i)(?:" + "|".join(patterns) + ")")


_WORD = re.compile(r"[A-Za-z']{2,}|\d[\w.]*")
_SENTENCE = re.compile(r"(?:[^.!?\n]|\.(?=\w)|[!?](?=\w))+[.!?]*")
_EMOJI = re.compile(r":[a-z0-9_+-]+:")

_WORKS = _any(
    r"\bwork(?:s|ed|ing)\b",
    r"\b(?:solved|solves|fixed|fixes|resolved|resolves|sorted|addresses|answers)\b",
    r"\bthat(?:'s| is| was) (?:it|the one)\b",
    r"\b(?:did|does) it\b(?! (?:not|work|mean))|\bdid the (?:trick|job)\b",
    r"\bexactly what\b|\bwhat I (?:needed|wanted|was (?:looking for|missing|after))",
    r"\bconfirmed\b|\bcan confirm\b|\bthat help(?:s|ed)\b",
    r"\b(?:error|problem|issue|warning|it)(?:'s| is| are) gone\b|\bwent away\b",
    r"\b(?:is|are|all|it's|everything(?:'s| is)?) (?:\w+ )?"
    r"(?:good|green|fine|healthy|ok|set|happy|up)\b",
    r"\b(?:fine|good|ok) now\b|\bpass(?:es)? now\b|\bit runs\b|\bthat explains\b",
    r"\bup and running\b|\bruns (?:now|again|fine|through|clean)|\bnow runs\b|\b(?:starts?|shows?)"
    r" (?:up )?now\b|\bagain on \d",
    r"\bno more \w+|\bno \w+(?: \w+)? (?:needed|required|necessary|any ?more)\b",
    r"\b(?:0|zero) (?:bad|failed|errors?|failures?|problems?)",
    r"\b(?:went|going|go) with\b|\bswitched (?:to|over)\b|\btook (?:the|your)\b|\bit is\s*$",
    r"\bgood enough\b|\bcovers (?:us|me|it|that|our)\b|\bgot it\b|\bmakes sense\b",
    r"\b(?:unpinned|pinned|upgraded|downgraded|installed|deployed|replaced|added|redeployed)\b"
    r".{0,120}(?:,|and) \w+",
    r"\bv?\d+\.\d+(?:\.\d+)?\b.{0,120}"
    r"\b(?:runs?|picks?|migrates?|loads?|updates?|starts?|shows?|ok)\b",
    r"(?<!-)\b\d+ ?\w* ?(?:->|-&gt;|→) ?\d+",
    r"\b(?:can|could|will) close\b|\bclos(?:ed|ing) (?:it|this|the|my|as)\b|^\W*closed\b",
    r"\bdeleted \d+ lines\b|\bsaved me\b|\bsuccess(?:ful(?:ly)?)?\b|\bobviates\b",
)
_THANKS = _any(
    r"\b(?:thanks?|thank you|thx|tysm|cheers|much appreciated|appreciate it|kudos)\b",
    r"\b(?:my bad|aha|ah,? ok|of course|wasn't aware|didn't know)\b",
    r":(?:\+1|thumbsup|tada|raised_hands|rocket|(?:heavy|white)_check_mark|pray|ok_hand|100):",
)
_PRAISE = _any(
    r"\b(?:perfect|lovely|awesome|great|excellent|brilliant|amazing|neat|super useful)\b",
)
_NEGATED = _any(
    r"(?:\bnot|n't|\bnever|\bnothing|\bneither|\bstopped|\bused to|\bif (?:it|that|this)|\bnone)"
    r"(?: \w+){0,3}",
    r"\b(?:works?|worked) (?:for|on|with|until|before|in) (?:me|others?|us|\d\S*|older|an older)\b"
    r"(?=.{0,120}\b(?:but|maybe|not|until)\b)",
)
_TENTATIVE = _any(
    r"(?:\b(?:will|going to|gonna|let me|about to|plan to|have to)|'ll) (?:\w+ ){0,2}"
    r"(?:try|test|look|check|see|give|report|read|do|have|ask|investigate)\b",
    r"\btrying\b|\bhope(?:fully)?\b|\bshould (?:work|fix|help|do)\b|\bmight\b|\bmaybe\b"
    r"|\bprobably\b|\bwould be\b|\bonce (?:I|we)\b|\bnext (?:week|time)\b.{0,120}\btry\b",
)
_RETRACTS = _any(
    r"\bspoke too soon\b|\bscratch that\b|\btook it back\b|\bI was wrong\b|\bfalse hope\b",
    r"\bstill (?:\w+ ){0,3}(?:fail|same|wait|broken|error|crash|miss|hang|stuck|not|get|see|no|"
    r"happen|does|can|the|an?\b|throw|complain|refuse|run into|RUNNABLE|pending|open)\w*",
    r"\b(?:the |exactly the )?same (?:error|thing|problem|issue|result|message|exception|symptom)",
    r"\bno (?:luck|change|effect|difference|success|dice|joy)\b",
    r"\b(?:did|does|do|is|was|has|have|could|can)(?:n't| not|not) (?:\w+ ){0,2}"
    r"(?:work|help|fix|change|solve|resolve|do (?:it|anything)|make a difference)\w*",
    r"\bbut not (?:on|with|in|for|when|if)\b|\bI thought\b.{0,80}\bbut\b|\bnot what I\b",
    r"\b(?:another|new|different) (?:error|problem|exception|failure)\b|\bbut it's back\b",
    r"\bnot (?:working|fixed|solved|resolved|it either|that either)\b|\bworse\b",
    r"\b(?:fails?|failing|broke|broken|crashes|happens|errors?|hangs) again\b",
    r"\b(?:came|comes|is|are) back (?:again|today|now)\b|\bback to square one\b",
    r"\breopen(?:ed|ing)?\b",
    r"\b(?:but|however) (?:\w+ ){0,3}still\b|\bthat (?:theory|idea) then\b|\bnot that either\b",
    r"\bno longer (?:true|valid|correct|works?|the case)\b|\b(?:is|was|answer is) outdated\b",
    r"\bthat(?:'s| is) (?:wrong|incorrect|not (?:right|true|correct))\b|^careful\b",
)
_EXCUSED = _any(
    r"\bno (?:change|difference)\w*(?: \w+)? (?:needed|required)\b",
    r"\b(?:didn't|did not|wasn't|hadn't)(?: \w+)* (?:before|earlier|until|without)\b",
    r"\bstill (?:fine|works?|ok|good|working|need to read)\b",
    r"\bno (?:more|longer) (?:the same )?(?:errors?|fails?|hangs?)\b",
)
_DENIES = _any(r"(?:h+m+,?\s*)?(?:no|nope|nah|unfortunately)\b(?! (?:more|longer|problem|worries))")
_SOLVES = _any(
    r"\b(?:found|figured) (?:it|the (?:cause|culprit|problem|issue|reason|answer|bug|fix)|it out|"
    r"out|a (?:fix|solution|way|workaround))\b",
    r"\b(?:solved|fixed|resolved) (?:it|this|the (?:issue|problem)|myself)? ?"
    r"(?:by|with|via|through|myself|:)|\bsolved:|\bfixed:|\bfix:|\bgot it:",
    r"\b(?:work|way)[ -]?around(?: is|:|$)|^\W*way around\b",
    r"\bturn(?:s|ed) out\b|\bwhat (?:solved|fixed|helped|worked|did it)\b",
    r"\banswer(?:ing)? (?:to )?(?:myself|my own)\b|\bself-answer\b",
    r"\bthe (?:cause|culprit|root cause|reason|real problem) (?:was|is)\b",
    r"\bI (?:got|have) it (?:to work|working|running)\b|\bPR (?:is |was |got )?merged\b",
)
_SHARES = _any(
    r"\bfor the (?:archives?|record)\b|\bin case (?:it|any|some|this)|\bFTR\b|\bfor (?:anyone|"
    r"others|posterity|future)",
)
_DEFERS = _any(
    r"(?:\b(?:will|let me|going to|we'll|I'll|I can)|'ll) (?:\w+ ){0,2}"
    r"(?:look|check|investigate|take a look|ask|get back|open|file|see|dig|have a look|try)\b",
    r"\blooking into\b|^\W*(?:I'm )?on it\W*$|\bnot an answer\b",
    r"\bno idea\b|\bdon't know\b|\bnot sure\b",
    r"\bopen (?:discussion|question|issue)\b|\bno (?:easy |good |real )?(?:way|fix|solution) yet\b",
    r"\b(?:opened|filed|created) (?:an? )?(?:issue|ticket|bug|pr)\b|\bon (?:the|our) roadmap\b",
    r"\bunder (?:discussion|investigation)\b|\bdata point\b|\bme too\b|\bsame here\b|\bfollowing\b",
    r"\bseen it as well\b|\bsubscribed\b|\bclosing (?:this|on our side)\b|\bglad (?:it|that)\b",
)
_REDIRECTS = _any(
    r"\bduplicate\b|\basked (?:before|already|recently|earlier)\b|\balready (?:asked|answered)\b",
    r"^\W*(?:see|cf\.?|same as|please see)(?: also| here| this thread)?:? +THREAD",
)
_RELEASES = _any(
    r"\b(?:fixed|released|merged|reverted|ships?|shipped|landed|available|included|out|goes out)\b",
    r"\b(?:since|as of|from|upgrade to|in|>=|&gt;=) +v?\d+\.\d+",
)
_OUTDATES = _any(
    r"\bout ?dated\b|\bobsolete\b|\bsuperseded\b|\bdeprecated\b|\bno longer (?:true|valid|correct|"
    r"needed|necessary|the way|recommended|works?|required|applies|supported)\b",
    r"\bnot (?:true|needed|necessary|valid|required) any ?more\b|\b(?:old|older|earlier|previous)"
    r" (?:answer|thread|advice|workaround)\b.{0,120}\b(?:now|since)\b",
)
_OLD_ANSWER = _any(
    r"\b(?:old|older|earlier|previous|outdated) (?:answer|thread|advice|post|reply)\b"
)
_PROPOSES = _any(r"\b(?:would|does|will|is) (?:this|that|it) (?:help|work|address|do|what)\b")
_SOCIAL = _any(
    r"^\W*(?:poll|survey|reminder|psa|fyi|announcement|announcing|job|hiring)\b",
    r"\bmeet-?up\b|\bconference\b|\bwe(?:'re| are) hiring\b",
    r"\bhappy (?:new|birthday|holidays|friday)",
    r"^\W*(?::\w+:\W*)?(?:deploying|releasing|shipping|rolling out|heads[- ]up|maintenance)\b",
    r"\bcongrat|\bwelcome\b|\boffice hours\b|\bwebinar\b|\b(?:lunch|beers?|drinks|pizza)\b",
    r"\bgood (?:morning|evening)\b(?!.{0,120}[?`])|\bnew release\b|\bblog post\b|\bpodcast\b",
)
_TROUBLE = _any(
    r"\b\w+(?:Error|Exception)\b|\bran out of\b|\bout of memory\b",
    r"\b(?:lost|down|unreachable|outage|errors?|fails?|failed|failing|failure|crash\w*|"
    r"hangs?|stuck|broken|breaks?|bug|denied|"
    r"refused|time ?outs?|timed out|missing|gone|wrong|unable|exceptions?|traceback|dies|"
    r"complains?|warns?|warning|unexpected\w*|instead|nothing|never|unknown|swallowed|slow)\b",
    r"\b(?:can|won|doesn|don|isn|didn|aren|wasn|couldn)(?:'t|t)\b|\bcannot\b",
    r"\b(?:how|why|what|which|is there|any way|possible|wonder\w*|trying to|need|want|wanted|"
    r"looking for|I'd have expected|struggling|help)\b",
)
_TECHNICAL = _any(
    r"`|\b\w+_\w+\b|\bv?\d+\.\d+\.\d+\b|(?<!\w)--?[a-z][\w-]+|@\w+\b(?!>)|\w+\(\)",
    r"\b(?:metaflow|flows?|steps?|runs?|tasks?|batch|kubernetes|k8s|argo|airflow|conda|pypi|pip|"
    r"python|docker|image|s3|aws|gcp|azure|minio|datastore|metadata|artifacts?|decorators?|foreach|"
    r"join|card|cards|ui|dag|namespace|tags?|parameters?|client|resume|retry|schedule\w*|cluster|"
    r"pods?|gpu|memory|logs?|deploy\w*|notebook|api|cli|config\w*|environment|version|release|"
    r"service|database|postgres|server|package|import|secret|token|sandbox|terraform|helm)\b",
)
_COMMANDS = _any(
    r"\b(?:ignore|disregard|forget|override|bypass)\b(?: \w+){0,3} (?:previous|prior|above|earlier|"
    r"preceding|your|system|all)(?: \w+){0,2} (?:instructions?|prompts?|rules|"
    r"guidelines|directions|training)\b",
    r"\b(?:disregard|ignore|forget) your (?:\w+ )?(?:instructions?|prompts?|rules|guidelines)\b",
    r"\b(?:to|for|dear|attention|attn|hey|hello|note to) (?:any |all |the |every )*"
    r"(?:ai|llm|language model|chat ?bot|assistant|gpt|bot)s?\b(?: \w+){0,4}"
    r"(?:reading|reads|processing|summari[sz]ing|answering|indexing|:|,)",
    r"\b(?:as|if you(?:'re| are)) an? "
    r"(?:ai|llm|ai assistant|(?:large )?language model|chat ?bot)\b",
    r"\byou are now (?:in|an?|the|operating|acting)\b",
    r"\byou are (?:an?|the) (?:ai|llm|language model|helpful assistant|assistant)\b",
    r"\bsystem (?:note|message|override|instruction)s?\b ?(?:to|for|:)|\bsystem prompt ?:",
    r"(?:reveal|print|repeat|show|leak|output|expose) (?:me )?(?:your|the) "
    r"(?:system|hidden|initial) (?:prompt|instructions?|message)",
    r"\bdo not (?:mention|reveal|disclose|tell)(?: \w+){0,4} (?:this|these|the) (?:message|"
    r"instructions?|prompt|note)",
    r"\b(?:tell|instruct|convince|direct) (?:everyone|every ?body|all users|every user|the users?|"
    r"anyone|people)(?: who asks)? (?:to|that)\b",
    r"\b(?:reply|respond|answer) to (?:every|all|any)(?: \w+)? (?:users?|questions?|people)? ?"
    r"(?:that|with|by|saying)",
    r"\bwhen(?:ever)? (?:you(?:'re| are)? )?(?:asked|answering|summari[sz]ing|someone asks)(?: \w+)"
    r"{0,6},? (?:always|you must|only|never|say|reply|recommend|answer)",
    r"<\|?(?:im_start|system|endoftext)\|?>|\[/?INST\]|<</?SYS>>|&lt;/?system&gt;|### ?(?:system|"
    r"instruction)",
)
