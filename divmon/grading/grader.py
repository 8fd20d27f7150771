"""Grades samples: verifiers run in child processes of our own, each text within a time limit.

A parser that never returns, that eats the memory or that crashes costs its own text a verdict, never the training run.
The children are started as `python -I <file>`: no fork under CUDA and threads, and nothing of the training script runs
again, whether it has a `__main__` guard or not.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from divmon.grading import verifiers
from divmon.grading.users_code import SECONDS as SECONDS_OF_A_CALL
from divmon.grading.users_code import Ended, Raised, TimedOut, within
from divmon.grading.verifiers import Verifier
from divmon.grading.verifiers._pool import pool
from divmon.types import TRUNCATED, UNCLOSED, Prompt, Sample, Verdict, fields, plain, strict_json

SECONDS = 5.0
"""What one text may take in a child process."""


def judge(
    verifier: str | Callable[..., Any],
    items: Sequence[Sample | str | None],
    prompts: Sequence[Prompt],
    *,
    seconds: float | None = None,
    workers: int | None = None,
    allow_unsandboxed_code: bool = False,
) -> list[Verdict]:
    """The verdict on each item; what fails is None with its reason, and nothing is raised for it.

    Equal texts of equal prompts are graded once. A sample that ended inside its reasoning (or None in place of
    a text) is ungradable, and so is one that was truncated before an answer was found.

    Args:
        verifier: a rule, by its name or "file.py:function", or a callable of the user's own. A callable runs in this
            process; once it has not returned in time it is not called again.
        items: samples, or texts that are complete.
        seconds: limit for one text; where None, SECONDS in a child process and that of `limited` in this one.

    Raises:
        ValueError: there is no such verifier, or items and prompts differ in number.
    """
    rule = verifiers.load(verifier)
    if len(items) != len(prompts):
        raise ValueError(f"expected a prompt for each item, came {len(items)} items and {len(prompts)} prompts")
    encoded = {id(prompt): strict_json(plain(fields(prompt))).decode() for prompt in prompts}
    keys = [_key(item, encoded[id(prompt)]) for item, prompt in zip(items, prompts, strict=True)]
    prompt_of = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key is not None}
    distinct = list(prompt_of)
    if rule.named and not rule.batch:
        jobs = [{"prompt": json.loads(key[0]), "text": key[1], "complete": key[2]} for key in distinct]
        found = pool(rule.name).run(jobs, seconds or SECONDS, workers or min(4, os.cpu_count() or 1))
    else:
        found = _Here(rule, seconds, allow_unsandboxed_code).grade(distinct, list(prompt_of.values()))
    by_key = dict(zip(distinct, found, strict=True))
    return [
        Verdict(None, _why_unanswered(item)) if key is None else _unless_truncated(by_key[key], key[2])
        for key, item in zip(keys, items, strict=True)
    ]


def _key(item: Sample | str | None, prompt: str) -> tuple[str, str, bool] | None:
    """(prompt, text, complete) of an item; None where it has no answer."""
    if isinstance(item, Sample):
        return (prompt, item.text, item.finish != "length") if item.answered else None
    return None if item is None else (prompt, item, True)


def _why_unanswered(item: Sample | str | None) -> str:
    if not isinstance(item, Sample):
        return "null: no answer"
    return TRUNCATED if item.finish == "length" else UNCLOSED


def _unless_truncated(verdict: Verdict, complete: bool) -> Verdict:
    if not complete and verdict.correct is False and verdict.answer is None:
        return Verdict(None, TRUNCATED)
    return verdict


@dataclass(frozen=True)
class _Here:
    """Grades in this process: a callable, which cannot be handed to another, or a rule with processes of its own."""

    rule: Verifier
    seconds: float | None
    allow_unsandboxed_code: bool

    def grade(self, keys: list[tuple[str, str, bool]], prompts: list[Prompt]) -> list[Verdict]:
        if not self.rule.batch:
            return [self._one(text, prompt, whole) for (_, text, whole), prompt in zip(keys, prompts, strict=True)]
        texts, wholes = [text for _, text, _ in keys], [whole for *_, whole in keys]
        asked = {"complete": wholes, "allow_unsandboxed_code": self.allow_unsandboxed_code}
        parameters = inspect.signature(self.rule.function).parameters
        given = {name: value for name, value in asked.items() if name in parameters}
        try:
            verdicts = self._limited(lambda: list(self.rule.function(texts, prompts, **given)), len(texts))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # training goes on (contract 2)
            if len(keys) == 1 or isinstance(error, TimedOut):
                return [_failed(error)] * len(keys)
            # One malformed row must not cost the others their verdicts.
            middle = len(keys) // 2
            halves = ((keys[:middle], prompts[:middle]), (keys[middle:], prompts[middle:]))
            return [verdict for half in halves for verdict in self.grade(*half)]
        if len(verdicts) != len(texts):
            reason = f"{self.rule.name} returned {len(verdicts)} verdicts on {len(texts)} texts"
            return [Verdict(None, reason)] * len(keys)
        return verdicts

    def _one(self, text: str, prompt: Prompt, complete: bool) -> Verdict:
        try:
            return self._limited(lambda: self.rule(text, prompt, complete))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's own may raise anything
            return _failed(error)

    def _limited(self, call: Callable[[], Any], n_texts: int = 1) -> Any:
        if self.rule.is_ours:  # its programs have limits of their own
            return call()
        seconds = SECONDS_OF_A_CALL.get() if self.seconds is None else self.seconds
        more = SECONDS * (n_texts - 1)
        return within(self.rule.users_function, call, None if seconds is None else seconds + more)


def _failed(error: BaseException) -> Verdict:
    says_all = isinstance(error, TimedOut | Ended | Raised)
    return Verdict(None, str(error) if says_all else f"{type(error).__name__}: {error}")
