"""A judge behind a real endpoint: its partition, what it is asked, what it may cost and what its failures cost."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from support import runs
from support.scripted import Reply, serving

import divmon
from divmon import DiversityMonitor
from divmon.sampling.serving import client
from divmon.sampling.serving.judge import QUESTION, Judge
from divmon.scoring.metric_inputs import Outputs
from divmon.scoring.metric_selection import select
from divmon.scoring.model_loading import Unavailable
from divmon.scoring.resources import Resources
from divmon.scoring.scorer import Scorer

PATH = "/v1/chat/completions"
ANSWERS = re.compile(r"<first_answer>\n(.*)\n</first_answer>\n\n<second_answer>\n(.*)\n</second_answer>", re.DOTALL)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


def said(text: str) -> Reply:
    return Reply({"choices": [{"message": {"role": "assistant", "content": text}}]})


def by_first_word(body: dict[str, Any]) -> Reply:
    """Two answers take the same approach where they begin alike; one that hears of "odd" things rambles."""
    found = ANSWERS.search(body["messages"][0]["content"])
    assert found is not None
    if "odd" in found[0]:
        return said("Who can tell?")
    same, other = ("true", "false") if found[1].split()[0] == found[2].split()[0] else ("false", "true")
    return said(f'Not {{"same_approach": {other}}}, but {{"same_approach": {same}}}')


ROWS = [
    {"prompt": "2 + 3?", "outputs": ["add one", "add two", "count one", "add one"]},
    {"prompt": "3 + 3?", "outputs": ["add one", "double it", "count on", "look up"]},
]


def test_it_asks_about_one_of_each_class_and_gives_the_effective_number() -> None:
    with serving({PATH: by_first_word}) as server:
        found = divmon.score(ROWS, judge=f"a/judge@{server.url}", metrics="judge_clusters")
        questions = len(server.bodies) - 1  # one to see that it answers
        assert {body["model"] for body in server.bodies} == {"a/judge"}
        assert all(body["temperature"] == 0 for body in server.bodies)
    first, second = (row["judged_approaches"] for row in found.report["per_prompt"])
    assert first == pytest.approx(8 / (1 + 7 / 2)) and second == 8  # of 6 pairs 3 are alike; none
    assert found.report["per_prompt"][1]["judged_entropy"] == pytest.approx(math.log(4))
    # add/add, add/count, and a copy of the first costs nothing; four that all differ take six.
    assert questions == 2 + 6
    assert found.report["settings"]["models"]["judge"].startswith("a/judge, question ")


def test_only_correct_answers_are_judged_the_first_eight() -> None:
    rows = [{"prompt": "?", "outputs": ["add x", "count x", "look x"] * 8, "correct": [True, False, True] * 8}]
    with serving({PATH: by_first_word}) as server:
        found = divmon.score(rows, judge=f"m@{server.url}", metrics="judge_clusters")
        asked = [body["messages"][0]["content"] for body in server.bodies[1:]]
    assert found.report["per_prompt"][0]["judged_approaches"] == pytest.approx(8 / (1 + 7 * 12 / 28))
    assert len(asked) == 1, "copies of an answer are not asked about"
    assert not any("count x" in text for text in asked)


def test_what_was_asked_is_not_asked_again_and_calls_are_limited_by_whole_prompts() -> None:
    answers = [[f"{word} {p}" for word in ("add", "count", "look")] for p in range(4)]
    with serving({PATH: by_first_word}) as server:
        judge = Judge(f"m@{server.url}", calls=7)
        first = judge.classes(["?"] * 4, answers)
        assert first == [[0, 1, 2]] * 2 + [[None] * 3] * 2 and len(server.bodies) == 6
        assert judge.classes(["?"] * 4, answers) == [[0, 1, 2]] * 4 and len(server.bodies) == 12


def test_a_prompt_that_it_fails_at_is_undefined_and_a_dead_judge_costs_its_metric_alone() -> None:
    rows = [*ROWS, {"prompt": "!", "outputs": ["odd one", "odd two"]}]
    with serving({PATH: by_first_word}) as server:
        found = divmon.score(rows, judge=f"m@{server.url}", metrics="ead,judge_clusters")
        assert [row["judged_approaches"] is None for row in found.report["per_prompt"]] == [False, False, True]
        scorer = Scorer("ead,judge_clusters", judge=Judge(f"m@{server.url}"))
    texts = [["add", "count"], ["one"]]
    outputs = Outputs("t", ["1", "2"], ["other"] * 2, texts, prompts=["?", "?"])
    scored = scorer.score([outputs])
    assert [score.metric for score in scored.scores] == ["ead"]
    assert re.search(r"judge 'm' at http://127.0.0.1:\d+/v1 failed at 1 prompts", scored.left_out["t/judge_clusters"])


def test_no_judge_is_an_error_before_anything_is_measured() -> None:
    with pytest.raises(Unavailable, match="'judge_clusters' was asked for by name, but no judge is named: give judge="):
        Scorer("judge_clusters")
    with pytest.raises(ValueError, match=r"judge: expected 'MODEL@URL', such as .*, got 'model'"):
        Judge("model")
    with pytest.raises(Unavailable, match=r"the judge 'm' at http://127.0.0.1:9/v1 does not answer a first question"):
        Scorer("judge_clusters", judge=Judge("m@http://127.0.0.1:9"))


def test_auto_has_it_where_a_judge_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resources, "load", lambda self, cost: None)  # seconds of an encoder that is not used here
    named = Resources(judge=Judge("m@http://127.0.0.1:9"))
    assert "judge_clusters" in [metric.name for metric in select("auto", named)]
    assert "judge_clusters" not in [metric.name for metric in select("auto", Resources())]


def test_a_run_records_the_question_and_its_figures(tmp_path: Path) -> None:
    options = {**runs.CHEAP, "metrics": "ead,judge_clusters"}
    with serving({PATH: lambda body: said('{"same_approach": false}')}) as server:
        secret = server.url.replace("http://", "http://me:secret@")
        monitor = DiversityMonitor(["one plus two", "a b c"], output_dir=tmp_path, judge=f"m@{secret}", **options)
        monitor.measure(runs.model(), runs.tiny.tokenizer(), step=0)
        monitor.close()
    run = divmon.read_run(tmp_path)
    assert run.manifest["judge"]["question"] == QUESTION and run.manifest["judge"]["model"] == "m"
    assert "secret" not in "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert set(run.scores["metric"]) >= {"ead", "judged_approaches", "judged_entropy"}
