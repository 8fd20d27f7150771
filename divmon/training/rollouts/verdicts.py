"""Rewards -> verdicts: which of a group's completions are correct, where anything tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from divmon.grading.grader import judge
from divmon.training.rollouts.groups import Group
from divmon.types import TRUNCATED, UNCLOSED, Prompt, Sample, Verdict

Array = NDArray[np.float64]
Threshold = float | Mapping[str, float]

ELSEWHERE = Verdict(None, "the prompt's row is with another process")


class GroupJudge:
    """Judges completions by their rewards or by a verifier.

    The first that there is decides: a threshold; a verifier; where the one reward function gives nothing but 0 and 1,
    its reward above 0.5. Of any other rewards nobody can say where right ends, so nothing is judged and one line says
    what to give.

    A completion that the token limit ended with no more than a low reward was truncated before its answer: None, not
    wrong (contract 3).

    Args:
        names, weights: of the reward functions; the total reward is the weighted sum, as the trainer logs it.
        threshold: the total reward above which a completion is correct; or {function's name: reward}, all of which it
            must be above.
        verifier: of the forms that `DiversityCallback(verifier=...)` takes; it is given the prompt's row.
        say: shows a person one line.

    Raises:
        ValueError: the threshold names no reward function.
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float] | None = None,
        *,
        threshold: Threshold | None = None,
        verifier: Any = None,
        allow_unsandboxed_code: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.names = list(names)
        self.weights = [1.0] * len(self.names) if weights is None else list(weights)
        self.threshold = threshold
        self.verifier = verifier
        self._allow = allow_unsandboxed_code
        self._say = say
        self._binary = threshold is None and verifier is None
        if isinstance(threshold, Mapping):
            unknown = [name for name in threshold if name not in self.names]
            if unknown:
                raise ValueError(
                    f"threshold: no reward function named {unknown[0]!r}; there are {', '.join(self.names)}"
                )

    @property
    def how(self) -> str:
        """What makes a completion correct, in words."""
        if isinstance(self.threshold, Mapping):
            return "correct: " + " and ".join(f"{name} above {value:g}" for name, value in self.threshold.items())
        if self.threshold is not None:
            return f"correct: total reward above {self.threshold:g}"
        if self.verifier is not None:
            return f"correct: by the verifier {getattr(self.verifier, '__name__', self.verifier)}"
        return "correct: reward above 0.5, as it is 0 or 1" if self._binary else "not judged"

    def total(self, rewards_GF: Array) -> Array:
        """Weighted sum [G]; NaN where no function gave a reward."""
        total_G = np.nansum(rewards_GF * np.array(self.weights), axis=1)
        return np.where(np.isnan(rewards_GF).all(1), math.nan, total_G)

    def __call__(
        self,
        groups: Sequence[Group],
        rewards_PGF: Sequence[Array],
        samples_PG: Sequence[Sequence[Sample]],
        prompts_P: Sequence[Prompt],
    ) -> list[list[Verdict]]:
        """A verdict for each sample; none at all where nothing tells."""
        if self.threshold is None and self.verifier is not None:
            return self._verified(groups, samples_PG, prompts_P)
        self._look(rewards_PGF)
        if self.threshold is None and not self._binary:
            return []
        return [
            [self._rewarded(reward_F, sample) for reward_F, sample in zip(rewards_GF, samples, strict=True)]
            for rewards_GF, samples in zip(rewards_PGF, samples_PG, strict=True)
        ]

    def _look(self, rewards_PGF: Sequence[Array]) -> None:
        """Whether rewards are still those of one function that gives 0 or 1."""
        if not self._binary:
            return
        given = {value for rewards_GF in rewards_PGF for value in rewards_GF.ravel().tolist() if not math.isnan(value)}
        if len(self.names) == 1 and given <= {0.0, 1.0}:
            return
        self._binary = False
        why = (
            f"rewards are of {len(self.names)} functions ({', '.join(self.names)})"
            if len(self.names) > 1
            else f"{self.names[0]} gives more than 0 and 1 ({min(given - {0.0, 1.0}):g}, say)"
        )
        self._say(
            f"divmon: rollouts are not judged right or wrong: {why}. Give a threshold of the total reward or of one"
            " function's, or a verifier; diversity and rewards are shown all the same"
        )

    def _rewarded(self, reward_F: Array, sample: Sample) -> Verdict:
        if self.threshold is None:  # the one reward as it is, whatever its weight
            values = {"reward": (float(reward_F[0]), 0.5)}
        elif isinstance(self.threshold, Mapping):
            values = {name: (float(reward_F[self.names.index(name)]), least) for name, least in self.threshold.items()}
        else:
            values = {"reward": (float(self.total(reward_F[None])[0]), float(self.threshold))}
        if any(math.isnan(value) for value, _ in values.values()):
            return Verdict(None, "no reward was given")
        correct = all(value > least for value, least in values.values())
        if not correct and (sample.finish == "length" or not sample.answered):
            return Verdict(None, TRUNCATED if sample.finish == "length" else UNCLOSED)
        return Verdict(correct, ", ".join(f"{name} {value:g}" for name, (value, _) in values.items()))

    def _verified(
        self, groups: Sequence[Group], samples_PG: Sequence[Sequence[Sample]], prompts_P: Sequence[Prompt]
    ) -> list[list[Verdict]]:
        here = [p for p, group in enumerate(groups) if group.row is not None]
        asked = [(sample, prompts_P[p]) for p in here for sample in samples_PG[p]]
        found = iter(
            judge(
                self.verifier,
                [sample for sample, _ in asked],
                [prompt for _, prompt in asked],
                allow_unsandboxed_code=self._allow,
            )
        )
        verdicts = {p: [next(found) for _ in samples_PG[p]] for p in here}
        return [verdicts.get(p, [ELSEWHERE] * len(samples)) for p, samples in enumerate(samples_PG)]
