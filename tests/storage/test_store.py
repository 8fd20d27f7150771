"""The run directory: whole or nothing, one writer, resumed without gaps or doubles, read back equal."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from divmon.storage.writer import Store, read_run
from divmon.types import Change, Decoding, Probe, Prompt, Sample, Score, Snapshot, Verdict, plain, strict_json

PROBE = Probe(
    "gsm8k",
    (
        Prompt("a", "How many?", gold="4", row={"question": "How many?", "hints": [1, 2.5]}, category="reasoning"),
        Prompt("b", ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hm?"})),
        Prompt("c", (1, 2, 3)),
    ),
    max_new_tokens=64,
    stop=("\n\n",),
    verifier="number",
    source="package",
)
MANIFEST: dict[str, Any] = {"probes": [PROBE], "config": {"every": 100, "temperature": 0.6}, "model": "tiny"}


def snapshot(step: int, *, samples: int = 2, text: str = "It is 4 | or\n so. é") -> Snapshot:
    def verdict(prompt: Prompt, k: int) -> Verdict:
        return Verdict(None, "no number") if prompt.id == "c" else Verdict(k == 0)

    return Snapshot(
        step,
        [
            Sample("gsm8k", p.id, k, f"{text} {step} {k}", "eos", 7, None if k else "hm", True, verdict(p, k))
            for p in PROBE.prompts
            for k in range(samples)
        ],
        scores=[
            Score("gsm8k", "sbert", 0.1 + step / 7, 0.05, 0.3, 2, (0.1, math.nan, 1 / 3)),
            Score("gsm8k", "ead", math.nan),
        ],
        changes=[Change("gsm8k", "sbert", 0.5, 0.1, -0.4, -0.5, math.nan, 2)] if step else [],
        missing={("gsm8k", "b"): "out of memory"},
        provenance={"tokens": step * 100, "epoch": step / 50, "seconds": {"sampling": 1.5}},
    )


def ungraded(whole: Snapshot) -> Snapshot:
    return whole.replace(samples=[dataclasses.replace(sample, verdict=None) for sample in whole.samples])


def opened(path: Path, **options: Any) -> Store:
    return Store(path, **options).open(MANIFEST)


def same(a: object, b: object) -> bool:
    """Equal, NaN taken as equal to NaN: repr of a float names it exactly."""
    return repr(a) == repr(b)


# Round trip

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


# Data frames


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


# Resume and restart


def test_resume_moves_later_snapshots_aside(tmp_path: Path) -> None:
    path, said = tmp_path / "_divmon", []
    with opened(path) as store:
        for step in (0, 10, 20, 30):
            store.write(snapshot(step))
    again = Probe("gsm8k", PROBE.prompts, max_new_tokens=32, source="elsewhere")
    with Store(path, say=said.append).open({**MANIFEST, "probes": [again]}, resume_step=15) as store:
        assert store.steps() == [0, 10]
        store.write(snapshot(20, text="second try"))
    aside = next((path / "superseded").iterdir())
    assert sorted(p.name for p in aside.glob("*.json")) == ["00000020.json", "00000030.json"]
    assert len(list(aside.glob("*.gz"))) == 2
    assert said == [f"divmon: resumed from step 15; snapshots of steps [20, 30] moved to {aside}"]
    run = read_run(path)
    assert run.scores.query("metric == 'sbert'")["step"].tolist() == [0, 10, 20]
    assert run.read(20).samples[0].text.startswith("second try")
    assert run.manifest["resumed"][0]["step"] == 15 and run.manifest["resumed"][0]["model"] == "tiny"
    assert run.probes == (PROBE,)


def test_resume_at_a_measured_step_keeps_it(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write(snapshot(10))
    with Store(tmp_path).open(MANIFEST, resume_step=10) as store:
        assert store.steps() == [10]
    assert not (tmp_path / "superseded").exists()


def test_resume_where_nothing_is_starts_afresh(tmp_path: Path) -> None:
    with Store(tmp_path / "new").open(MANIFEST, resume_step=500) as store:
        assert store.steps() == [] and "resumed" not in store.manifest


def test_resume_with_other_prompts_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write(snapshot(0))
    other = Probe("gsm8k", PROBE.prompts[:2])
    with pytest.raises(ValueError, match=r"prompts of \['gsm8k'\].*another output_dir="):
        Store(tmp_path).open({**MANIFEST, "probes": [other]}, resume_step=5)
    with opened(tmp_path):  # the failed open gave its lock back
        pass


def test_a_fresh_start_moves_the_old_run_aside_and_nothing_else(tmp_path: Path) -> None:
    path, said = tmp_path / "_divmon", []
    for round_ in range(3):
        with opened(path, say=said.append) as store:
            assert store.steps() == []
            store.write(snapshot(round_))
        (path / "notes.txt").write_text("the user's own")
    created = read_run(path).manifest["created"].replace(":", "-")[:13]
    moved = sorted(p for p in tmp_path.iterdir() if p != path)
    assert len(moved) == 2 and all(p.name.startswith(f"_divmon-{created}") for p in moved)
    assert [read_run(p).steps for p in moved] == [[0], [1]]
    assert said == [f"divmon: {path} held an earlier run; it is now {p}" for p in moved]
    assert (path / "notes.txt").exists()


def test_a_fresh_start_without_snapshots_moves_nothing(tmp_path: Path) -> None:
    opened(tmp_path / "_divmon").close()
    opened(tmp_path / "_divmon").close()
    assert [p.name for p in tmp_path.iterdir()] == ["_divmon"]


# Size


def test_long_texts_are_cut_and_marked(tmp_path: Path) -> None:
    with opened(tmp_path, max_chars=10) as store:
        store.write(ungraded(snapshot(0, text="short")))
        store.write(snapshot(1, text="a text that is longer"))
        assert [s.text for s in store.read(1).samples] == ["a text tha"] * 6
        assert store.read(1).provenance["texts_cut"] == 6
        assert "texts_cut" not in store.read(0).provenance
    assert read_run(tmp_path).samples["cut"].tolist() == [False] * 6 + [True] * 6


def test_a_spent_budget_drops_later_texts_but_never_the_reference(tmp_path: Path) -> None:
    said: list[str] = []
    with Store(tmp_path, max_samples_mb=0, say=said.append).open({**MANIFEST, "reference_step": 2}) as store:
        for step in range(4):
            store.write(snapshot(step))
        assert [bool(store.read(step).samples[0].text) for step in range(4)] == [False, False, True, False]
        assert store.read(3).samples[0].n_tokens == 7 and [s.verdict for s in store.read(3).samples] == [
            s.verdict for s in snapshot(3).samples
        ]
    assert len(said) == 1 and "max_samples_mb" in said[0]
    samples = read_run(tmp_path).samples
    assert samples[samples["cut"]]["step"].unique().tolist() == [0, 1, 3]
    assert samples[samples["cut"]]["text"].isna().all()


def test_the_budget_counts_what_an_earlier_session_wrote(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.write(snapshot(0))
    with Store(tmp_path, max_samples_mb=1e-4, say=lambda line: None).open(MANIFEST, resume_step=1) as store:
        store.write(snapshot(2))
        assert store.read(2).samples[0].text == ""


# One writer


def fork(work: Callable[[Callable[[str], None]], None]) -> tuple[int, IO[str]]:
    """Run `work(say)` in a process of its own: its id and what it says."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(writer, "w", buffering=1) as out:
            try:
                work(lambda line: print(line, file=out))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=out)
        os._exit(0)
    os.close(writer)
    return child, os.fdopen(reader)


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    with opened(tmp_path / "_divmon"):
        _, said = fork(lambda say: opened(tmp_path / "_divmon").close())
        assert re.search(rf"RuntimeError: process {os.getpid()} is writing to .*output_dir=", said.read())
        _, said = fork(lambda say: opened(tmp_path / "_divmon").close())
        assert "RuntimeError" in said.read(), "the child's attempt has not let go of its parent's lock"
    opened(tmp_path / "_divmon").close()


def test_a_store_that_this_process_left_open_is_taken_over(tmp_path: Path) -> None:
    said: list[str] = []
    first = opened(tmp_path)
    second = Store(tmp_path, say=said.append).open(MANIFEST, resume_step=1)
    assert "did not end: taken over" in said[0]
    with pytest.raises(RuntimeError, match="is not open for writing"):
        first.update(a=1)
    second.update(a=1)
    second.close()


def test_a_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    store = opened(tmp_path)
    child, _ = fork(lambda say: time.sleep(60))
    store.close()
    opened(tmp_path).close()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


# Crashes


def leftovers(path: Path) -> list[str]:
    whole = {f"{step:08d}" for step in Store(path).steps()}
    return [p.name for p in (path / "snapshots").iterdir() if p.name.split(".")[0] not in whole or p.suffix == ".tmp"]


@pytest.mark.parametrize("limit", [100, 900, 5000])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, limit: int) -> None:
    """RLIMIT_FSIZE makes writes fail in the middle, as a full disk does; 5000 bytes are too few for the scores only."""
    with opened(tmp_path) as store:
        store.write(snapshot(0))

    def work(say: Callable[[str], None]) -> None:
        store = Store(tmp_path).open(MANIFEST, resume_step=1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            store.write(snapshot(10).replace(provenance={"long": "x" * 10_000}))
        except OSError as error:
            say(f"errno {error.errno}")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say(str(store.steps()))
        store.write(snapshot(20))

    assert fork(work)[1].read() == f"errno {errno.EFBIG}\n[0]\n"
    assert leftovers(tmp_path) == []
    run = read_run(tmp_path)
    assert run.steps == [0, 20] and same(run.read(0), snapshot(0)) and same(run.read(20), snapshot(20))


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    """SIGKILL at a random moment, again and again: whatever is listed reads back whole, and writing goes on."""
    path, random, before, saw_leftovers = tmp_path / "_divmon", np.random.default_rng(0), 0, 0

    def work(say: Callable[[str], None]) -> None:
        store = Store(path).open(MANIFEST, resume_step=10**6)
        say("open")
        for step in range(len(store.steps()), 10**6):
            store.write(snapshot(step, samples=20))

    for _ in range(12):
        child, said = fork(work)
        assert said.readline() == "open\n"
        time.sleep(float(random.uniform(0.02, 0.2)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        run = read_run(path)
        assert run.steps == list(range(len(run.steps))) and len(run.steps) >= before
        for step in run.steps[before:]:
            assert same(run.read(step), snapshot(step, samples=20))
        saw_leftovers += bool(leftovers(path))
        before = len(run.steps)
    assert before > 6
    print(f"{before} snapshots in 12 killed sessions; {saw_leftovers} left something to clean")
    with Store(path).open(MANIFEST, resume_step=10**6):
        assert leftovers(path) == []


@pytest.mark.parametrize("call", range(10))
def test_stopped_at_every_point_of_a_write(tmp_path: Path, call: int) -> None:
    """The process ends (no clean-up runs) at each system call that changes the disk in turn."""
    child = os.fork()
    if not child:
        store, calls = opened(tmp_path), iter(range(100))
        store.write(snapshot(0))
        for name in ("fsync", "replace", "open", "close"):
            real = getattr(os, name)
            setattr(os, name, lambda *a, real=real, **k: os._exit(0) if next(calls) == call else real(*a, **k))
        store.write(snapshot(1))
        os._exit(0)
    os.waitpid(child, 0)
    assert Store(tmp_path).steps() in ([0], [0, 1])
    with Store(tmp_path).open(MANIFEST, resume_step=9) as store:
        assert leftovers(tmp_path) == []
        for step in store.steps():
            assert same(store.read(step), snapshot(step))
        if store.steps() == [0]:
            store.write(snapshot(1))


# Speed


def test_a_thousand_snapshots_read_fast_and_one_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # what is timed is reading
    probe = Probe("p", tuple(Prompt(str(i), "?") for i in range(64)))
    random = np.random.default_rng(0)
    store = Store(tmp_path).open({"probes": [probe]})
    for step in range(1000):
        scores = [Score("p", f"m{m}", 0.5, 0.4, 0.6, 64, tuple(random.random(64))) for m in range(12)]
        changes = [Change("p", f"m{m}", 0.5, 0.4, -0.1, -0.2, 0.0, 64) for m in range(12)]
        store.write(Snapshot(step, [], scores, changes))
    started = time.perf_counter()
    assert len(read_run(tmp_path).scores) == 12_000
    seconds = time.perf_counter() - started
    words = [f"w{i}" for i in range(5000)]
    texts = [" ".join(random.choice(words, 300)) for _ in range(64 * 16)]
    samples = [Sample("p", str(i // 16), i % 16, text, "eos", 300) for i, text in enumerate(texts)]
    store.write(Snapshot(1000, samples))
    store.close()
    size = (tmp_path / "snapshots/00001000.samples.jsonl.gz").stat().st_size
    print(f"1,000 snapshots: {seconds:.2f} s; 64 x 16 x 300 random words: {size / 1e6:.2f} MB")
    assert seconds < 10  # about 1 s on a free core; the margin is for shared ones
    assert size < 2e6
