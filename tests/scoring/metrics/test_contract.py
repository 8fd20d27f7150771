"""The contract that every file of divmon/metrics is held to, a new one too."""

from __future__ import annotations

import doctest
import inspect
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from divmon.scoring import metrics
from divmon.scoring.metrics import INPUTS, Metric

PROMPTS, SAMPLES = 4, 6
NAMES = metrics.available()


def inputs(texts_PK: list[list[str | None]]) -> dict[str, object]:
    """Everything on offer, for texts that are prose and programs at once."""
    mask_PK = torch.tensor([[text is not None for text in texts] for texts in texts_PK])
    generator = torch.Generator().manual_seed(0)
    raw_PKD = torch.randn(*mask_PK.shape, 5, generator=generator)
    embeddings_PKD = torch.nn.functional.normalize(raw_PKD, dim=-1) * mask_PK[..., None]
    return {
        "texts_PK": texts_PK,
        "mask_PK": mask_PK,
        "embeddings_PKD": embeddings_PKD,
        "prompt_embeddings_PD": torch.nn.functional.normalize(torch.ones(len(texts_PK), 5), dim=-1),
        "answers_PK": [[text and text[:9] for text in texts] for texts in texts_PK],
        "prose_PK": texts_PK,
        "programs_PK": texts_PK,
        "program_mask_PK": mask_PK,
        "code_embeddings_PKD": embeddings_PKD,
        "correct_PK": mask_PK,
        "lengths_PK": torch.where(mask_PK, 7.0, torch.nan).double(),
        "likelihood_PKF": torch.where(mask_PK[..., None], torch.tensor([0.4, 0.2, 0.9, 0.5]), torch.nan).double(),
        "stored_nll_PF": torch.where(mask_PK.any(1)[:, None], torch.tensor([2.0, 1.0, 0.5, 1.5]), torch.nan).double(),
        "judged_PK": [[None if text is None else len(text) % 3 for text in texts] for texts in texts_PK],
        "num_samples": mask_PK.shape[1],
        "vocab_size": 100,
        "classify_nli": lambda pairs: torch.tensor([[float(a != b), 0.0, float(a == b)] for a, b in pairs]).double(),
        "nli_sentences": 2,
        "seed": 0,
    }


def run(metric: Metric, texts_PK: list[list[str | None]]) -> dict[str, torch.Tensor]:
    on_offer = inputs(texts_PK)
    result = metric.function(**{name: on_offer[name] for name in metric.takes if name in on_offer})
    return result if isinstance(result, dict) else {metric.name: result}


def programs(samples: int) -> list[list[str | None]]:
    return [[f"x{p} = [a + {k}, b * f({p})]\nprint(x{p})" for k in range(samples)] for p in range(PROMPTS)]


def test_the_folder_holds_the_metrics_and_inputs_are_documented() -> None:
    assert {"ead", "sbert", "vendi", "nli", "ast_subtree", "code_embedding", "across"} <= set(NAMES)
    assert set(inputs(programs(2))) == set(INPUTS)


@pytest.mark.parametrize("name", NAMES)
def test_it_declares_what_it_is_and_its_example_runs(name: str) -> None:
    metric = metrics.load(name)
    function = metric.function
    assert metric.declared and metric.name == function.__name__ == name and metric.what and metric.source
    for figure in metric.figures.values():
        assert figure.metric == name and figure.meaning and figure.source and figure.range[0] is not None
    assert (inspect.getdoc(function) or "").partition("\n")[0].endswith("."), "a sentence"
    examples = doctest.DocTestFinder(recurse=False).find(
        function, name, globs=dict(vars(sys.modules[function.__module__]))
    )
    assert examples and examples[0].examples, "give one runnable >>> example"
    assert doctest.DocTestRunner().run(examples[0]).failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_for_what_is_on_offer_and_gives_the_figures_it_declares(name: str) -> None:
    metric = metrics.load(name)
    assert set(metric.takes) <= set(INPUTS)
    assert set(run(metric, programs(SAMPLES))) == set(metric.figures)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_its_values_lie_in_the_range_it_declares(name: str, data: st.DataObject) -> None:
    metric = metrics.load(name)
    text = st.one_of(
        st.none(), st.text(max_size=30), st.sampled_from(["x = [1, 2]", "f(x + 1, [a])", "The same. Yes."])
    )
    texts_PK = data.draw(st.lists(st.lists(text, min_size=4, max_size=4), min_size=2, max_size=4))
    for name, value_P in run(metric, texts_PK).items():
        low, high = metric.figures[name].range
        for value in value_P.reshape(-1)[~value_P.reshape(-1).isnan()].tolist():
            assert not isinstance(low, int | float) or value >= low - 1e-9, name
            assert not isinstance(high, int | float) or value <= high + 1e-9, name


@pytest.mark.parametrize("name", NAMES)
def test_it_returns_float64_values_per_prompt_and_keeps_its_inputs(name: str) -> None:
    metric = metrics.load(name)
    texts_PK = programs(SAMPLES)
    before = inputs(texts_PK)
    for value in run(metric, texts_PK).values():
        assert value.dtype == torch.float64
        assert value.shape == (() if metric.across_prompts else (PROMPTS,))
        assert not value.isnan().any()
    after = inputs(texts_PK)
    assert all(torch.equal(before[k], after[k]) for k in ("mask_PK", "embeddings_PKD"))  # type: ignore[arg-type]
    assert texts_PK == programs(SAMPLES)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_without_answers_is_nan_and_leaves_the_others_alone(name: str) -> None:
    metric = metrics.load(name)
    texts_PK = programs(SAMPLES)
    whole = run(metric, texts_PK)
    texts_PK[1] = [None] * SAMPLES
    for figure, value in run(metric, texts_PK).items():
        if metric.across_prompts:
            assert not value.isnan()
        else:
            assert value[1].isnan(), figure
            assert torch.allclose(value[[0, 2, 3]], whole[figure][[0, 2, 3]])
    for value in run(metric, [[None] * SAMPLES] * 2).values():
        assert value.isnan().all()


@pytest.mark.parametrize("name", NAMES)
def test_one_sample_is_undefined_and_never_zero(name: str) -> None:
    """A length and a likelihood have a value for one sample; no diversity of samples has."""
    metric = metrics.load(name)
    for figure, value in run(metric, programs(1)).items():
        if metric.across_prompts:
            assert value.isnan() == figure.startswith("traced")
        else:
            assert value.isnan().all() != (name in ("length", "token_entropy", "cross_entropy")), figure


@pytest.mark.parametrize("name", [n for n in NAMES if metrics.load(n).pairwise])
def test_pairwise_distances_average_to_the_metric(name: str) -> None:
    metric = metrics.load(name)
    assert metric.pairwise is not None
    texts_PK = programs(SAMPLES)
    texts_PK[2][1] = texts_PK[2][4] = None
    on_offer = inputs(texts_PK)
    distance_PKK = metric.pairwise(**{k: on_offer[k] for k in inspect.signature(metric.pairwise).parameters})
    assert distance_PKK.shape == (PROMPTS, SAMPLES, SAMPLES) and distance_PKK.dtype == torch.float64
    assert torch.allclose(distance_PKK, distance_PKK.mT, equal_nan=True)
    assert distance_PKK.diagonal(dim1=1, dim2=2).isnan().all() and distance_PKK[2, 1].isnan().all()
    figures = run(metric, texts_PK)
    (mean,) = [figure for figure, facts in metric.figures.items() if facts.pairwise]
    assert torch.allclose(distance_PKK.nanmean((1, 2)), figures[mean])


@pytest.mark.parametrize("name", [n for n in NAMES if metrics.load(n).leave_one_out])
def test_figures_without_each_prompt_are_those_of_the_others(name: str) -> None:
    metric = metrics.load(name)
    assert metric.across_prompts and metric.leave_one_out is not None
    texts_PK = programs(SAMPLES)
    texts_PK[2][1:] = [None] * (SAMPLES - 1)
    on_offer = inputs(texts_PK)
    without = metric.leave_one_out(**{k: on_offer[k] for k in inspect.signature(metric.leave_one_out).parameters})
    whole = run(metric, texts_PK)
    assert set(without) <= set(whole)
    for p in range(PROMPTS):
        others = [texts if q != p else [None] * SAMPLES for q, texts in enumerate(texts_PK)]
        expected = run(metric, others)
        for figure, value_P in without.items():
            assert value_P.shape == (PROMPTS,) and value_P.dtype == torch.float64
            if value_P[p].isnan():  # it is not taken over this prompt
                assert torch.equal(expected[figure], whole[figure]) or expected[figure].isnan(), figure
            else:
                assert torch.allclose(value_P[p], expected[figure], rtol=0, atol=1e-9), figure


def test_the_table_has_a_row_for_each_metric() -> None:
    lines = metrics.table().splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == NAMES
    assert all(line.count(" | ") == 4 for line in lines[2:])
    assert "text encoder; correctness (optional)" in next(line for line in lines if line.startswith("| sbert "))
