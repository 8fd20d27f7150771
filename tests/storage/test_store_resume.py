"""A run directory that exists: resumed, or moved aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stored import MANIFEST, PROBE, opened, snapshot

from divmon.storage.writer import Store, read_run
from divmon.types import Probe


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
