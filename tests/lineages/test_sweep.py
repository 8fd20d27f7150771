"""`divmon sweep`: the models in between are what they should be, adaptive points go where figures change, and what is
chosen loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import runs, tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

import divmon
from divmon.cli import main
from divmon.lineages.sweep import NARROWEST, refine
from divmon.lineages.sweep.interpolation import Interpolation, Unlike, check_shapes, check_vocabularies, merged
from divmon.scoring.best_point import Rule


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(seed: int = 1) -> Any:
    """What training may have made of `runs.model()`."""
    model, generator = runs.model(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def test_the_ends_are_the_two_models_bit_for_bit_and_the_middle_is_between() -> None:
    base, tuned = runs.model(), moved()
    before, after = weights(base), weights(tuned)
    between = Interpolation(base, tuned)
    for alpha, expected in ((0.0, before), (1.0, after)):
        assert all(torch.equal(w, expected[name]) for name, w in weights(between.at(alpha)).items())
    for name, w in weights(between.at(0.25)).items():
        torch.testing.assert_close(w, 0.75 * before[name] + 0.25 * after[name])


def test_of_an_adapter_it_is_the_update_scaled() -> None:
    from peft import LoraConfig, get_peft_model

    def adapted(scale: float) -> Any:
        torch.manual_seed(0)
        config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        model = get_peft_model(runs.model(), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(scale)
        return merged(model)

    between = Interpolation(runs.model(), adapted(1.0))
    expected = weights(adapted(0.3))
    for name, w in weights(between.at(0.3)).items():
        torch.testing.assert_close(w, expected[name], atol=1e-6, rtol=1e-5)


def test_models_that_have_nothing_in_between_are_named() -> None:
    one = {"embed.weight": (10, 4), "up.weight": (8, 4)}
    with pytest.raises(Unlike, match=r"up\.weight is \(8, 4\) in BASE and \(9, 4\) in TUNED.*trained from"):
        check_shapes(one, {**one, "up.weight": (9, 4)})
    with pytest.raises(Unlike, match="another vocabulary: add its tokens to BASE"):
        check_shapes(one, {**one, "embed.weight": (12, 4)})
    with pytest.raises(Unlike, match=r"down\.weight is in TUNED alone"):
        check_shapes(one, {**one, "down.weight": (9, 4)})
    check_vocabularies({"a": 0, "b": 1}, {"a": 0, "b": 1, "<think>": 2})
    with pytest.raises(Unlike, match="'a' is 0 in BASE and 1 in TUNED, 'b' is 1 in BASE and 0 in TUNED"):
        check_vocabularies({"a": 0, "b": 1}, {"a": 1, "b": 0})
    tied = runs.model(tie_word_embeddings=True)
    with pytest.raises(Unlike, match="BASE has one matrix for its first and last layer"):
        Interpolation(tied, runs.model(tie_word_embeddings=False))


def test_points_go_where_figures_change_most() -> None:
    """A cliff at 0.4: each point halves the stretch in which it may lie, until that is narrow."""
    places: dict[float, tuple[float, float]] = {a: (a, 0.2 if a < 0.4 else 0.0) for a in (0.0, 0.5, 1.0)}
    asked = []
    while len(places) < 7 and (alpha := refine(places)) is not None:
        asked.append(alpha)
        places[alpha] = (alpha, 0.2 if alpha < 0.4 else 0.0)
    assert asked == [0.25, 0.375, 0.438, 0.406]
    assert refine({0.0: (0.5, 0.2), 0.03: (0.9, 0.0)}) is None, "closer than the narrowest"


@given(st.dictionaries(st.integers(0, 64), st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2))
def test_a_refinement_is_new_and_ends(grid: dict[int, tuple[float, float]]) -> None:
    places = {number / 64: where for number, where in grid.items()}
    for _ in range(80):
        alpha = refine(places)
        if alpha is None:
            break
        assert alpha not in places and min(places) < alpha < max(places)
        assert min(abs(alpha - other) for other in places) >= NARROWEST - 0.001
        assert round(1000 * alpha) / 1000 == alpha, "what is measured is what its step says"
        places[alpha] = (0.5, 0.5)
    else:
        raise AssertionError("it never ends")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models, and the sweep between them as a shell calls it."""
    folder = tmp_path_factory.mktemp("sweep")
    for name, model in {"base": runs.model(), "tuned": moved()}.items():
        model.save_pretrained(folder / name)
        tiny.tokenizer(runs.TEXTS).save_pretrained(folder / name)
    rows = [{"id": f"p{i}", "prompt": row["prompt"], "gold": str(i)} for i, row in enumerate(runs.ROWS[::10])]
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "parity.py").write_text(
        "import zlib\nfrom divmon.types import Verdict\n\n\n"
        "def parity(text, prompt):\n    return Verdict(zlib.crc32(text.encode()) % 2 == 0, answer=text)\n"
    )
    assert main(command(folder)) == 0
    return folder


def command(folder: Path, *more: str) -> list[str]:
    asked = ["--probes", str(folder / "asked.jsonl"), "--divmon_verifier", f"{folder / 'parity.py'}:parity"]
    few = ["--divmon_max_new_tokens", "8", "--divmon_metrics", "sbert", "--divmon_embedder", "minilm"]
    few += ["--divmon_num_samples", "4", "--points", "4", "--temperatures", "1.5"]
    return ["sweep", str(folder / "base"), str(folder / "tuned"), "--out", str(folder / "out"), *asked, *few, *more]


def test_a_sweep_is_one_run_and_what_it_chose_loads(swept: Path) -> None:
    run = divmon.read_run(swept / "out")
    assert len(run.steps) == 4 and set(run.steps) > {0, 500, 1000}
    assert [run.provenance[step]["alpha"] for step in run.steps] == [step / 1000 for step in run.steps]
    rows = pd.read_csv(swept / "out" / "frontier.csv")
    assert rows["chosen"].sum() == 1 and list(rows["temperature"].dropna()) == [1.5]
    alpha = rows.loc[rows["chosen"], "alpha"].item()
    model = AutoModelForCausalLM.from_pretrained(swept / "out" / "model")
    expected = weights(Interpolation(runs.model(), moved()).at(alpha))
    assert all(torch.equal(w, expected[name]) for name, w in weights(model).items())
    tokenizer = AutoTokenizer.from_pretrained(swept / "out" / "model")
    assert tokenizer.get_vocab() == tiny.tokenizer(runs.TEXTS).get_vocab()
    assert (swept / "out" / "frontier.png").stat().st_size > 10_000


def test_started_again_it_goes_on(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {file: file.stat().st_mtime_ns for file in (swept / "out").rglob("snapshots/*")}
    assert main(command(swept)) == 0
    assert {file: file.stat().st_mtime_ns for file in (swept / "out").rglob("snapshots/*")} == files
    out = capsys.readouterr().out
    assert "chosen: alpha" in out and "temperature 1.5" in out


def test_what_cannot_be_swept_is_one_line(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(*argv: str) -> str:
        capsys.readouterr()
        assert main(["sweep", *argv]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err
        return err.splitlines()[-1]  # after the bars of transformers

    base, tuned, out = (str(swept / name) for name in ("base", "tuned", "out"))
    assert "expected numbers from 0 (the base) to 1" in wrong(base, tuned, "--alphas", "0.5,1.5")
    assert "--points: expected at least 3" in wrong(base, tuned, "--points", "2")
    assert "out holds a sweep from" in wrong(tuned, base, "--out", out)
    new = str(swept / "new")
    assert "nowhere: cannot be loaded as a causal language model" in wrong("nowhere", tuned, "--out", new)
    other = runs.model(hidden_size=64)
    other.save_pretrained(swept / "other")
    tiny.tokenizer(runs.TEXTS).save_pretrained(swept / "other")
    assert "the two differ in shape" in wrong(str(swept / "other"), tuned, "--out", new)


def test_a_rule_that_none_fits_saves_nothing(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(swept, "--min-accuracy", "1")) == 3
    assert "nothing is chosen: min_accuracy: none reaches 1" in capsys.readouterr().err
    assert Rule(min_accuracy=1.0).keep is None
