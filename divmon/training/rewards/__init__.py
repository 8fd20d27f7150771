"""Verifiers as TRL reward functions: train on the rule that measures, or measure with the rule that trains.

    from divmon.training.rewards import math_answer
    GRPOTrainer(model, reward_funcs=math_answer, train_dataset=data, ...)     # data has a column "answer"

Every verifier's name is here. `reward("math_answer", gold="final")` reads the gold answer from another column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from divmon.grading import verifiers
from divmon.grading.grader import SECONDS, judge
from divmon.prompts.rendering import Think, split_reasoning
from divmon.types import Message, Prompt

GOLD_COLUMNS = ("gold", "answer", "solution", "ground_truth", "target", "label")
"""Where the gold answer is looked for, the first that the data has."""


@dataclass(frozen=True)
class Reward:
    """A verifier as TRL calls it; a trainer can pickle it, and logs it under the verifier's name."""

    verifier: str
    gold: str | None = None
    seconds: float = SECONDS

    @property
    def __name__(self) -> str:
        return self.verifier.rpartition(":")[2]

    def __call__(
        self,
        prompts: Sequence[str | list[Message]],
        completions: Sequence[str | list[Message]],
        **columns: Any,
    ) -> list[float | None]:
        """1 for correct, 0 for wrong, None where it could not be judged, which TRL leaves out of the mean.

        Reasoning is taken off first, and a completion that was cut off inside it is None. The columns of a prompt are
        its `row`, for verifiers whose gold is more than a string.

        Raises:
            ValueError: the data has no column of gold answers, and the verifier asks for one.
        """
        of_rows = {k: v for k, v in columns.items() if isinstance(v, list) and k != "completion_ids"}
        rows = [{name: values[i] for name, values in of_rows.items()} for i in range(len(completions))]
        column = self._gold_column(columns)
        asked = [
            Prompt(
                "",
                prompt if isinstance(prompt, str) else tuple(prompt),
                gold=None if column is None or row[column] is None else str(row[column]),
                row=row,
            )
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        answers = [_answer(completion) for completion in completions]
        verdicts = judge(self.verifier, answers, asked, seconds=self.seconds)
        if column is None and any(verdict.reason == "no gold answer" for verdict in verdicts):
            raise ValueError(
                f"{self.verifier} needs the gold answers: expected a column named {', '.join(GOLD_COLUMNS)}, there are"
                f" {', '.join(rows[0]) or 'none'}; name yours with"
                f" divmon.training.rewards.reward({self.verifier!r}, gold=...)"
            )
        return [None if verdict.correct is None else float(verdict.correct) for verdict in verdicts]

    def _gold_column(self, columns: dict[str, Any]) -> str | None:
        if self.gold is not None and self.gold not in columns:
            raise ValueError(f"no column {self.gold!r} to read the gold answers from; there are {', '.join(columns)}")
        return self.gold or next((name for name in GOLD_COLUMNS if name in columns), None)


def reward(verifier: str, *, gold: str | None = None, seconds: float = SECONDS) -> Reward:
    """A verifier, by its name or as "file.py:function", as a TRL reward function.

    Args:
        gold: the column that holds the gold answers; the first of GOLD_COLUMNS where None.
        seconds: limit for one completion.

    Raises:
        ValueError: there is no such verifier.
    """
    verifiers.load(verifier)
    return Reward(verifier, gold, seconds)


def _answer(completion: str | list[Message]) -> str | None:
    """What a completion answers, without its reasoning; None where it was cut off inside it."""
    if not isinstance(completion, str):
        said = [turn.get("content") or "" for turn in completion if turn["role"] == "assistant"]
        last = said[-1] if said else ""
        completion = last if isinstance(last, str) else "".join(part.get("text", "") for part in last)
    text, _, answered = split_reasoning(completion, Think(), in_reasoning=False)
    return text if answered else None


def __getattr__(name: str) -> Any:
    if name not in verifiers.available():
        raise AttributeError(f"no verifier named {name!r}; there are {', '.join(verifiers.available())}")
    return reward(name)


def __dir__() -> list[str]:
    return ["GOLD_COLUMNS", "Reward", "reward", *verifiers.available()]
