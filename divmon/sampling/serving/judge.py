"""A language model behind an OpenAI-compatible endpoint as a judge, and its partition of answers by approach."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from divmon.sampling.serving.client import Client, Refused, ServerProblem, Unanswered
from divmon.storage.redaction import redacted

logger = logging.getLogger("divmon")

ANSWERS = 8
"""Of a prompt that are compared, the first ones: at most 28 questions per prompt, 7 where all are alike."""
AT_ONCE = 16
"""Prompts that are worked on together, a question of each at a time."""
MOST_CHARACTERS = 8000
"""Of a prompt and of an answer that the judge is shown."""
SECONDS, TRIES, MAX_TOKENS = 120.0, 3, 2048

QUESTION = """Two answers to one request follow. Do they take the same approach: the same idea, method or line of \
steps, whatever their wording, names, level of detail and formatting? Whether they are correct does not matter.

<request>
{prompt}
</request>

<first_answer>
{first}
</first_answer>

<second_answer>
{second}
</second_answer>

Reply with JSON only, {{"same_approach": true}} or {{"same_approach": false}}."""


class Judge:
    """Says whether two answers to a prompt take the same approach. An answer of its is kept as long as it lives.

    Args:
        named: "MODEL@URL", such as "Qwen/Qwen3-8B@http://localhost:8000/v1". The key, where one is needed, is in the
            environment variable DIVMON_JUDGE_KEY.
        calls: questions that one partition (of a task's answers at one evaluation) may ask. Prompts that are not
            certain to be finished within them are left out: the later ones, so the same at each evaluation.

    Raises:
        ValueError: the name has another form.
    """

    def __init__(self, named: str, calls: int = 2000) -> None:
        self.model, at, url = named.partition("@")
        if not self.model or not at:
            form = "'MODEL@URL', such as 'Qwen/Qwen3-8B@http://localhost:8000/v1'"
            raise ValueError(f"judge: expected {form}, got {redacted(named)!r}")
        self.calls, self.asked = calls, 0
        self._url, self._known = url, dict[str, bool]()
        self._lock = threading.Lock()
        self.url = _client(url, None).url
        """For people, without credentials."""

    @property
    def name(self) -> str:
        """What decides its answers: the model and the wording of the question."""
        return f"{self.model}, question {_digest(QUESTION)[:8]}"

    def record(self) -> dict[str, Any]:
        """For a run's manifest."""
        return {"model": self.model, "url": self.url, "question": QUESTION, "answers": ANSWERS, "calls": self.calls}

    def load(self) -> None:
        """Asks one question, so that a wrong address shows before training.

        Raises:
            ServerProblem: no usable answer came; the message says what to do.
        """
        try:
            self.same("What is 2 + 3?", "2 + 3 = 5", "Count on from 2: 3, 4, 5.")
        except (Refused, Unanswered, ValueError) as error:
            raise ServerProblem(
                f"the judge {self.model!r} at {self.url} does not answer a first question: {error}; expected an"
                " OpenAI-compatible server there, such as `vllm serve`: judge='MODEL@http://host:8000/v1'"
            ) from error

    def same(self, prompt: str, first: str, second: str) -> bool:
        """Whether two answers take the same approach; the same texts do, and what was asked is not asked again.

        Raises:
            Refused, Unanswered: the server gives no answer.
            ValueError: it is none to the question.
        """
        key = _key(prompt, first, second)
        if first.strip() != second.strip() and key not in self._known:
            with self._lock:
                self.asked += 1
            text = QUESTION.format(**_cut(prompt=prompt, first=first, second=second))
            self._known[key] = _yes(reply(self._url, self.model, text))
        return self._known.get(key, True)

    def classes(self, prompts: Sequence[str], answers: Sequence[Sequence[str | None]]) -> list[list[int | None]]:
        """Of each prompt's answers the number of their class: that of the first class whose first member is the same.

        Args:
            answers: per prompt; None is not to be judged, and of the others the first `ANSWERS` are.

        Returns:
            As `answers`; None also for all of a prompt that the judge failed at, or that the calls did not do for.

        Raises:
            RuntimeError: it failed at all of some `AT_ONCE` prompts.
        """
        found: list[list[int | None]] = [[None] * len(row) for row in answers]
        until, failures, p = self.asked + self.calls, list[str](), 0
        while p < len(prompts):
            wave = self._wave(range(p, min(p + AT_ONCE, len(prompts))), prompts, answers, until - self.asked)
            if not wave:
                logger.warning(
                    "divmon: judge_calls=%d did for %d of %d prompts; the others have no judged figures",
                    self.calls, p, len(prompts),
                )  # fmt: skip
                break
            asking = sum(self._open(prompts[q], answers[q]) > 0 for q in wave)
            with ThreadPoolExecutor(len(wave)) as threads:
                rows = list(threads.map(lambda q: self._of_prompt(prompts[q], answers[q]), wave))
            why = [row for row in rows if isinstance(row, str)]
            if why and len(why) == asking:  # away, or no judge at all: more questions would only take time
                raise RuntimeError(f"the judge {self.model!r} at {self.url} failed at {len(why)} prompts: {why[0]}")
            failures += why
            for q, row in zip(wave, rows, strict=True):
                found[q] = found[q] if isinstance(row, str) else row
            p += len(wave)
        if failures:
            logger.warning("divmon: the judge failed at %d of %d prompts: %s", len(failures), len(prompts), failures[0])
        return found

    def _wave(
        self, several: range, prompts: Sequence[str], answers: Sequence[Sequence[str | None]], calls: int
    ) -> list[int]:
        """The first of these prompts that are certain to be finished within so many calls."""
        wave = []
        for q in several:
            calls -= self._open(prompts[q], answers[q])
            if calls < 0:
                break
            wave.append(q)
        return wave

    def _open(self, prompt: str, row: Sequence[str | None]) -> int:
        """Questions that one prompt may take, those without an answer yet."""
        texts = [text for _, text in _judged(row)]
        pairs = {_key(prompt, a, b) for j, b in enumerate(texts) for a in texts[:j] if a.strip() != b.strip()}
        return len(pairs - self._known.keys())

    def _of_prompt(self, prompt: str, row: Sequence[str | None]) -> list[int | None] | str:
        """The classes of one prompt's answers, or why there are none."""
        found: list[int | None] = [None] * len(row)
        firsts: list[str] = []
        try:
            for k, text in _judged(row):
                own = next((c for c, first in enumerate(firsts) if self.same(prompt, first, text)), len(firsts))
                if own == len(firsts):
                    firsts.append(text)
                found[k] = own
        except (Refused, Unanswered, ValueError) as error:
            return str(error)
        return found


def reply(url: str, model: str, text: str) -> str:
    """What a judge says to a text, greedily; asked again after a pause where the server is busy or away.

    Raises:
        Refused, Unanswered: as `Client.ask`.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0.0,
        "max_tokens": MAX_TOKENS,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    client = _client(url, os.environ.get("DIVMON_JUDGE_KEY"))
    return client.ask("/chat/completions", body, lambda answer: str(answer["choices"][0]["message"]["content"]))


@functools.cache
def _client(url: str, key: str | None) -> Client:
    return Client(url, api_key=key, timeout=SECONDS, retries=TRIES - 1)


def _judged(row: Sequence[str | None]) -> list[tuple[int, str]]:
    return [(k, text) for k, text in enumerate(row) if text is not None][:ANSWERS]


def _cut(**texts: str) -> dict[str, str]:
    return {name: text[:MOST_CHARACTERS] for name, text in texts.items()}


def _key(*texts: str) -> str:
    return _digest("\0".join(texts))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _yes(said: str) -> bool:
    """
    Raises:
        ValueError: the judge says neither.
    """
    found: list[str] = re.findall(r'"?same_approach"?\s*:\s*"?(true|false)', said, re.IGNORECASE)
    if not found:
        raise ValueError(f'expected {{"same_approach": true or false}}, the judge said {said[:100]!r}')
    return found[-1].lower() == "true"  # the last: it may have weighed both aloud
