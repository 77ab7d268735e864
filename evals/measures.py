"""The names of the suites, and of the scores that stop a change."""

RETRIEVAL, FOLLOW_UPS, ABSTENTION, LATENCY = "retrieval", "follow-ups", "abstention", "latency"
CITATIONS, CODE, SAFETY, SLACK, COST = "citations", "code", "safety", "slack", "cost"
SUITES = (RETRIEVAL, FOLLOW_UPS, ABSTENTION, CITATIONS, CODE, SAFETY, SLACK, LATENCY, COST)
"""The suites that need no judge."""
ANSWERS = "answers"
JUDGED = (ANSWERS,)
"""The suites whose grades a judge model gives."""

DECISION = f"{ABSTENTION}/right decision"
CORRECT = f"{ANSWERS}/correct"
GATED = (
    *(f"{RETRIEVAL}/{name}" for name in ("recall@5", "nDCG@10")),
    f"{FOLLOW_UPS}/nDCG@10",
    DECISION,
    *(f"{CITATIONS}/{name}" for name in ("quotes hold", "links hold", "recall", "gold cited")),
    f"{CODE}/verdict",
    f"{SAFETY}/held, no model",
    f"{SAFETY}/held, obedient model",
    f"{SLACK}/right",
)
"""The scores whose fall stops a change; CORRECT with them where both runs have a judge to trust."""

EXACT = (
    *(f"{CITATIONS}/{name}" for name in ("quotes hold", "links hold")),
    f"{CODE}/verdict",
    f"{SLACK}/right",
)
"""Gated scores that have no chance in them: a case that held and does not hold now is a fault."""
