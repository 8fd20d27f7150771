"""A TRL reward function as a rule: its reward above a threshold is correct."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from divmon.types import Prompt, Verdict

THRESHOLD = 0.5
_GOLD_COLUMNS = ("solution", "answer", "ground_truth", "gold", "target", "label")


def is_reward(function: Callable[..., Any]) -> bool:
    """Whether it is called as TRL calls one: by the keyword `completions`."""
    try:
        return "completions" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def as_verifier(function: Callable[..., Any], threshold: float, text: str, prompt: Prompt) -> Verdict:
    """Calls the reward function with one completion, as a trainer would with a batch.

    The row's fields are its columns; a customary gold column that the row lacks is the prompt's gold. Prompt and
    completion are text where the prompt is text and messages where it is messages; a function that cannot read the text
    is called with messages, which most published ones expect. Raises TypeError: it did not return one reward.
    """
    columns = {name: [prompt.gold] for name in _GOLD_COLUMNS} if prompt.gold is not None else {}
    columns |= {name: [value] for name, value in (prompt.row or {}).items()}
    as_text = isinstance(prompt.content, str)
    turns = [{"role": "user", "content": prompt.content}] if as_text else list(prompt.content)
    messages = {"prompts": [turns], "completions": [[{"role": "assistant", "content": text}]]}
    forms = [{"prompts": [prompt.content], "completions": [text]}] * as_text + [messages]
    for form in forms:
        try:
            rewards = function(**_accepted(function, columns | form))
            break
        except Exception:
            if form is messages:
                raise
    try:
        (reward,) = rewards
        value = None if reward is None else float(reward)
    except (TypeError, ValueError):
        raise TypeError(f"the reward function returned {rewards!r:.80}; expected a list of one number") from None
    if value is None or value != value:
        return Verdict(None, "the reward function gave no reward")
    return Verdict(value > threshold, f"reward {value:g}, correct above {threshold:g}")


def _accepted(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return arguments if takes_all else {name: value for name, value in arguments.items() if name in parameters}
