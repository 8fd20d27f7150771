"""Budgets, locks, full disks and kills."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from support.stored import MANIFEST, opened, same, snapshot

from divmon.storage.writer import Store, read_run
from divmon.types import Change, Probe, Prompt, Sample, Score, Snapshot


def ungraded(whole: Snapshot) -> Snapshot:
    return whole.replace(samples=[dataclasses.replace(sample, verdict=None) for sample in whole.samples])


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


def test_hundreds_of_snapshots_read_fast_and_one_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # what is timed is reading
    probe = Probe("p", tuple(Prompt(str(i), "?") for i in range(64)))
    random = np.random.default_rng(0)
    store = Store(tmp_path).open({"probes": [probe]})
    for step in range(250):
        scores = [Score("p", f"m{m}", 0.5, 0.4, 0.6, 64, tuple(random.random(64))) for m in range(12)]
        changes = [Change("p", f"m{m}", 0.5, 0.4, -0.1, -0.2, 0.0, 64) for m in range(12)]
        store.write(Snapshot(step, [], scores, changes))
    started = time.perf_counter()
    assert len(read_run(tmp_path).scores) == 3_000
    seconds = time.perf_counter() - started
    words = [f"w{i}" for i in range(5000)]
    texts = [" ".join(random.choice(words, 300)) for _ in range(64 * 16)]
    samples = [Sample("p", str(i // 16), i % 16, text, "eos", 300) for i, text in enumerate(texts)]
    store.write(Snapshot(250, samples))
    store.close()
    size = (tmp_path / "snapshots/00000250.samples.jsonl.gz").stat().st_size
    print(f"250 snapshots: {seconds:.2f} s; 64 x 16 x 300 random words: {size / 1e6:.2f} MB")
    assert seconds < 2.5  # about 0.25 s on a free core; the margin is for shared ones
    assert size < 2e6
