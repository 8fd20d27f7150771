"""The corpus of right and wrong answers, one a line of corpus.jsonl: add one for every answer that was graded wrongly.

Fields: `verifier`, `gold` or `row` (the reference), `answer`, `expected` (true, false or null) and `why`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from divmon.grading import sandbox, verifiers
from divmon.prompts import tasks
from divmon.types import Prompt, Verdict

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


CORPUS: dict[str, list[Row]] = defaultdict(list)
for line in read(Path(__file__).with_name("corpus.jsonl")):
    CORPUS[line["verifier"]].append(line)


def graded(name: str, answers: list[str], prompts: list[Prompt]) -> list[Verdict]:
    verifier = verifiers.load(name)
    if verifier.batch:
        return verifier.function(answers, prompts)
    return [verifier(answer, prompt) for answer, prompt in zip(answers, prompts, strict=True)]


@pytest.mark.parametrize("name", CORPUS)
def test_answers_of_the_corpus(name: str) -> None:
    if name == "python_tests" and sandbox.refusal():
        pytest.skip("no sandbox here")
    lines = CORPUS[name]
    prompts = [Prompt("1", "?", gold=line.get("gold"), row=line.get("row")) for line in lines]

    verdicts = graded(name, [line["answer"] for line in lines], prompts)

    wrong = [
        (line.get("gold"), line["answer"], line["expected"], verdict.reason, line["why"])
        for line, verdict in zip(lines, verdicts, strict=True)
        if verdict.correct is not line["expected"]
    ]
    assert not wrong


def test_every_verdict_has_both_sides() -> None:
    for name, lines in CORPUS.items():
        assert {line["expected"] for line in lines} >= {True, False}, name


def test_answers_that_users_reported(shared: Path | None) -> None:
    if shared is None:
        pytest.skip("needs the shared rows")
    for line in read(shared / "data/cases/verdicts.jsonl") + read(shared / "data/cases/programs.jsonl"):
        name = tasks.load(line["task"]).verifier
        gold = line.get("gold")
        prompt = Prompt("1", "?", gold=None if gold is None else str(gold), row=line.get("row"))
        verdicts = graded(str(name), line["outputs"][: len(line["right"])], [prompt] * len(line["right"]))
        assert [verdict.correct for verdict in verdicts] == line["right"], (line["id"], verdicts)


@pytest.mark.parametrize("name", ["gsm8k_direct", "gsm8k_socratic"])
def test_every_human_solution_equals_itself_and_not_the_next(shared: Path | None, name: str) -> None:
    if shared is None:
        pytest.skip("needs the shared rows")
    rows = read(shared / f"data/sft/{name}.jsonl")
    golds = [row["completion"].rpartition("####")[2].strip() for row in rows]
    prompts = [Prompt("1", "?", gold=gold) for gold in golds]
    texts = [row["completion"] for row in rows]

    assert all(verdict.correct for verdict in graded("math_answer", texts, prompts))
    shifted = graded("math_answer", texts[1:] + texts[:1], prompts)
    for verdict, gold, other in zip(shifted, golds, golds[1:] + golds[:1], strict=True):
        assert verdict.correct is (float(gold.replace(",", "")) == float(other.replace(",", ""))), (gold, other)
