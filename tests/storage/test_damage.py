"""A damaged run directory: reading gives the same numbers or a named problem, never others and never a traceback."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from support import run_dirs
from support.damages import BYTES, VALUES, Damage, emptied, of_another_step, places, with_key, written

import divmon
from divmon.cli import main
from divmon.loggers.console import closing_lines
from divmon.scoring.scorer import Scorer
from divmon.storage import snapshot_files
from divmon.storage.sealing import seal, unseal
from divmon.storage.snapshot_files import marker_path
from divmon.storage.validation import ALWAYS, Marker
from divmon.storage.writer import Store, read_run

STEPS = (0, 10, 20)
FILES = ("manifest.json", "snapshots/00000010.json", "snapshots/00000010.samples.jsonl.gz", "snapshots/00000000.json")
OF_JSON, OF_SAMPLES = FILES[:2], FILES[2]
FRAMES = ("scores", "changes", "decomposition", "per_prompt", "samples")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small graded run of three snapshots, as this divmon writes it."""

    def text(step: int, prompt: Any, k: int) -> tuple[str, bool]:
        return f"it is {(k * (3 if step < 20 else 1)) % 5} by {prompt.id}", k % 2 == 0

    folder = tmp_path_factory.mktemp("whole") / "_divmon"
    return run_dirs.draw(folder, STEPS, text, Scorer("ead,duplicates", vocab_size=400), prompts=4, num_samples=4)


@pytest.fixture(scope="module")
def older(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as it was written before there were digests."""
    folder = tmp_path_factory.mktemp("older") / "_divmon"
    shutil.copytree(whole, folder)
    for file in (folder / "manifest.json", *folder.glob("snapshots/*.json")):
        value, _ = unseal(file.read_bytes())
        value.pop("samples_sha256", None)
        file.write_text(json.dumps(value))
    return folder


def copied(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to, dirs_exist_ok=True))


def numbers(run: divmon.storage.reader.Run) -> dict[str, dict[int, str]]:
    """Every frame by step, to the last digit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = {name: getattr(run, name) for name in FRAMES}
        return {
            name: {int(step): part.to_csv(index=False) for step, part in frame.groupby("step")}
            for name, frame in frames.items()
        }


@pytest.mark.parametrize("file", FILES)
def test_any_changed_byte_gives_the_same_numbers_or_a_named_problem(whole: Path, tmp_path: Path, file: str) -> None:
    expected = numbers(read_run(whole))
    more = {"another step's": of_another_step, "emptied": emptied} if "00000010" in file else {}
    for name, damage in (BYTES | more).items():
        run = copied(whole, tmp_path / "_divmon")
        damage(run / file)
        try:
            read = read_run(run)
            problems, found = read.problems, numbers(read)
        except ValueError as error:
            assert file == "manifest.json" and "manifest.json" in str(error), (name, error)
            continue
        if file == "manifest.json":
            assert problems.lines() and "manifest.json" in problems.lines()[-1], name
            continue
        assert Path(file).name in " ".join(problems.lines()), name
        step = int(Path(file).name[:8])
        for frame, by_step in found.items():
            whole_frame = {s: text for s, text in expected[frame].items() if s != step}
            lost = frame == "samples" or "samples" not in file
            assert {s: text for s, text in by_step.items() if s != step} == whole_frame, (name, frame)
            assert (step not in by_step) if lost else (by_step == expected[frame]), (name, frame)


@pytest.mark.parametrize("file", OF_JSON)
def test_any_wrong_key_of_an_older_run_is_named_and_never_a_traceback(older: Path, tmp_path: Path, file: str) -> None:
    """Without a digest a changed number cannot be told; a key that is not there or has the wrong type can."""
    value = json.loads((older / file).read_bytes())
    assert numbers(read_run(older)) and not read_run(older).problems, "a run from before digests reads as it did"
    run, rng = copied(older, tmp_path / "_divmon"), random.Random(0)
    top, deep = [(key,) for key in value], [path for path in places(value) if len(path) > 1]
    for path in [*top, *rng.sample(deep, min(20, len(deep)))]:
        changes = [("deleted", None), ("renamed", None), *(("replaced", new) for new in rng.sample(VALUES, 2))]
        for how, new in changes:
            (run / file).write_text(json.dumps(with_key(value, path, how, new)))
            try:
                read = read_run(run)
                lines, _ = read.problems.lines(), numbers(read)
            except ValueError as error:
                assert "manifest.json" in str(error), (path, how, new)
                continue
            except Exception as error:
                raise AssertionError((path, how, new)) from error
            if path in (("scores",), ("provenance",)) and how != "replaced":
                assert f"there is no key '{path[0]}'" in " ".join(lines), (path, how, lines)


@pytest.mark.parametrize("digest", [False, True], ids=["from before digests", "with a digest of something else"])
def test_each_key_of_a_manifest_that_lacks_or_has_another_type_is_named_with_its_file(
    whole: Path, older: Path, tmp_path: Path, digest: bool
) -> None:
    """By read_run, by compare and report, and where a training resumes, which goes on."""
    run = copied(older, tmp_path / "_divmon")
    value = json.loads((older / "manifest.json").read_bytes()) | ({"sha256": "0" * 64} if digest else {})
    for key, how in ((key, how) for key in ("format", *ALWAYS) for how in ("deleted", "replaced")):
        (run / "manifest.json").write_text(json.dumps(with_key(value, (key,), how, 1.5)))
        try:
            said = read_run(run).problems.found[-1].reason
        except ValueError as error:
            said = str(error)
            for read in (divmon.compare, divmon.report):
                with pytest.raises(ValueError, match=re.escape(said)):
                    read([run])
        assert "manifest.json" in said and f"key '{key}'" in said and "expected" in said, (key, how, said)
        with Store(copied(run, tmp_path / "resumed" / key / how), say=lambda line: None) as again:
            again.open({**value, "probes": read_run(whole).probes}, resume_step=10)
            (segment,) = again.manifest["segments"]
            assert f"key '{key}'" in segment["why"] and again.steps() == [0, 10]


def test_each_key_of_a_snapshot_that_lacks_or_has_another_type_is_named_with_its_file(
    older: Path, tmp_path: Path
) -> None:
    run, file = copied(older, tmp_path / "_divmon"), OF_JSON[1]
    value = json.loads((run / file).read_bytes())
    for key, how in ((key, how) for key in Marker.__annotations__ for how in ("deleted", "replaced")):
        (run / file).write_text(json.dumps(with_key(value, (key,), how, 1.5)))
        problem = read_run(run).problems.found[0]
        assert problem.steps == (10,) and Path(file).name in problem.reason
        assert f"key '{key}'" in problem.reason and "expected" in problem.reason, problem
    said = "".join(str(divmon.compare([run])).split())  # wrapped to the width of a terminal, in paths too
    assert Path(file).name in said and f"key'{key}'" in said


@pytest.mark.parametrize("command", [["compare"], ["report"]])
def test_the_commands_end_in_words(
    whole: Path, older: Path, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, rng = tmp_path / "_divmon", random.Random(1)
    tried: list[tuple[Path, str, Damage]] = [
        (whole, file, BYTES[name]) for file in FILES for name in ("cut to 0.5", "digit 0")
    ]
    for file in OF_JSON:
        value = json.loads((older / file).read_bytes())
        for path in rng.sample(list(places(value)), 4):
            new = with_key(value, path, *rng.choice([("deleted", None), ("replaced", rng.choice(VALUES))]))
            tried.append((older, file, written(json.dumps(new).encode())))
    for source, file, damage in tried:
        shutil.rmtree(run, ignore_errors=True)
        copied(source, run)
        damage(run / file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = main(
                [*command, str(run), *(["--out", str(tmp_path / "page.html")] if command == ["report"] else [])]
            )
        said = capsys.readouterr()
        if source == whole:
            assert code in (0, 2, 3) and Path(file).name in (
                said.out + said.err if command == ["compare"] or code == 2 else (tmp_path / "page.html").read_text()
            )


def test_what_a_seal_says() -> None:
    for indent in (None, 1):
        value = {"step": 1, "text": "a } b", "list": [1, 2]}
        data = seal(value, indent)
        assert unseal(data) == (value, True) and json.loads(data)["sha256"]
        with pytest.raises(ValueError, match="changed after divmon wrote it"):
            unseal(data.replace(b'"step"', b'"stop"'))
        with pytest.raises(ValueError, match="changed after divmon wrote it"):
            unseal(data.replace(b'"sha256":', b'"sha257":'))
    assert unseal(b'{"step": 1}') == ({"step": 1}, False), "from before there were any"


def test_the_closing_lines_take_the_last_snapshot_that_can_be_read(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path / "_divmon")
    (run / "snapshots/00000020.json").write_bytes(b"{")
    store = Store(run)
    said = closing_lines(store, store.problems())
    assert "00000020.json" in said and "at step 10" in said


def test_score_ends_in_words_on_files_of_a_run(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in FILES:
        assert main(["score", str(whole / file)]) in (2, 3)
        assert "Traceback" not in capsys.readouterr().err


def test_files_that_no_run_writes_are_passed_over_or_named(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(whole, tmp_path / "_divmon")
    for name in ("²²²²²²²².json", "٠٠٠٠٠٠٣٠.json", "7.json", "x.json"):
        (run / "snapshots" / name).write_text("{}")
    os.mkfifo(run / "snapshots" / "00000030.json")  # reading it would wait for ever
    assert read_run(run).steps == list(STEPS) and numbers(read_run(run)) == numbers(read_run(whole))
    monkeypatch.setattr(snapshot_files, "MOST_BYTES", 100)
    (problem, *_) = read_run(copied(older_of(run), tmp_path / "older")).problems.found
    assert "00000000.samples.jsonl.gz" in problem.reason and "expected the samples of one step" in problem.reason


def older_of(run: Path) -> Path:
    """Without the digests of samples, as a stranger may write it."""
    for step in STEPS:
        file = marker_path(run, step)
        value, _ = unseal(file.read_bytes())
        file.write_bytes(seal({key: v for key, v in value.items() if key != "samples_sha256"}))
    (run / "snapshots" / "00000030.json").unlink()
    return run
