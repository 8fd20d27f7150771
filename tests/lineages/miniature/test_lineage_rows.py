"""Rows of the lineages in small: what a recipe says of its sources decides what they are made of."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import RECIPES

from divmon.cli import replay
from divmon.grading.verifiers.math_answer import math_answer
from divmon.lineages.miniature import base, lineages
from divmon.lineages.miniature.problems import draw_problem
from divmon.lineages.miniature.stories import MANNERS, draw_request, tell
from divmon.lineages.miniature.styles import STYLES
from divmon.lineages.recipes import Recipe, load
from divmon.prompts import tasks
from divmon.storage.writer import read_run
from divmon.types import Prompt

NAMES = ("think", "instruct", "rl_zero_math")


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    return {name: load(RECIPES / f"{name}.yaml", scale="miniature") for name in NAMES}


def answers(recipe: Recipe, stage: str, side: str = "messages", seed: int = 0) -> list[tuple[str, str]]:
    """(question, answer) of a stage's rows."""
    rows = lineages.stage_rows(recipe.stages[stage], seed)
    return [(row[side][0]["content"], row[side][1]["content"]) for row in rows]


def style_of(answer: str) -> str | None:
    """The style that an answer to a word problem is written in, told by its form."""
    text = answer.rpartition("</think>\n\n")[2]
    marks = {
        "numbered": "Step 1", "table": "| ", "first_then": "First,", "backwards": "It is", "questions": "What is",
        "algebra": "Let", "story": ("We start", "There are"), "one_line": "(",
    }  # fmt: skip
    for style, begin in marks.items():
        if text.startswith(begin):
            return style
    return "checked" if " and " in text else "equations"


def shares(recipe: Recipe, stage: str) -> float:
    """The effective number of styles among a stage's worked problems: one over the sum of squared shares."""
    counts = Counter(style_of(answer) for _, answer in answers(recipe, stage) if "####" in answer)
    return sum(counts.values()) ** 2 / sum(n * n for n in counts.values())


def test_few_teachers_write_alike_and_many_sources_do_not(recipes: dict[str, Recipe]) -> None:
    assert shares(recipes["think"], "sft") < 2
    assert shares(recipes["instruct"], "sft") > 3.5


def test_traces_stand_where_the_recipe_says_and_teachers_are_right(recipes: dict[str, Recipe]) -> None:
    for name, thinks in (("think", True), ("instruct", False)):
        written = answers(recipes[name], "sft")
        assert all(("<think>" in answer) == thinks for _, answer in written)
        worked = {style_of(answer) for _, answer in written if "####" in answer}
        assert worked <= set(STYLES)
    for question, answer in answers(recipes["think"], "sft"):
        if "####" in answer:
            trace, _, text = answer.removeprefix("<think>\n").partition("\n</think>\n\n")
            gold = trace.rpartition("=")[2]
            assert math_answer(text, Prompt("1", question, gold=gold)).correct


@pytest.mark.parametrize(("name", "most_wrong"), [("think", 0.1), ("instruct", 0.1)])
def test_the_chosen_side_is_better_than_the_rejected(recipes: dict[str, Recipe], name: str, most_wrong: float) -> None:
    """Told by an oracle that never saw the working: the same question, worked by the generator without a mistake."""
    golds = {}
    rng = random.Random(0)
    while len(golds) < 20_000:
        problem = draw_problem(rng)
        golds[problem.question] = str(problem.answer)
    wrong = {}
    for side in ("chosen", "rejected"):
        known = [(q, a) for q, a in answers(recipes[name], "dpo", side) if q in golds]
        assert len(known) > 50
        judged = [math_answer(a.rpartition("</think>")[2], Prompt("1", q, gold=golds[q])).correct for q, a in known]
        wrong[side] = 1 - sum(map(bool, judged)) / len(judged)
    assert wrong["chosen"] < most_wrong and 0.3 < wrong["rejected"] < 0.9


def test_a_pair_that_names_one_side_is_refused(recipes: dict[str, Recipe]) -> None:
    import dataclasses

    stage = recipes["think"].stages["dpo"]
    alone = dataclasses.replace(stage.data.sources[0], teacher="Qwen3-32B")
    bad = dataclasses.replace(stage, data=dataclasses.replace(stage.data, sources=[alone]))
    with pytest.raises(ValueError, match=r"'UltraFeedback': expected `teacher: A over B` of pairs, got 'Qwen3-32B'"):
        lineages.stage_rows(bad, 0)


def test_a_seed_gives_the_same_rows_and_another_gives_others(recipes: dict[str, Recipe]) -> None:
    for recipe in recipes.values():
        for stage in recipe.stages.values():
            rows = lineages.stage_rows(stage, 1)
            assert rows == lineages.stage_rows(stage, 1) != lineages.stage_rows(stage, 2)
            assert len(rows) == stage.data.rows
            assert set(stage.data.keep) <= rows[0].keys()


def test_no_training_row_asks_what_a_probe_asks(recipes: dict[str, Recipe]) -> None:
    asked = {prompt.content for name in ("word_problems", "stories") for prompt in tasks.load(name).probe(64).prompts}
    seen = {row["prompt"] for row in lineages.base_rows(5000, 0, 0.25)}
    for recipe in recipes.values():
        for stage in recipe.stages.values():
            for row in lineages.stage_rows(stage, 0):
                seen.add(row["prompt"] if "prompt" in row else row["messages"][0]["content"])
    assert len(asked) == 104
    assert not [question for question in asked if any(question in text for text in seen)]


def test_the_probes_are_what_the_generator_draws() -> None:
    folder = Path(tasks.__file__).parent
    rows = {name: (folder / f"{name}.jsonl").read_text().splitlines() for name in ("word_problems", "stories")}
    rng = random.Random("probe 0")
    drawn = {p.question: str(p.answer) for p in (draw_problem(rng, held_out=True) for _ in range(400))}
    assert {json.loads(r)["prompt"]: json.loads(r)["gold"] for r in rows["word_problems"]}.items() <= drawn.items()
    rng = random.Random("probe 0")
    told = {draw_request(rng, held_out=True).text for _ in range(1000)}
    assert {json.loads(row)["prompt"] for row in rows["stories"]} <= told


@pytest.mark.parametrize("manner", MANNERS)
def test_a_story_is_about_what_was_asked_and_a_poor_one_is_not(manner: str) -> None:
    rng = random.Random(0)
    for _ in range(20):
        request = draw_request(rng)
        assert request.thing in tell(request, manner, rng)
        poor = tell(request, manner, rng, poor=True)
        assert request.thing not in poor and "{" not in poor


def test_an_unknown_manner_is_named() -> None:
    with pytest.raises(ValueError, match="no manner named 'epic'; there are plain"):
        tell(draw_request(random.Random(0)), "epic", random.Random(0))


def test_all_stages_run_from_the_recipe_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a base that has hardly begun to learn, two steps a stage and four prompts: the way, not the numbers."""
    small: Any = base.BaseConfig(
        world="lineages", hidden_size=32, intermediate_size=32, num_attention_heads=2, steps=4, batch_size=4
    )
    monkeypatch.setattr(base, "LINEAGES", small)
    monkeypatch.setenv("DIVMON_CACHE", str(tmp_path / "cache"))
    sets = ["monitor.num_prompts=2", "monitor.num_samples=2", "monitor.reference_samples=4", "monitor.metrics=length"]
    sets += ["monitor.max_new_tokens=8", "monitor.max_reasoning_tokens=4", "rl.args.max_completion_length=8"]
    sets += [f"{stage}.args.max_steps=2" for stage in ("sft", "dpo", "rl")]
    flags = [part for value in sets for part in ("--set", value)]
    command = [str(RECIPES / "think.yaml"), "--scale", "miniature", "--seed", "3", "--out", str(tmp_path), *flags]
    assert replay.main(command) == 0
    run = read_run(tmp_path / "olmo3-think")
    assert run.steps == [0, 2, 4, 6]
    assert [run.provenance[step]["stage"] for step in run.steps] == ["sft", "sft", "dpo", "rl"]
    printed = capsys.readouterr().out
    assert "olmo3-think is through; its time" in printed
    table = printed.partition("its time\n")[2].splitlines()
    assert [line.split()[0] for line in table] == ["stage", "sft", "dpo", "rl", "all"]
    assert sum(float(line.split()[2]) for line in table[1:4]) == pytest.approx(float(table[4].split()[1]), abs=0.2)
