"""Scoring: each metric gets what it names, K samples or all, and one that fails stops nobody."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from divmon.scoring import encoders as encode
from divmon.scoring import metrics, packaged_weights
from divmon.scoring import resources as resources_module
from divmon.scoring.decomposition import decompose
from divmon.scoring.encoders import TextEncoder
from divmon.scoring.intervals import from_replicates, jackknife
from divmon.scoring.metric_inputs import Inputs, Outputs, Resources, program
from divmon.scoring.metric_selection import select
from divmon.scoring.packaged_weights import Unavailable
from divmon.scoring.scorer import Scorer, changes, score
from divmon.types import Score

OWN = """
import torch

from divmon.scoring.metrics import Figure, metric

@metric("Spread of mean word counts over prompts", across_prompts=True)
def spread(texts_PK):
    means = [sum(len(t.split()) for t in texts if t) / len(texts) for texts in texts_PK]
    return {"spread": torch.tensor(max(means) - min(means) + sum(m * m for m in means), dtype=torch.float64)}

def broken(texts_PK):
    raise RuntimeError("no such luck")

def strict(correct_PK, texts_PK):
    return correct_PK.double().mean(1)

def misshapen(texts_PK):
    return torch.zeros(7)

@metric(figures={"promised": Figure()})
def another(texts_PK):
    return {"given": torch.zeros(len(texts_PK))}

@metric(figures={"ead": Figure()})
def usurper(texts_PK):
    return {"ead": torch.zeros(len(texts_PK))}

@metric(figures={"pass_at4": Figure()})
def pretender(texts_PK):
    return {"pass_at4": torch.zeros(len(texts_PK))}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own_metrics.py"
    file.write_text(OWN)
    return file


@pytest.fixture(scope="module")
def resources() -> Resources:
    return Resources(embedder="minilm", device="cpu")


def outputs(prompts: int = 3, samples: int = 4, **parts: object) -> Outputs:
    texts = [[f"prompt {p} answer {k * k} and {'more ' * (k % 3)}" for k in range(samples)] for p in range(prompts)]
    given = {"prompt_ids": [str(p) for p in range(prompts)], "categories": ["reasoning"] * prompts, "texts": texts}
    return Outputs("task", **{**given, **parts})  # type: ignore[arg-type]


def by_name(scores: list[Score]) -> dict[str, Score]:
    return {score.metric: score for score in scores}


def test_scores_are_the_metrics_values_with_their_means_and_intervals(resources: Resources) -> None:
    task = outputs(correct=[[True, True, None, False], [False] * 4, [True] * 4], lengths=[[3, 4, 5, 6]] * 3)
    scored = score([task], select("auto", resources), resources)
    assert not scored.left_out
    found = by_name(scored.scores)
    assert {"ead", "sbert", "sbert_correct", "vendi", "vendi2_at8", "length_tokens", "traced"} <= set(found)
    assert not {"ast_pairwise", "code_sbert", "nli"} & set(found)
    ead = metrics.load("ead").function(task.texts)
    assert found["ead"].values == tuple(ead.tolist())
    assert found["ead"].mean == pytest.approx(ead.mean().item()) and found["ead"].n == 3
    assert found["length_tokens"].mean == 4.5
    right = found["sbert_correct"]
    assert right.n == 2 and math.isnan(right.values[1]) and math.isnan(right.low)
    embeddings = TextEncoder("minilm", device="cpu").encode([task.texts[0][0], task.texts[0][1]])  # type: ignore[list-item]
    assert right.values[0] == pytest.approx(1 - (embeddings[0] @ embeddings[1]).item(), abs=1e-5)


def test_order_two_vendi_is_averaged_through_its_squared_cosines(resources: Resources) -> None:
    vendi2 = by_name(score([outputs(5)], [metrics.load("vendi")], resources).scores)["vendi2_at8"]
    values = np.array(vendi2.values)
    c2 = (8 / values - 1) / 7
    assert vendi2.mean == pytest.approx(8 / (1 + 7 * c2.mean()))
    interval = jackknife("harmonic_mean", values)
    assert (vendi2.low, vendi2.high) == (interval.low, interval.high)


def test_more_samples_than_k_go_to_the_metrics_that_are_unbiased_for_every_number(resources: Resources) -> None:
    chosen = select("ead,sbert,vendi,duplicates", resources)
    whole, first = outputs(samples=9), outputs(samples=9)
    first.texts = [row[:4] for row in first.texts]
    more, fewer = (by_name(score([task], chosen, resources, num_samples=4).scores) for task in (whole, first))
    for name in ("ead", "vendi", "distinct_share"):
        assert more[name].values == pytest.approx(fewer[name].values, abs=1e-6)
    for name in ("sbert", "vendi2_at8", "vendi_at4"):
        assert more[name].values != pytest.approx(fewer[name].values, abs=1e-4)


def test_each_distinct_text_reaches_the_encoder_once_in_all_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = Resources(embedder="minilm", device="cpu")
    encoder, asked = resources.models["encoder"], []
    assert isinstance(encoder, TextEncoder)
    encode_texts = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts: asked.append(len(texts)) or encode_texts(texts))
    chosen = select("auto", resources)
    first, more = outputs(prompts=5), outputs(prompts=6)
    before = by_name(score([first], chosen, resources).scores)
    again = by_name(score([first], chosen, resources).scores)
    assert asked == [20] and again["sbert"].values == before["sbert"].values
    more.texts = [*first.texts, ["new", "new", "other", "new"]]
    score([more], chosen, resources)
    assert asked == [20, 2]


def test_embeddings_that_are_kept_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources_module, "KEPT_BYTES", 4 * 384 * 3)
    resources = Resources(embedder="minilm", device="cpu")
    rows = resources.encode("encoder", ["a", "b", "c", "d", "a"])
    assert torch.equal(rows[0], rows[4]) and list(resources._known["encoder"]) == ["b", "c", "d"]
    assert resources.encode("encoder", []).shape == (0, 384)


def test_the_tasks_of_a_snapshot_go_through_the_encoder_together(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = Resources(embedder="minilm", device="cpu")
    encoder, asked = resources.models["encoder"], []
    assert isinstance(encoder, TextEncoder)
    embed = encoder._embed
    monkeypatch.setattr(encoder, "_embed", lambda texts: asked.extend(texts) or embed(texts))
    first, second = (
        outputs(),
        outputs(prompts=2, samples=7, texts=[["other", "prompt 0 answer 0 and "] * 3 + ["x"]] * 2),
    )
    second.task = "second"
    chosen = select("sbert", resources)
    both = score([first, second], chosen, resources).scores
    distinct = {text for task in (first, second) for texts in task.texts for text in texts}
    assert sorted(asked) == sorted(distinct)
    for alone in (score([task], chosen, resources).scores[0] for task in (first, second)):
        together = next(one for one in both if one.task == alone.task)
        assert together.values == pytest.approx(alone.values, abs=1e-6)


def test_a_text_that_cannot_be_encoded_costs_no_other_task_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = Resources(embedder="minilm", device="cpu")
    encoder = resources.models["encoder"]
    assert isinstance(encoder, TextEncoder)
    embed = encoder._embed

    def refuse(texts: list[str]) -> torch.Tensor:
        if "unreadable" in texts:
            raise TypeError("no text")
        return embed(texts)

    monkeypatch.setattr(encoder, "_embed", refuse)
    sound, other = outputs(), outputs(prompts=1, texts=[["unreadable", "a", "b", "c"]])
    other.task = "other"
    scored = score([sound, other], select("sbert", resources), resources)
    assert [one.task for one in scored.scores] == ["task"] and scored.left_out == {"other/sbert": "TypeError: no text"}


@pytest.mark.parametrize("refused", [None, "Five"])
def test_the_pairs_of_sentences_of_all_tasks_are_classified_together(
    monkeypatch: pytest.MonkeyPatch, refused: str | None
) -> None:
    """Each once, in one call; where that fails, a pair that cannot be read costs no other task its figures."""
    resources, calls = Resources(embedder="minilm", device="cpu"), []

    def classify(pairs: list[tuple[str, str]]) -> torch.Tensor:
        calls.append(pairs)
        if any(refused in pair for pair in pairs):
            raise TypeError("no sentence")
        return torch.tensor([[0.0, 0.0, 1.0]] * len(pairs))

    monkeypatch.setitem(resources.models, "nli", classify)
    texts = [["One. Two", "One. Four"]]
    tasks = [outputs(prompts=1, texts=texts), outputs(prompts=1, texts=[["One. Two", "One. Five", "One. Four"]])]
    tasks[1].task = "second"
    scored = score(tasks, [metrics.load("nli")], resources)
    assert len(calls[0]) == len(set(calls[0])) == 7
    if refused is None:
        assert len(calls) == 1 and not scored.left_out and len(scored.scores) == 2
    else:
        assert [one.task for one in scored.scores] == ["task"]
        assert scored.left_out == {"second/nli": "TypeError: no sentence"}


def test_inputs_are_padded_masked_and_told_apart_by_category(resources: Resources) -> None:
    task = Outputs(
        "mixed",
        ["a", "b", "c"],
        ["reasoning", "code", "code"],
        [["one", None, "two"], ["```python\nx = 1\n```"], []],
        correct=[[True, None, False], [True], []],
        lengths=[[3, 9, None], [7], []],
    )
    inputs = Inputs(task, resources, None)
    assert inputs.texts_PK == [["one", None, "two"], ["```python\nx = 1\n```", None, None], [None] * 3]
    assert inputs.mask_PK.tolist() == [[True, False, True], [True, False, False], [False] * 3]
    assert inputs.prose_PK == [["one", None, "two"], [None] * 3, [None] * 3]
    assert inputs.programs_PK == [[None] * 3, ["x = 1", None, None], [None] * 3]
    assert inputs.correct_PK is not None and inputs.correct_PK.sum() == 2
    assert inputs.lengths_PK is not None and inputs.lengths_PK.isnan().sum() == 6
    assert (inputs.embeddings_PKD.norm(dim=-1) > 0.99).tolist() == inputs.mask_PK.tolist()
    assert Inputs(outputs(correct=[[None] * 4] * 3), resources, None).correct_PK is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1", "x = 1"),
        ("Here:\n```python\nx = 1\ny = 2\n```\nand\n```python\nz = 3\n```", "z = 3"),
        ("```\nx = 1", "x = 1"),
        ("I am sorry, I cannot do that.", None),
    ],
)
def test_a_program_is_what_would_be_judged(text: str, code: str | None) -> None:
    assert program(text) == code


def test_a_metric_that_fails_is_left_out_with_its_reason_and_the_others_go_on(
    own: Path, resources: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = select(
        ["ead", *(f"{own}:{name}" for name in ("broken", "strict", "misshapen", "another")), "length"], resources
    )
    scored = score([outputs()], chosen, resources)
    assert {s.metric for s in scored.scores} == {"ead", "length_words"}
    assert scored.left_out == {
        "task/broken": "RuntimeError: no such luck",
        "task/strict": "ValueError: it needs correct_PK, which these outputs do not have",
        "task/misshapen": "ValueError: 'misshapen' has the shape (7,), expected one value for each prompt",
        "task/another": "ValueError: it gives given, and its @metric declares promised only",
    }
    assert "left out of this measurement: task/broken: RuntimeError: no such luck" in caplog.text


def test_a_figure_has_one_metric(own: Path, resources: Resources) -> None:
    with pytest.raises(ValueError, match="metrics 'ead' and 'usurper' both give a figure named 'ead'"):
        select(["ead", f"{own}:usurper"], resources)
    with pytest.raises(ValueError, match="gives a figure named 'pass_at4', which divmon computes itself"):
        select([f"{own}:pretender"], resources)


def test_distances_are_of_all_samples_whatever_a_metric_takes(resources: Resources) -> None:
    """So that verdicts of all N samples stand beside them: pairs that a metric was not given are undefined."""
    texts = [[f"```python\nx = {a}\ny = f(x, {a * b})\n```" for a in range(8)] for b in range(3)]
    given = Outputs("t", list("abc"), ["code"] * 3, texts, correct=[[True] * 8] * 3)
    scored = score([given], [metrics.load("ast_subtree"), metrics.load("sbert")], resources, 2, distances=True)
    assert scored.left_out == {}
    first_k, every = scored.distances["t", "ast_subtree"], scored.distances["t", "sbert"]
    assert first_k.shape == every.shape == (3, 8, 8)
    assert first_k[:, :2, :2].isfinite().sum() == 3 * 2 and first_k.isfinite().sum() == 3 * 2
    assert every.isfinite().sum() == 3 * 8 * 7
    parts = decompose(first_k, first_k[:, :5, :5], [[True] * 8] * 3, [[True] * 5] * 3)
    assert parts.n == 3 and parts.change == 0


def test_a_pairwise_of_another_shape_costs_its_metric_alone(tmp_path: Path, resources: Resources) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom divmon.scoring.metrics import metric\n"
        "def distances(mask_PK): return torch.zeros(2, 2)\n"
        "@metric(pairwise=distances)\ndef own(mask_PK): return mask_PK.double().sum(1)\n"
    )
    given = Outputs("t", ["a"], ["other"], [["x", "y", "z"]])
    scored = score([given], [metrics.load(f"{tmp_path}/own.py:own")], resources, 2, distances=True)
    assert "expected [prompts, samples, samples], (1, 2, 2)" in scored.left_out["t/own"]


@pytest.mark.parametrize("prompts", [20, 131])
def test_an_across_prompt_figure_is_jackknifed_by_prompts_or_by_groups(
    own: Path, resources: Resources, prompts: int
) -> None:
    task = outputs(prompts)
    task.texts = [[f"{'word ' * (1 + p * 7 % 13)}" for _ in range(2)] for p in range(prompts)]
    task.texts[3] = [None, None]
    metric = metrics.load(f"{own}:spread")
    found = score([task], [metric], resources).scores[0]
    answered = [row for p, row in enumerate(task.texts) if p != 3]
    groups = len(answered) if prompts <= 128 else 64
    replicates = [
        metric.function([row for p, row in enumerate(answered) if p % groups != g])["spread"].item()
        for g in range(groups)
    ]
    expected = from_replicates(metric.function(answered)["spread"].item(), replicates, n=prompts - 1)
    assert (found.mean, found.low, found.high, found.n) == (expected.value, expected.low, expected.high, prompts - 1)
    assert found.values == () and found.low < found.mean < found.high


def test_an_across_prompt_metric_may_give_its_own_replicates(own: Path, resources: Resources) -> None:
    task = outputs(131)
    metric = metrics.load(f"{own}:spread")
    assert metric.leave_one_out is None
    replicates_P = torch.arange(131.0).double()
    one_pass = dataclasses.replace(metric, leave_one_out=lambda texts_PK: {"spread": replicates_P})
    found = score([task], [one_pass], resources).scores[0]
    expected = from_replicates(metric.function(task.texts)["spread"].item(), replicates_P)
    assert (found.mean, found.low, found.high, found.n) == (expected.value, expected.low, expected.high, 131)


def test_the_intervals_of_across_are_those_of_recomputing_it(resources: Resources) -> None:
    task = outputs(prompts=7)
    task.texts = [[None] * 4, task.texts[2], ["alone", None, None, None], *task.texts[3:]]
    across = metrics.load("across")
    plain = score([task], [dataclasses.replace(across, leave_one_out=None)], resources).scores
    for found, expected in zip(score([task], [across], resources).scores, plain, strict=True):
        assert (found.metric, found.mean) == (expected.metric, expected.mean)
        if found.metric == "traced_chance":
            assert math.isnan(found.low), "a constant of the design"
        elif found.metric in ("traced", "traced_nats"):
            assert found.n == 5, "prompts with two answers or more"
        else:
            assert found.n == expected.n == 6 and found.low < found.high
            assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-8)


def test_what_is_traced_has_the_interval_of_the_prompts_that_trace(resources: Resources) -> None:
    """Prompts of one answer are beside the point: with them or without, the interval is the same."""
    task, alone = outputs(prompts=5), outputs(prompts=9)
    alone.texts = [*task.texts, *[["one answer", None, None, None]] * 4]
    few, many = (
        next(s for s in score([one], [metrics.load("across")], resources).scores if s.metric == "traced")
        for one in (task, alone)
    )
    assert few.n == many.n == 5
    assert (few.mean, few.low, few.high) == pytest.approx((many.mean, many.low, many.high))


def test_across_runs_on_answers_that_are_partly_or_wholly_missing(resources: Resources) -> None:
    task = outputs(prompts=4)
    task.texts = [[None] * 4, *task.texts[1:]]
    across = [metrics.load("across")]
    found = by_name(score([task], across, resources).scores)
    assert found["across_sbert"].n == 3 and found["traced"].mean >= 0
    nothing = score([outputs(texts=[[None] * 2] * 3)], across, resources)
    assert not nothing.left_out and all(math.isnan(s.mean) and s.n == 0 for s in nothing.scores)


def test_code_metrics_come_with_code_and_leave_prose_alone(resources: Resources) -> None:
    assert "ast_subtree" not in [m.name for m in select("auto", resources)]
    code = outputs(categories=["code"] * 3, texts=[["x = [1, 2]", "y = f(3)"]] * 3)
    chosen = [metrics.load("ast_subtree")]
    assert {s.metric for s in score([code], chosen, resources).scores} == {"ast_pairwise", "ast_distinct"}
    assert score([outputs()], chosen, resources).scores == []


def test_a_missing_model_is_one_line_for_auto_and_an_error_by_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encode, "MPNET", "nobody/none")
    monkeypatch.delitem(packaged_weights.PACKAGED, "minilm")
    missing = Resources(code_embedder="microsoft/unixcoder-base", nli_model="nobody/nli", device="cpu")
    missing.models["code_encoder"] = encode.CodeEncoder("nobody/code")
    with caplog.at_level(logging.WARNING):
        names = [metric.name for metric in select("auto", missing, has_code=True)]
    cheap = ["approach", "ast_subtree", "compression", "cross_entropy", "distinct_n", "duplicates", "ead", "length"]
    assert names == [*cheap, "repetition", "token_entropy"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and all("\n" not in line for line in lines)
    assert lines[0].startswith("metrics left out: code_embedding; no model 'nobody/code'")
    assert lines[1].startswith("metrics left out: across, answer_clusters, sbert, vendi; no model 'nobody/none'")
    for asked in ("sbert", "auto,nli", ["code_embedding"]):
        with pytest.raises(Unavailable, match="was asked for by name, but no model"):
            select(asked, missing)
    with pytest.raises(Unavailable, match="no model 'nobody/mine'"):
        select("auto", Resources(embedder="nobody/mine"))


def test_names_are_taken_once_each_and_unknown_ones_named(resources: Resources) -> None:
    assert [m.name for m in select(" ead, vendi,ead ", resources)] == ["ead", "vendi"]
    assert "sbert" in [m.name for m in select("auto,sbert", resources)]
    with pytest.raises(ValueError, match="no metric named 'vendy'"):
        select("vendy", resources)
    with pytest.raises(ValueError, match="no metric is named; there are"):
        select("", resources)


def test_changes_pair_prompts_by_id_where_the_sets_differ() -> None:
    now = [
        Score("t", "sbert", 0, values=(0.1, 0.2, 0.9)),
        Score("t", "traced", 0.5),
        Score("t", "new", 0, values=(1, 1, 1)),
    ]
    before = [Score("t", "sbert", 0, values=(0.5, 0.4, math.nan)), Score("other", "sbert", 0, values=(1.0,))]
    found = changes(now, {"t": ["a", "b", "c"]}, before, {"t": ["b", "a", "d"]})
    assert [(c.task, c.metric, c.n) for c in found] == [("t", "sbert", 2)]
    assert (found[0].reference, found[0].now) == pytest.approx((0.45, 0.15))
    assert found[0].change == pytest.approx(-0.3) and math.isnan(found[0].low)
    nothing = changes(now[:1], {"t": ["a", "b", "c"]}, before, {"t": ["x", "y", "z"]})
    assert nothing[0].n == 0 and math.isnan(nothing[0].change)


def test_changes_average_as_the_metric_does(resources: Resources) -> None:
    chosen = Scorer("vendi", embedder="minilm", device="cpu")
    ids = {"task": [str(p) for p in range(4)]}
    now, before = (chosen.score([outputs(4, samples)]).scores for samples in (4, 7))
    found = {change.metric: change for change in chosen.changes(now, ids, before)}
    assert found["vendi2_at8"].now == pytest.approx(by_name(now)["vendi2_at8"].mean)
    assert found["vendi2_at8"].reference == pytest.approx(by_name(before)["vendi2_at8"].mean)
    assert found["vendi"].now == pytest.approx(by_name(now)["vendi"].mean)
    assert chosen.names == ["vendi"] and chosen.encoders() == {"encoder": "minilm"}


def test_outputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="expected ids, categories and texts of as many prompts, got 2, 3 and 3"):
        outputs(prompt_ids=["a", "b"])
    with pytest.raises(ValueError, match="'correct' must have one entry for each text"):
        outputs(correct=[[True]] * 3)


def test_scoring_draws_no_random_number(resources: Resources) -> None:
    before = torch.get_rng_state()
    score([outputs(samples=20)], select("auto", resources), resources, num_samples=16)
    assert torch.equal(before, torch.get_rng_state())
