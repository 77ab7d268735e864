"""Which resolved threads are outdated, by what later ones say of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from ingest.remarks import old_answer, read
from ingest.threads import Resolution, Thread

_SAME_SUBJECT = 0.15
_LINK = re.compile(r"/archives/(\w+)/p(\d{10,})")


def superseded(resolved: Sequence[tuple[Thread, Resolution]]) -> Mapping[str, str]:
    """Key of an outdated thread -> key of the later resolved thread that says so.

    The later one calls an older answer outdated, and links to it or is about the same thing: of
    the older threads, the one most like what it says of the older answer, or else like the whole
    of it. Likeness is the cosine (0 to 1) of tf-idf vectors.
    """
    ordered = sorted(resolved, key=lambda pair: float(pair[0].root.ts))
    contents = [_content(*pair) for pair in ordered]
    found: dict[str, str] = {}
    for place, (thread, resolution) in enumerate(ordered):
        if any(read(text).outdates for text in _answer_texts(thread, resolution)):
            older = [pair[0] for pair in ordered[:place]]
            targets = _linked(thread, older) or _alike(thread, contents[place], older, contents)
            found.update(dict.fromkeys((target.key for target in targets), thread.key))
    return found


def _linked(thread: Thread, older: Sequence[Thread]) -> list[Thread]:
    texts = " ".join(message.text for message in (thread.root, *thread.replies))
    links = set(_LINK.findall(texts))
    return [old for old in older if (old.channel_id, old.root.ts.replace(".", "")) in links]


def _alike(
    thread: Thread, content: str, older: Sequence[Thread], contents: Sequence[str]
) -> list[Thread]:
    said = " ".join(old_answer(message.text) for message in (thread.root, *thread.replies))
    vectors = _vectors([said.strip() or content, *contents])
    likeness = [_cosine(vectors[0], vector) for vector in vectors[1 : len(older) + 1]]
    best = max(likeness, default=0.0)
    return [older[likeness.index(best)]] if best >= _SAME_SUBJECT else []


def _answer_texts(thread: Thread, resolution: Resolution) -> list[str]:
    return [reply.text for reply in thread.replies if reply.ts in resolution.answers]


def _content(thread: Thread, resolution: Resolution) -> str:
    return " ".join([thread.root.text, *_answer_texts(thread, resolution)])


def _vectors(texts: Sequence[str]) -> list[dict[str, float]]:
    """Unit tf-idf vectors, `n_texts` of them; a text without words gives an empty one.

    A word in `inline code` counts three times: it is what the text is about.
    """
    bags = []
    for text in texts:
        code = " ".join(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text))
        bags.append(Counter(re.findall(r"[a-z_]{3,}", f"{text} {code} {code}".lower())))
    seen_in = Counter(word for bag in bags for word in bag)
    vectors = []
    for bag in bags:
        vector = {
            word: (1 + math.log(count)) * math.log(1 + len(bags) / seen_in[word])
            for word, count in bag.items()
        }
        length = math.sqrt(sum(weight * weight for weight in vector.values())) or 1.0
        vectors.append({word: weight / length for word, weight in vector.items()})
    return vectors


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return sum(weight * other.get(word, 0.0) for word, weight in one.items())
