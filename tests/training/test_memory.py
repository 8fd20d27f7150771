"""What a measurement adds to the peak of memory: reported, bounded by an option, encoders out of the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import SUPPORT, runs, tiny

import divmon
from divmon import DiversityMonitor
from divmon.options import Options
from divmon.sampling.batch_memory import cache_token_budget
from divmon.scoring.encoders import TextEncoder
from divmon.scoring.metric_inputs import Resources
from divmon.undisturbed import Peak

BOUNDED = """
import sys
import torch
torch.set_num_threads(1)
import runs, tiny
from divmon import DiversityMonitor
from divmon.sampling import shared_prefix

shared_prefix.SHORTEST = 10**9  # a prompt per sample: that is what is large here
shape = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8}
model = runs.model("llama", **shape, intermediate_size=64, max_position_embeddings=2048)
probes = ["what is one plus one? " * 40, "what is two plus one? " * 40]
for limit in (0.05, None):
    monitor = DiversityMonitor(probes, output_dir=f"{sys.argv[1]}/{limit}", metrics="length", num_samples=16,
                               max_new_tokens=2, max_memory_gb=limit, sampler="live", loggers=[], progress=False)
    snapshot = monitor.measure(model, tiny.tokenizer(runs.TEXTS), 0)
    assert len(snapshot.samples) == 2 * 64 and not snapshot.missing
    print("added", snapshot.provenance["peak_memory_added_mb"]["cpu"])
"""


@pytest.mark.parametrize(("device", "stays"), [("cuda", False), ("cpu", True)])
def test_by_default_encoders_leave_a_gpu_while_training(device: str, stays: bool) -> None:
    resources = Resources(device=device, encoder_device=Options().encoder_device)
    resources.models["nli"]._model = loaded = object()
    resources.release()
    assert (resources.models["nli"]._model is loaded) == stays


def test_the_option_bounds_the_peak_and_the_peak_is_reported(tmp_path: Path) -> None:
    """In a process of its own and the bounded one first, as a peak never comes down: far fewer than 64 rows of 240
    tokens at 16 kB a token, then all of them on top."""
    arguments = [sys.executable, "-c", BOUNDED, str(tmp_path)]
    done = subprocess.run(arguments, cwd=SUPPORT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    bounded, more = (float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("added "))
    assert bounded + more > 250
    assert bounded < (bounded + more) / 3


def test_a_bound_below_one_sample_still_draws_one_at_a_time(tmp_path: Path) -> None:
    options = {**runs.CHEAP, "output_dir": str(tmp_path), "max_memory_gb": 1e-6, "progress": False}
    snapshot = DiversityMonitor(runs.PROBES, **options, loggers=[]).measure(runs.model(), tiny.tokenizer(runs.TEXTS), 0)
    assert snapshot is not None and not snapshot.missing
    assert cache_token_budget(runs.model(), 1e-6) == 1


def test_stored_samples_keep_to_their_bound_and_the_reference_is_kept(tmp_path: Path) -> None:
    options = {**runs.CHEAP, "output_dir": str(tmp_path), "max_samples_mb": 1e-6, "progress": False}
    monitor, model = DiversityMonitor(runs.PROBES, **options, loggers=[]), runs.model()
    for step in (0, 10):
        monitor.measure(model, tiny.tokenizer(runs.TEXTS), step)
    monitor.close()
    kept = divmon.read_run(tmp_path).samples.groupby("step")["text"].count()
    assert kept.tolist() == [16, 0]


def test_peak_counts_what_is_added_only() -> None:
    with Peak() as peak:
        torch.zeros(1)
    assert peak.added_mb["cpu"] < 50


@pytest.mark.parametrize("where", ["model", "cpu", "offload"])
def test_encoders_are_on_the_device_that_is_asked_for(tmp_path: Path, where: str) -> None:
    options = {**runs.CHEAP, "output_dir": str(tmp_path), "metrics": "sbert", "embedder": "minilm", "progress": False}
    monitor = DiversityMonitor(runs.PROBES, **options, encoder_device=where, loggers=[])
    model, tokenizer = runs.model(), tiny.tokenizer(runs.TEXTS)
    values = [monitor.measure(model, tokenizer, step).score("prompts", "sbert").mean for step in (0, 1)]
    assert monitor.scorer is not None
    encoder = monitor.scorer.resources.models["encoder"]
    assert (encoder._model is None) == (where == "offload")
    assert encoder.device.type == "cpu"
    assert len(values) == 2 and all(0 <= value <= 2 for value in values)
    assert divmon.read_run(tmp_path).manifest["encoders"]["encoder"] == encoder.name


def test_a_bounded_encoder_gives_the_same_embeddings_in_smaller_batches() -> None:
    texts = [f"text number {i}" for i in range(12)]
    bounded = TextEncoder("minilm", "cpu", max_memory_gb=0.01)
    sizes = []
    embed = bounded._embed
    bounded._embed = lambda batch: sizes.append(len(batch)) or embed(batch)  # type: ignore[method-assign]
    torch.testing.assert_close(bounded.encode(texts), TextEncoder("minilm", "cpu").encode(texts), atol=1e-5, rtol=0)
    assert max(sizes) == 2
