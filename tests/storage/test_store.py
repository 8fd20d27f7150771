"""The run directory: whole or nothing, one writer, resumed without gaps or doubles, read back equal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stored import MANIFEST, PROBE, opened, same, snapshot

from divmon.storage.writer import Store, read_run
from divmon.types import Change, Decoding, Sample, Score, Snapshot, Verdict, plain, strict_json

TEXT = st.text(st.characters(exclude_categories=()), max_size=30)  # lone surrogates and control characters too


FLOAT = st.floats(allow_subnormal=True)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_reads_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    verdict = st.builds(Verdict, st.sampled_from([True, False, None]), TEXT, st.none() | TEXT)
    judged = data.draw(st.booleans())
    sample = st.builds(
        Sample,
        st.just("gsm8k"),
        TEXT,
        st.integers(0, 99),
        TEXT,
        st.sampled_from(["eos", "stop", "length"]),
        st.integers(0, 9),
        st.none() | TEXT,
        st.booleans(),
        st.none() | verdict if judged else st.none(),
    )
    score = st.builds(
        Score, st.just("gsm8k"), TEXT, FLOAT, FLOAT, FLOAT, st.integers(0, 9), st.tuples(FLOAT, FLOAT, FLOAT)
    )
    change = st.builds(Change, TEXT, TEXT, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, st.integers(0, 9))
    whole = Snapshot(
        data.draw(st.integers(0, 10**9)),
        data.draw(st.lists(sample, max_size=5)),
        data.draw(st.lists(score, max_size=3)),
        data.draw(st.lists(change, max_size=3)),
        {"gsm8k": {"sbert": {"change": data.draw(st.floats(allow_nan=False, allow_infinity=False)), "ci95": {}}}}
        if judged
        else {},
        data.draw(st.dictionaries(st.tuples(TEXT, TEXT), TEXT, max_size=3)),
        data.draw(st.dictionaries(TEXT, st.none() | TEXT | st.integers() | st.lists(st.booleans()), max_size=3)),
    )
    with opened(tmp_path_factory.mktemp("run") / "_divmon") as store:
        store.write(whole)
        assert same(store.read(whole.step), whole)


def test_manifest_and_probes_read_back(tmp_path: Path) -> None:
    with opened(tmp_path / "_divmon") as store:
        store.update(price={"seconds": np.float32(1.5)})
    run = read_run(tmp_path)
    assert run.probes == (PROBE,)
    assert run.manifest["config"] == MANIFEST["config"]
    assert run.manifest["price"] == {"seconds": 1.5}
    assert run.manifest["format"] == 1 and run.manifest["created"].startswith("20")


def test_numbers_of_other_kinds_do_not_kill_a_run(tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "float32": np.float32(0.5),
        "int64": np.int64(3),
        "nan": np.float32("nan"),
        "array": np.arange(2),
        "tensor": torch.tensor([1.0, math.inf]),
        "path": Path("x"),
        "decoding": Decoding(),
        ("a", 1): {2},
        "function": opened,
        "device": torch.device("cpu"),
    }
    values = (np.float32(0.25), np.float64(1), torch.tensor(2.0))
    with opened(tmp_path) as store:
        store.write(
            Snapshot(0, [], scores=[Score("gsm8k", "x", np.float32(0.5), n=np.int64(2), values=values)], provenance=odd)
        )
        back = store.read(0)
    assert same(back.scores, [Score("gsm8k", "x", 0.5, n=2, values=(0.25, 1.0, 2.0))])
    assert back.provenance["nan"] is None and back.provenance["array"] == [0, 1]
    assert back.provenance["tensor"] == [1.0, "inf"] and back.provenance["decoding"]["top_p"] == 0.95
    assert back.provenance["('a', 1)"] == [2] and back.provenance["function"] == "<function opened>"
    strict_json(plain(odd))


def test_snapshots_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write(snapshot(0))
        with pytest.raises(ValueError, match="step 0 is already in"):
            store.write(snapshot(0))
        with pytest.raises(ValueError, match=r"gsm8k/x at step 1 has 2 values.*3 prompts"):
            store.write(snapshot(1).replace(scores=[Score("gsm8k", "x", 1.0, values=(1.0, 2.0))]))
        assert store.steps() == [0]
        with pytest.raises(KeyError, match=r"no snapshot of step 5.*\[0\]"):
            store.read(5)
    with pytest.raises(RuntimeError, match="not open"):
        store.write(snapshot(1))


def test_reference_is_the_lowest_step_unless_told(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as store:
        assert store.reference() is None
        for step in (20, 0, 10):
            store.write(snapshot(step))
        assert store.steps() == [0, 10, 20]
        assert store.reference().step == 0  # type: ignore[union-attr]
    with Store(tmp_path / "b").open({**MANIFEST, "reference_step": 10}) as store:
        store.write(snapshot(0))
        assert store.reference() is None
        store.write(snapshot(10))
    assert Store(tmp_path / "b").reference().step == 10  # type: ignore[union-attr]


def test_reads_into_data_frames(tmp_path: Path) -> None:
    with opened(tmp_path / "_divmon") as store:
        for step in (0, 50):
            store.write(snapshot(step))
    run = read_run(tmp_path)
    scores = run.scores
    assert list(scores.columns) == ["step", "task", "metric", "mean", "low", "high", "n", "epoch", "tokens"]
    sbert = scores[scores.metric == "sbert"]
    assert sbert["step"].tolist() == [0, 50] and sbert["epoch"].tolist() == [0.0, 1.0]
    assert sbert["mean"].tolist() == [0.1, 0.1 + 50 / 7]
    assert scores[scores.metric == "ead"]["mean"].isna().all()
    assert run.changes.query("step == 50")["change"].tolist() == [-0.4]
    per_prompt = run.per_prompt.query("step == 50")
    assert per_prompt["prompt_id"].tolist() == ["a", "b", "c"]
    assert same(per_prompt["value"].tolist(), [0.1, math.nan, 1 / 3])
    samples = run.samples
    assert len(samples) == 12 and set(samples["step"]) == {0, 50}
    assert samples["text"][0] == "It is 4 | or\n so. é 0 0" and samples["reasoning"][0] == "hm"
    assert samples["correct"].tolist()[:6] == [True, False, True, False, None, None]
    assert run.provenance[50]["seconds"] == {"sampling": 1.5}
    assert same(run.read(50), snapshot(50))


def test_frames_are_the_same_whichever_library_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = snapshot(1, text="half a pair \ud800")
    odd.scores[0] = Score("gsm8k", "sbert", math.inf, -math.inf, math.inf, 2, (math.inf, math.nan, 1e-300))
    with opened(tmp_path) as store:
        store.write(snapshot(0))
        store.write(odd)
    fast = read_run(tmp_path)
    assert fast.scores["mean"].tolist()[2] == math.inf and fast.samples["text"].tolist()[-1].startswith("half a pair")
    assert same(fast.values["gsm8k", "sbert"][1].tolist(), [math.inf, math.nan, 1e-300])
    monkeypatch.setattr("divmon.storage.snapshot_files.orjson", None)
    plain_json = read_run(tmp_path)
    for name in ("scores", "changes", "decomposition", "per_prompt", "samples"):
        pd.testing.assert_frame_equal(getattr(fast, name), getattr(plain_json, name), check_exact=True)


def test_a_snapshot_without_its_samples_needs_no_file_of_them(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write(snapshot(3))
    (tmp_path / "snapshots/00000003.samples.jsonl.gz").unlink()
    read = read_run(tmp_path).read(3, samples=False)
    assert same(read, snapshot(3).replace(samples=[]))


def test_an_empty_run_has_empty_frames_with_columns(tmp_path: Path) -> None:
    opened(tmp_path).close()
    run = read_run(tmp_path)
    assert [len(f) for f in (run.scores, run.changes, run.per_prompt, run.samples)] == [0, 0, 0, 0]
    assert "mean" in run.scores.columns and "text" in run.samples.columns


def test_nothing_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no divmon run in .*manifest.json and .*_divmon"):
        read_run(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    manifest = json.loads((tmp_path / "manifest.json").read_text()) | {"format": 99, "divmon": "7.0"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"format 99, written by divmon 7.0.*upgrade divmon"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="upgrade divmon"):
        Store(tmp_path).open(MANIFEST, resume_step=5)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="no manifest of a divmon run"):
        read_run(tmp_path)


@pytest.mark.parametrize("damage", ["scores", "samples", "swapped", "no samples"])
def test_a_damaged_snapshot_is_named_and_the_others_read(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as store:
        for step in (0, 1, 2):
            store.write(snapshot(step))
    marker, samples = (tmp_path / "snapshots" / f"00000001{end}" for end in (".json", ".samples.jsonl.gz"))
    if damage == "scores":
        marker.write_bytes(marker.read_bytes()[:100])
    elif damage == "samples":
        samples.write_bytes(samples.read_bytes()[:-12])
    elif damage == "swapped":
        marker.write_bytes((tmp_path / "snapshots/00000002.json").read_bytes())
    else:
        samples.unlink()
    run = read_run(tmp_path)
    with pytest.warns(UserWarning, match="left out: .*step 1 .*damaged.*00000001"):
        assert set(run.samples["step"]) == {0, 2}
    assert set(run.scores["step"]) == ({0, 2} if damage in ("scores", "swapped") else {0, 1, 2})
    with pytest.raises(ValueError, match="00000001"):
        run.read(1)
