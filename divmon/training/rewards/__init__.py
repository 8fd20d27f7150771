"""Verifiers as TRL reward functions: train on the rule that measures, or measure with the rule that trains.

    from divmon.training.rewards import math_answer
    GRPOTrainer(model, reward_funcs=math_answer, train_dataset=data, ...)     # data has a column "answer"

Every verifier's name is here. `reward("math_answer", gold="final")` reads the reference answer from another column;
`reward("math_answer", ungradable=0.0)` takes what cannot be graded for wrong, so that a policy gains nothing by it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from divmon.grading import verifiers
from divmon.grading.grader import SECONDS, judge
from divmon.prompts.rendering import Think, split_reasoning
from divmon.types import TRUNCATED, UNCLOSED, Message, Prompt, Verdict

logger = logging.getLogger("divmon")

GOLD_COLUMNS = ("gold", "answer", "solution", "ground_truth", "target", "label")
"""Where the reference answer is looked for, the first that the data has."""


@dataclass(frozen=True)
class Reward:
    """A verifier as TRL calls it; a trainer can pickle it, and logs it under the verifier's name."""

    verifier: str
    gold: str | None = None
    seconds: float = SECONDS
    ungradable: float | None = None
    """The reward of a completion that could not be graded."""

    @property
    def __name__(self) -> str:
        return self.verifier.rpartition(":")[2]

    def __call__(
        self,
        prompts: Sequence[str | list[Message]],
        completions: Sequence[str | list[Message]],
        **columns: Any,
    ) -> list[float | None]:
        """1 for correct, 0 for wrong, `ungradable` where it cannot be graded: None, which TRL leaves out of the mean.

        The share of ungradable completions is logged as `<verifier>/ungradable` where TRL takes metrics, and said with
        its reasons. Reasoning is taken off first, and a completion that was truncated inside it is ungradable. The
        columns of a prompt are its `row`, for verifiers whose reference is more than a string.

        Raises:
            ValueError: the data has no column of reference answers, and the verifier asks for one.
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
                f"{self.verifier} needs the reference answers: expected a column named {', '.join(GOLD_COLUMNS)}, there"
                f" are {', '.join(rows[0]) or 'none'}; name yours with"
                f" divmon.training.rewards.reward({self.verifier!r}, gold=...)"
            )
        return rewarded(self.__name__, verdicts, self.ungradable, columns.get("log_metric"))

    def _gold_column(self, columns: dict[str, Any]) -> str | None:
        if self.gold is not None and self.gold not in columns:
            raise ValueError(
                f"no column {self.gold!r} to read the reference answers from; there are {', '.join(columns)}"
            )
        return self.gold or next((name for name in GOLD_COLUMNS if name in columns), None)


def reward(
    verifier: str, *, gold: str | None = None, seconds: float = SECONDS, ungradable: float | None = None
) -> Reward:
    """A verifier, by its name or as "file.py:function", as a TRL reward function.

    Args:
        gold: the column that holds the reference answers; the first of GOLD_COLUMNS where None.
        seconds: limit for one completion.
        ungradable: reward of a completion that cannot be graded, for whatever reason. With None, TRL leaves it out, and
            a policy may learn to write what no verifier ends on; with 0.0 it is wrong. A row that is at fault itself
            gives all completions of its group the same reward, which teaches nothing.

    Raises:
        ValueError: there is no such verifier.
    """
    verifiers.load(verifier)
    return Reward(verifier, gold, seconds, ungradable)


def rewarded(
    name: str,
    verdicts: Sequence[Verdict],
    ungradable: float | None,
    log_metric: Callable[[str, float], None] | None = None,
) -> list[float | None]:
    """Rewards of verdicts, 1 or 0 or `ungradable`; how many are ungradable, and why, is logged.

    Args:
        log_metric: TRL's, which takes a name and a number.
    """
    reasons = Counter(verdict.reason for verdict in verdicts if verdict.correct is None)
    if log_metric is not None:
        log_metric(f"{name}/ungradable", reasons.total() / max(1, len(verdicts)))
    avoidable = reasons.total() - (
        reasons[TRUNCATED] + reasons[UNCLOSED] if ungradable is None else 0
    )  # truncation is told elsewhere
    if avoidable:
        reason, count = reasons.most_common(1)[0]
        treated = "they get no reward" if ungradable is None else f"rewarded {ungradable:g}"
        logger.warning(
            "divmon: %s could not grade %d of %d completions (%s); the most frequent reason, %d times: %s",
            name, reasons.total(), len(verdicts), treated, count, reason[:200],
        )  # fmt: skip
    return [ungradable if verdict.correct is None else float(verdict.correct) for verdict in verdicts]


def _answer(completion: str | list[Message]) -> str | None:
    """What a completion answers, without its reasoning; None where it was truncated inside it."""
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
