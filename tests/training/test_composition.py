"""What training data are made of: exact shares, each source's diversity, the record of a run."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random
from pathlib import Path

import pytest
from datasets import Dataset
from support import runs, tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from divmon import DiversityCallback
from divmon.cli import data as data_command
from divmon.lineages.miniature.problems import draw_problem
from divmon.lineages.miniature.styles import STYLES, solve
from divmon.storage.writer import read_run
from divmon.training.composition import Composition, compose
from divmon.training.composition.rows import parts_of
from divmon.types import plain, strict_json

TOKENIZER = tiny.tokenizer(runs.TEXTS)


def worked(n: int, styles: list[str], source: str, seed: int = 0) -> list[dict[str, str]]:
    """Worked solutions in some styles, as a teacher writes them."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        problem = draw_problem(rng)
        rows.append({"prompt": problem.prompt, "completion": solve(problem, rng.choice(styles), rng), "source": source})
    return rows


NARROW = worked(120, ["numbered"], "narrow", 1)
BROAD = [*worked(40, list(STYLES), "broad", 2), *worked(40, list(STYLES), "wide", 3)]


def test_shares_of_rows_and_tokens_are_exact() -> None:
    rows = NARROW + BROAD
    made = compose(Dataset.from_list(rows), source_column="source", tokenizer=TOKENIZER, metrics="ead,compression")
    counted = {
        name: sum(
            len(TOKENIZER(row["prompt"] + "\n" + row["completion"], add_special_tokens=False).input_ids)
            for row in rows
            if row["source"] == name
        )
        for name in ("narrow", "broad", "wide")
    }
    assert {source.name: source.tokens for source in made.sources} == counted
    assert {source.name: source.rows for source in made.sources} == {"narrow": 120, "broad": 40, "wide": 40}
    assert made.rows == 200 and made.unit == "tokens" and made.encoder is None
    assert sum(made.share(source) for source in made.sources) == pytest.approx(1)
    assert [s.tokens for s in made.sources] == sorted(counted.values(), reverse=True), "the largest first"


def test_the_order_of_the_rows_changes_nothing_and_a_row_changes_the_fingerprint() -> None:
    rows = NARROW + BROAD
    shuffled = random.Random(1).sample(rows, len(rows))
    one, other = (compose(r, source_column="source", metrics="ead,compression") for r in (rows, shuffled))
    assert one == other
    assert compose(rows[1:], source_column="source", metrics="ead").fingerprint != one.fingerprint
    renamed = [{**rows[0], "source": "elsewhere"}, *rows[1:]]
    assert compose(renamed, source_column="source", metrics="ead").fingerprint != one.fingerprint


def test_a_narrow_source_shows_and_is_warned_of_where_it_dominates() -> None:
    made = compose(NARROW + BROAD, source_column="source", metrics="sbert", embedder="minilm")
    by_name = {source.name: source for source in made.sources}
    assert by_name["narrow"].within["sbert"] < by_name["broad"].within["sbert"]
    assert 0 < by_name["narrow"].same_opening < 0.1, "'Step 1: 4+5=9' mostly differs in its third word"
    assert made.across["broad"]["wide"] == made.across["wide"]["broad"]
    assert made.across["broad"]["wide"] == pytest.approx(by_name["wide"].within["sbert"], abs=0.08), "styles alike"
    assert "narrow" in (made.warning() or "")
    even = compose(NARROW[:40] + BROAD, source_column="source", metrics="sbert", embedder="minilm")
    assert even.warning() is None, "a third of the rows does not dominate"
    assert compose(BROAD, source_column="source", metrics="sbert", embedder="minilm").warning() is None


def test_distances_are_what_a_plain_loop_gives() -> None:
    from divmon.scoring.encoders import TextEncoder

    rows = NARROW[:6] + BROAD[:5]
    made = compose(rows, source_column="source", metrics="sbert", embedder="minilm")
    encoder = TextEncoder("minilm", "cpu")
    a, b = (encoder.encode([r["completion"] for r in part]).double() for part in (rows[:6], rows[6:]))
    within = [1 - float(x @ y) for x, y in itertools.combinations(a, 2)]
    across = [1 - float(x @ y) for x in a for y in b]
    assert made.sources[0].within["sbert"] == pytest.approx(sum(within) / len(within), abs=1e-6)
    assert made.across["narrow"]["broad"] == pytest.approx(sum(across) / len(across), abs=1e-6)


def test_completions_of_one_prompt() -> None:
    said = ["the same", "the same", "another thing", "the same"]
    rows = [{"prompt": "a?", "completion": text} for text in said[:3]] + [{"prompt": "b?", "completion": said[3]}]
    source = compose(rows, metrics="duplicates").sources[0]
    assert (source.rows, source.prompts, source.same_prompt_n) == (4, 2, 1)
    assert source.same_prompt["duplicate_pairs"] == pytest.approx(1 / 3)
    assert source.within["duplicate_pairs"] == pytest.approx(3 / 6)
    assert source.same_opening == pytest.approx(3 / 6)


def test_every_format_that_is_trained_on() -> None:
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>hm</think>yes yes"}
    no = {"role": "assistant", "content": "no"}
    forms = [
        {"messages": [user, answer]},
        {"prompt": [user], "completion": [answer]},
        {"prompt": "q", "chosen": [user, answer], "rejected": [user, no]},
        {"text": "<think>hm</think>yes yes"},
        {"prompt": "q"},
    ]
    for form in forms:
        (row,) = parts_of([form])[0].texts()
        assert row.completion == (None if list(form) == ["prompt"] else "<think>hm</think>yes yes")
        assert row.prompt == ("" if "text" in form else "q")
    assert next(parts_of([forms[2]])[0].texts()).rest == "no"
    two = compose([forms[0]] * 2, metrics="length,duplicates").sources[0]
    assert two.within["duplicate_pairs"] == 1 and two.same_opening == 1
    only_asked = compose([forms[4]] * 3, metrics="ead").sources[0]
    assert only_asked.samples == 0 and only_asked.within == {} and math.isnan(only_asked.same_opening)


@pytest.mark.parametrize(
    "data,column,said",
    [
        ([{"prompt": "a"}], "source", "data has no column 'source' that names sources; there are prompt"),
        ([], None, "expected a data set of rows"),
        (3, None, "expected a data set of rows .* got int"),
        ("no.jsonl", None, "no file 'no.jsonl'"),
    ],
)
def test_what_is_wrong_is_said_when_the_callback_is_built(data: object, column: str | None, said: str) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        DiversityCallback(runs.PROBES, data=data, source_column=column)


def test_a_row_of_no_known_form_is_named() -> None:
    with pytest.raises(ValueError, match=r"data, row 1 \(counted from 0\): expected `messages`.*; there are a"):
        compose([{"text": "x"}, {"a": 1}], metrics="ead")


def test_a_run_records_what_it_was_trained_on(tmp_path: Path) -> None:
    rows = [{**row, "source": "one" if i % 4 else "other"} for i, row in enumerate(runs.ROWS)]
    callback = DiversityCallback(runs.PROBES, **runs.CHEAP, data=Dataset.from_list(rows), source_column="source")
    trainer = runs.sft(tmp_path, [callback], report_to="tensorboard")
    trainer.train()
    assert callback.failures == []
    run = read_run(tmp_path)
    data = run.manifest["data"]["train"]
    assert {s["name"]: s["rows"] for s in data["sources"]} == {"one": 48, "other": 16}
    assert (
        data["unit"] == "tokens"
        and data["fingerprint"] == compose(rows, source_column="source", metrics="ead").fingerprint
    )
    consumed = run.provenance[30]["consumed"]
    epochs = 30 * 4 / 64
    assert consumed["expected"] is True and consumed["rows"] == {"one": 48 * epochs, "other": 16 * epochs}
    assert run.provenance[0]["consumed"]["rows"] == {"one": 0, "other": 0}
    (file,) = (tmp_path / "runs").rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    assert "one" in str(events.Tensors("divmon/data/text_summary")[0])
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(events.summary_metadata)
    assert events.Scalars("train/loss"), "the host's rows are in the same file"


def test_training_is_the_same_with_the_composition_recorded(tmp_path: Path) -> None:
    plain_run = runs.sft(tmp_path / "plain")
    plain_run.train()
    watched = runs.sft(tmp_path / "watched", [DiversityCallback(runs.PROBES, **runs.CHEAP, data=runs.ROWS)])
    watched.train()
    assert runs.log_rows(plain_run) == runs.log_rows(watched)
    assert all((value == runs.weights(watched)[name]).all() for name, value in runs.weights(plain_run).items())


def test_one_that_was_made_before_is_taken_as_it_is(tmp_path: Path) -> None:
    made = compose(NARROW + BROAD, source_column="source", metrics="ead,compression")
    (tmp_path / "data.json").write_bytes(strict_json(plain(made.as_dict())))
    read = Composition.read(tmp_path / "data.json")
    assert strict_json(plain(read.as_dict())) == strict_json(plain(made.as_dict()))
    runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **runs.CHEAP, data=read)], max_steps=1).train()
    assert read_run(tmp_path).manifest["data"]["train"]["fingerprint"] == made.fingerprint
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no composition"):
        Composition.read(tmp_path / "data.json")


def test_every_file_that_other_commands_read(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "completion": f"a {i}"} for i in range(4)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "rows.tsv").write_text("prompt\tcompletion\n" + "".join(f"q{i}\ta {i}\n" for i in range(4)))
    (tmp_path / "rows.json").write_text(json.dumps({"data": rows}))
    for name in ("saved", "rows.jsonl.gz", "rows.tsv", "rows.json"):
        (part,) = parts_of(str(tmp_path / name))
        assert [(row.prompt, row.completion) for row in part.texts()] == [(f"q{i}", f"a {i}") for i in range(4)], name
    (tmp_path / "bad.jsonl").write_text(lines + "{\n" * 5)
    with pytest.raises(ValueError, match=r"line 5: not JSON.*line 7.*; and 2 more$"):
        parts_of(str(tmp_path / "bad.jsonl"))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rows in (("narrow", NARROW), ("broad", BROAD)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = [f"n={tmp_path / 'narrow.jsonl'}", str(tmp_path / "broad.jsonl")]
    out = tmp_path / "made.json"
    code = data_command.main([*both, "--metrics", "sbert", "--embedder", "minilm", "--json", str(out)])
    said = capsys.readouterr().out
    assert code == data_command.HOMOGENEOUS and "warning: " in said
    assert "200 rows of" in said and "n " in said and "across sources (SBERT, minilm" in said
    assert Composition.read(out).rows == 200
    column = [*both, "--source-column", "source", "--metrics", "ead"]
    assert data_command.main(column) == data_command.OK and "3 sources" in capsys.readouterr().out
    assert data_command.main([*both, "--source-column", "teacher"]) == data_command.WRONG
    assert "no column 'teacher' that names sources; there are prompt, completion, source" in capsys.readouterr().err
