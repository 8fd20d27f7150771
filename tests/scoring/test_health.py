from __future__ import annotations

import math

from divmon.scoring.soundness import no_answer, rates, suspicion
from divmon.types import TRUNCATED, Probe, Prompt, Sample, Verdict

PROBE = Probe("task", tuple(Prompt(str(i), f"prompt {i}") for i in range(4)))


def sample(prompt: int, index: int, text: str, **fields: object) -> Sample:
    return Sample("task", str(prompt), index, text, **{"finish": "eos", "n_tokens": 5, **fields})  # type: ignore[arg-type]


def test_rates_are_shares_of_a_prompts_completions() -> None:
    samples = [
        sample(0, 0, "a"),
        sample(0, 1, "", finish="length", answered=False, reasoning="hm"),
        sample(1, 0, " "),
        sample(1, 1, "b", finish="length"),
    ]
    found = {score.metric: score for score in rates(PROBE, samples)}
    assert found["no_answer"].values[:2] == found["truncated"].values[:2] == (0.5, 0.0)
    assert found["empty"].values[:2] == (0.0, 0.5)
    assert found["clipped_ratio"].values[:2] == (0.5, 0.5)
    assert all(math.isnan(v) for v in found["empty"].values[2:]), "nothing drawn is not a rate of 0"
    assert found["truncated"].n == 2


def test_the_token_limit_leaves_no_answer_where_a_verifier_found_none() -> None:
    def long(verdict: Verdict | None) -> Sample:
        return sample(0, 0, "first I would", finish="length", verdict=verdict)

    assert not no_answer(long(None))
    assert no_answer(long(Verdict(None, TRUNCATED)))
    assert not no_answer(long(Verdict(None, "no gold"))), "an open-ended text is its own answer"
    assert not no_answer(long(Verdict(True)))
    assert not no_answer(sample(0, 0, "?", verdict=Verdict(None, "no gold")))


def test_a_completion_that_ends_inside_its_reasoning_is_not_truncated() -> None:
    samples = [sample(0, 0, "", reasoning="so", answered=False), sample(0, 1, "a")]
    found = {score.metric: score.values[0] for score in rates(PROBE, samples)}
    assert found == {"no_answer": 0.5, "truncated": 0.0, "clipped_ratio": 0.0, "empty": 0.0}


def test_a_sampler_at_fault_is_named() -> None:
    sound = [sample(p, k, f"answer {p} {k}") for p in range(4) for k in range(2)]
    assert suspicion(sound) is None
    assert suspicion([]) is None
    collapsed = [sample(p, k, f"answer {p}") for p in range(4) for k in range(2)]
    assert suspicion(collapsed) is None, "a collapse is what we look for, not a fault"
    assert "empty" in (suspicion([sample(p, k, "") for p in range(4) for k in range(2)]) or "")
    yes_or_no = [sample(p, k, ("yes", "no")[k]) for p in range(4) for k in range(2)]
    assert suspicion(yes_or_no) is None, "short answers coincide between prompts"
    deaf = [sample(p, k, "the same to everyone") for p in range(4) for k in range(2)]
    assert "may not reach the model" in (suspicion(deaf) or "")
