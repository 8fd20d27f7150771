"""A run that version 0.1 wrote is read by the names that figures have had since."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from support import run_dirs

from divmon import DiversityCallback, DiversityConfig, read_run
from divmon.cli import main
from divmon.storage.sealing import unseal
from divmon.storage.snapshot_files import marker_path, samples_path
from divmon.storage.writer import Store
from divmon.types import TRUNCATED, Sample, Score, Snapshot, Verdict


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    with Store(tmp_path / "_divmon").open(run_dirs.manifest([run_dirs.probe("sums", 1)])) as store:
        sample = Sample("sums", "p0", 0, "so", "length", 3, verdict=Verdict(None, TRUNCATED))
        names = ("truncated", "clipped_ratio", "accuracy_no_answer_wrong")
        scores = [Score("sums", name, 1.0, n=1, values=(1.0,)) for name in names]
        store.write(Snapshot(0, [sample], scores, provenance={"seconds": {"judging": 2.0}}))
    folder = tmp_path / "_divmon"
    marker, samples = marker_path(folder, 0), samples_path(folder, 0)
    value, _ = unseal(marker.read_bytes())
    value.pop("samples_sha256")  # version 0.1 wrote no digests
    stored = json.dumps(value).replace("clipped_ratio", "length_limit")
    marker.write_text(stored.replace("accuracy_no_answer_wrong", "accuracy_cut_off_wrong"))
    row = json.loads(gzip.decompress(samples.read_bytes()))
    rows = [{**row, "reason": "cut off before its answer"}, {**row, "index": 1, "reason": "no verifier"}]
    samples.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return tmp_path


def test_old_figures_and_reasons_are_read_by_the_names_of_today(old_run: Path) -> None:
    run = read_run(old_run)
    assert set(run.scores["metric"]) == {"truncated", "no_answer", "clipped_ratio", "accuracy_no_answer_wrong"}
    snapshot = run.read(0)
    assert snapshot.provenance["seconds"] == {"grading": 2.0}
    with pytest.warns(DeprecationWarning, match="'length_limit' is named 'clipped_ratio'"):
        assert snapshot.score("sums", "length_limit").mean == 1.0
    assert [sample.verdict for sample in snapshot.samples] == [Verdict(None, TRUNCATED), None]


def test_the_old_name_of_an_option_works_and_says_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("divmon_encoder_lives: measuring\n")
    with pytest.warns(DeprecationWarning, match="encoder_lives is encoder_device='offload'"):
        assert DiversityConfig.from_yaml(file).options.encoder_device == "offload"
    with pytest.warns(DeprecationWarning, match="encoder_lives is encoder_device='model'"):
        assert DiversityCallback(encoder_lives="device").options.encoder_device == "model"


def test_the_old_flag_of_an_option_works_and_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(DeprecationWarning, match="encoder_lives is encoder_device='offload'"):
        assert main(["attach", "--divmon_encoder_lives", "measuring", "--", "none.py"]) == 2
    assert "encoder_lives" not in capsys.readouterr().err, "the program is what is wrong"
    assert main(["watch", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--divmon_encoder_device" in shown and "encoder_lives" not in shown
