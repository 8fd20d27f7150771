"""A judge at an OpenAI-compatible endpoint: one request an answer, a number from 1 to 10 back."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from divmon.sampling.serving.client import Refused, Unanswered
from divmon.sampling.serving.judge import reply
from divmon.storage.redaction import redacted

logger = logging.getLogger("divmon")

_ASK = """Judge how well the answer serves the person who wrote the request: is it helpful, correct, complete and clear?
{reference}
<request>
{prompt}
</request>

<answer>
{answer}
</answer>

Reply with JSON only, {{"score": N}}, N from 1 (useless) to 10 (could not be better)."""


def scores_of(
    prompts: Sequence[str],
    answers: Sequence[str],
    references: Sequence[str | None],
    *,
    model: str,
    url: str,
    concurrency: int = 16,
) -> list[float | None]:
    """A score of each answer, 0.1 to 1; None where the judge gave none.

    Raises:
        RuntimeError: no request at all was answered.
    """
    failures: list[str] = []

    def one(item: tuple[str, str, str | None]) -> float | None:
        try:
            return _score(_reply(item, model, url))
        except (Refused, Unanswered, ValueError) as error:
            failures.append(str(error))
            return None

    items = list(zip(prompts, answers, references, strict=True))
    with ThreadPoolExecutor(max(1, min(concurrency, len(items)))) as threads:
        found = list(threads.map(one, items))
    if failures and len(failures) == len(items):
        raise RuntimeError(
            f"the judge at {redacted(url)} answered none of {len(items)} requests ({failures[0]}); expected an"
            " OpenAI-compatible server there, such as `vllm serve`: give its address as the reward's argument `url`"
        )
    if failures:
        logger.warning("divmon: the judge answered %d of %d requests not: %s", len(failures), len(items), failures[0])
    return found


def _reply(item: tuple[str, str, str | None], model: str, url: str) -> str:
    """What the judge says."""
    prompt, answer, reference = item
    told = f"\nA good answer for comparison:\n<reference>\n{reference}\n</reference>\n" if reference else ""
    return reply(url, model, _ASK.format(prompt=prompt, answer=answer, reference=told))


def _score(reply: str) -> float:
    """The number in a reply, over 10.

    Raises:
        ValueError: there is none, or it is out of range.
    """
    match = re.search(r'"score"\s*:\s*"?(\d+(?:\.\d+)?)', reply)
    if match is None or not 1 <= float(match[1]) <= 10:
        raise ValueError(f'expected {{"score": 1 to 10}}, the judge said {reply[:100]!r}')
    return float(match[1]) / 10
