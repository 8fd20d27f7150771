"""recipes/composition: the mixtures are what README says, a run goes on where it stopped, and its analysis is right."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT

FOLDER = ROOT / "recipes" / "composition"


@pytest.fixture(scope="module")
def recipe() -> Any:
    """run.py and analyze.py, which imports it."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: _load(name) for name in ("run", "analyze")}
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("run", None)


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_mixtures_vary_one_thing_at_a_time(recipe: Any) -> None:
    run = recipe["run"]
    every = [*run.mixtures(), *run.mixtures(2)]
    assert len({mixture.name for mixture in every}) == len(every) == 32 + 48
    for mixture in every:
        drawn = list(itertools.islice(run.rows(mixture, 0), 400))
        sources = [row["source"] for row in drawn]
        assert len(set(sources)) == mixture.teachers
        assert sources.count(run.TEACHERS[mixture.first]) / 400 == pytest.approx(mixture.largest, abs=0.08)
        assert 400 / len({row["prompt"] for row in drawn}) == pytest.approx(mixture.solutions, rel=0.15)
        assert list(itertools.islice(run.rows(mixture, 0), 3)) == drawn[:3], "seeded"
    strict, free = (run.Mixture(1, 1.0, freedom, 1) for freedom in (0, 1))
    words = [{r["completion"].split()[4] for r in itertools.islice(run.rows(m, 0), 100)} for m in (strict, free)]
    assert len(words[0]) == 1 and len(words[1]) == 3, "First, 3 plus 4 is | makes | gives 7."


def test_a_run_goes_on_where_it_stopped(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, results = recipe["run"], tmp_path / "results.jsonl"
    trained: list[Any] = []
    monkeypatch.setattr(run.base, "base_model", lambda seed: ({}, None))
    monkeypatch.setattr(run, "batches", lambda mixture, seed, tokenizer, steps: (mixture.name, seed))
    monkeypatch.setattr(run, "train", lambda model, tokenizer, batch: trained.append(batch))
    monkeypatch.setattr(run, "measure", lambda model, tokenizer, seed: {"sbert": 0.5})
    monkeypatch.setattr(run, "predict", lambda mixture, seed: {"same_prompt": float("nan")})
    assert run.run(results, most=2) == 2
    with results.open("a") as file:
        file.write('{"mixture": "t1-l1.00-f0-s4-o0", "se')  # killed while it wrote
    assert run.run(results, until=0) == 0
    assert run.run(results) == 94 and len(trained) == len(set(trained)) == 96
    assert run.run(results) == 0
    whole = [json.loads(line) for line in results.read_text().splitlines() if line.endswith("}")]
    assert len(whole) == 96 and [r["seed"] for r in whole] == [0] * 32 + [1] * 32 + [2] * 32
    names, columns = recipe["analyze"].read(results)
    assert len(names) == 32 and (columns["seeds"] == 3).all() and (columns["sbert"] == 0.5).all()


def test_the_analysis_finds_the_predictor_that_decides(recipe: Any) -> None:
    analyze, generator = recipe["analyze"], np.random.default_rng(0)
    columns = {name: generator.normal(size=32) for name in (*analyze.PREDICTORS, *analyze.OUTCOMES)}
    columns["sbert_correct"] = -columns["conditional"] + 0.1 * columns["sbert"]
    fit, judge = analyze.halves([mixture.name for mixture in recipe["run"].mixtures()])
    assert len(fit) == len(judge) == 16 and not set(fit) & set(judge)
    candidate, found = analyze.analyze(columns, fit, judge, "sbert_correct")
    own = next(row for row in found if row["predictor"] == "conditional")
    say, width = analyze.predicted(columns["ead"], columns["ead"] ** 3, np.array([-9.0, 0.0, 9.0]))
    assert say[0] == min(columns["ead"] ** 3) and say[2] == max(columns["ead"] ** 3), (
        "rising, never beyond what was seen"
    )
    assert abs(say[1]) < 0.2 and 0 < width < 5
    assert candidate == "conditional" and own["rho"] > 0.9 and own["fitted"] < -0.9
    assert own["interval"][0] > 0.7 and own["over_interval"][0] > 0
    null = next(row for row in found if row["predictor"] == "teachers")
    assert null["over_null"] == 0 and null["interval"][0] < 0 < null["interval"][1]


@pytest.mark.slow
def test_one_training_of_the_real_thing(recipe: Any, tmp_path: Path) -> None:
    assert recipe["run"].run(tmp_path / "results.jsonl", steps=3, most=1) == 1
    (row,) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert row["after"]["sbert"] > 0 and row["predictors"]["teachers"] == 1
