"""samples -> verdicts: rules run in child processes of our own, each text within a time limit.

A parser that never returns, that eats the memory or that crashes costs its own text a verdict, never the training run.
The children are started as `python -I <file>`: no fork under CUDA and threads, and nothing of the training script runs
again, whether it has a `__main__` guard or not.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from divmon.grading import verifiers
from divmon.grading.verifiers import Verifier
from divmon.grading.verifiers._pool import pool
from divmon.types import CUT_OFF, Prompt, Sample, Verdict, fields, plain, strict_json

SECONDS = 5.0
"""What one text may take."""


def judge(
    verifier: str | Callable[..., Any],
    items: Sequence[Sample | str | None],
    prompts: Sequence[Prompt],
    *,
    seconds: float = SECONDS,
    workers: int | None = None,
    allow_unsandboxed_code: bool = False,
) -> list[Verdict]:
    """The verdict on each item; what fails is None with its reason, and nothing is raised for it.

    Equal texts of equal prompts are judged once. A sample that was cut off inside its reasoning (or None in place of a
    text) is None, and so is one that the token limit cut before an answer was found.

    Args:
        verifier: a rule, by its name or "file.py:function"; a callable of the user's own runs in this process, without
            a time limit.
        items: samples, or texts that are complete.
        prompts: the prompt of each item.
        seconds: limit for one text.
        workers: child processes; as many as there are cores, 4 at most, where None.
        allow_unsandboxed_code: for rules that run programs; see `divmon.grading.sandbox`.

    Raises:
        ValueError: there is no such verifier, or items and prompts differ in number.
    """
    rule = verifiers.load(verifier)
    if len(items) != len(prompts):
        raise ValueError(f"expected a prompt for each item, came {len(items)} items and {len(prompts)} prompts")
    texts = [_text(item) for item in items]
    wholes = [not isinstance(item, Sample) or item.finish != "length" for item in items]
    encoded = {id(prompt): strict_json(plain(fields(prompt))).decode() for prompt in prompts}
    keys = [
        None if text is None else (encoded[id(prompt)], text, whole)
        for text, whole, prompt in zip(texts, wholes, prompts, strict=True)
    ]
    prompt_of = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key is not None}
    distinct = list(prompt_of)
    if rule.named and not rule.batch:
        jobs = [{"prompt": json.loads(key[0]), "text": key[1], "complete": key[2]} for key in distinct]
        found = pool(rule.name).run(jobs, seconds, workers or min(4, os.cpu_count() or 1))
    else:
        found = _here(rule, distinct, list(prompt_of.values()), allow_unsandboxed_code)
    by_key = dict(zip(distinct, found, strict=True))
    return [Verdict(None, CUT_OFF) if key is None else _unless_cut(by_key[key], key[2]) for key in keys]


def _text(item: Sample | str | None) -> str | None:
    if isinstance(item, Sample):
        return item.text if item.answered else None
    return item


def _unless_cut(verdict: Verdict, complete: bool) -> Verdict:
    if not complete and verdict.correct is False and verdict.answer is None:
        return Verdict(None, CUT_OFF)
    return verdict


def _here(
    rule: Verifier, keys: list[tuple[str, str, bool]], prompts: list[Prompt], allow_unsandboxed_code: bool
) -> list[Verdict]:
    """In this process: a callable, which cannot be handed to another, or a rule that starts processes of its own."""
    if not rule.batch:
        return [_called(rule, text, prompt, whole) for (_, text, whole), prompt in zip(keys, prompts, strict=True)]
    texts, wholes = [text for _, text, _ in keys], [whole for *_, whole in keys]
    asked = {"complete": wholes, "allow_unsandboxed_code": allow_unsandboxed_code}
    parameters = inspect.signature(rule.function).parameters
    try:
        verdicts = rule.function(texts, prompts, **{name: value for name, value in asked.items() if name in parameters})
    except Exception as error:  # training goes on (contract 2)
        if len(keys) == 1:
            return [Verdict(None, f"{type(error).__name__}: {error}")]
        # One malformed row must not cost the others their verdicts.
        middle = len(keys) // 2
        halves = ((keys[:middle], prompts[:middle]), (keys[middle:], prompts[middle:]))
        return [verdict for half in halves for verdict in _here(rule, *half, allow_unsandboxed_code)]
    if len(verdicts) != len(texts):
        return [Verdict(None, f"{rule.name} returned {len(verdicts)} verdicts on {len(texts)} texts")] * len(keys)
    return list(verdicts)


def _called(rule: Verifier, text: str, prompt: Prompt, complete: bool) -> Verdict:
    try:
        return rule(text, prompt, complete)
    except Exception as error:  # the user's own may raise anything
        return Verdict(None, f"{type(error).__name__}: {error}")
