"""A named value against the expected one (CRUXEval)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from divmon.grading import sandbox
from divmon.types import Prompt, Verdict

BATCH = True

_ANSWER = re.compile(r"\[ANSWER\](.*?)(?:\[/ANSWER\]|\Z)", re.DOTALL)
_LABEL = re.compile(
    r"(?i)\b(?:answer|output|result|returns?|value)\b[*_]*(?:\s+(?:is|will be|would be))?\s*:?[*_]*[ \t]*"
)
_FENCE = re.compile(r"```[^`\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_LINES = 50  # at either end of the answer; the value is not looked for in more


def value_match(texts: Sequence[str], prompts: Sequence[Prompt]) -> list[Verdict]:
    """Whether each answer names the value that is expected, as a literal that compares equal to it.

    Nothing is run: an expression that would have that value is wrong (so CRUXEval's rules). The prompt's `gold` or its
    row's `output` is the expected literal. The `answer` is the value as Python writes it.

    Returns:
        None where there is no expected value, or it is not a literal.
    """
    golds = [prompt.gold or (prompt.row or {}).get("output") for prompt in prompts]
    jobs = {
        i: sandbox.Literal(tuple(readings(text)), gold)
        for i, (text, gold) in enumerate(zip(texts, golds, strict=True))
        if gold is not None
    }
    graded = dict(zip(jobs, sandbox.run(list(jobs.values())), strict=True))
    nothing = Verdict(None, "no expected value: the prompt has neither 'gold' nor a row with 'output'")
    return [graded.get(i, nothing) for i in range(len(texts))]


def readings(text: str) -> list[str]:
    """What may be the value in an answer, the likeliest first; which of them are literals is found in isolation.

    The whole answer, its first line (base models go on to ramble), what is marked or labelled as the answer, last
    mention first, the last fence, what an assertion compares with, the last code in backticks, the last line.

    >>> "[1, 2]" in readings("The output is `[1, 2]`.")
    True
    """
    lines = [line for line in text.splitlines() if line.strip()]
    lines = lines if len(lines) <= 2 * _LINES else lines[:_LINES] + lines[-_LINES:]
    found = [text, *lines[:1], *reversed(_ANSWER.findall(text))]
    for line in reversed(lines):
        found += [line[match.end() :] for match in list(_LABEL.finditer(line[:2000]))[-3:][::-1]]
    found += _FENCE.findall(text)[-1:]
    found += re.findall(r"`([^`\n]+)`", text)[-1:]
    found += lines[-1:]
    return list(dict.fromkeys(bare for part in found for bare in _stripped(part) if bare))


def _stripped(part: str) -> list[str]:
    """Without the marks around it, and without what it is said to equal."""
    bare = part.strip().strip("*`").strip()
    after = bare.rpartition("==")[2].strip() if re.match(r"(assert\b|f\()", bare) else bare
    return [after, after.rstrip(".").strip("*` ")]
