"""What the page says, what it holds, and what it must not do with what a model says; without a browser."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import report_runs, run_dirs

import divmon
from divmon import cli
from divmon.analysis.comparison.compare import Comparison
from divmon.analysis.report import chart_rows, export, samples, write
from divmon.analysis.report.headline import gaps, headline, most


class Reader(HTMLParser):
    """The tags of a page, and the text of each script by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.scripts: dict[str, str] = {}
        self.text = text
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id") or f"#{len(self.scripts)}" if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def answers(comparison: Comparison) -> dict[str, tuple[str, str]]:
    return {question: (short, long) for question, short, long in headline(comparison, {}).answers}


def test_the_top_says_which_run_collapsed_when_and_how_much_was_real(comparison: Comparison) -> None:
    head = headline(comparison, {})
    assert (head.task, head.metric, head.worst, head.other) == ("sums", "sbert", "narrow", "broad")
    said = answers(comparison)
    short, figures = said["Which run collapsed?"]
    assert short == "narrow collapsed." and "n = 12 prompts" in figures and "95 % interval" in figures
    short, figures = said["When?"]
    assert short == "From step 10 on."
    assert "differ on these prompts from step 10 on" in figures and "significant" not in str(said).lower()
    short, figures = said["How much of it was narrowing among correct answers?"]
    own = comparison.decomposition.query("run == 'narrow' and step == 20 and metric == 'sbert'").set_index("part")
    real, change = own.loc["narrowing_correct", "value"], own.loc["change", "value"]
    assert f"{real:+.3f}".replace("-", "−") in figures and f"{change:+.3f}".replace("-", "−") in figures


def test_prompts_to_read_are_those_with_the_widest_gap(comparison: Comparison) -> None:
    head = headline(comparison, {})
    now = {
        run: comparison.groups[run][0].run.per_prompt.query("metric == 'sbert' and step == 20").set_index("prompt_id")
        for run in ("narrow", "broad")
    }
    expected = (now["narrow"]["value"] - now["broad"]["value"]).sort_values(kind="stable")
    assert gaps(comparison, head) == pytest.approx(expected.to_dict())
    assert most(comparison, head) == list(expected.index[:3])


def test_a_loss_is_called_collapse_only_where_the_whole_interval_says_so(tmp_path: Path) -> None:
    spread = [0.9, 1.0, 1.1, 1.0, 0.95, 1.05] * 3
    values = {
        "half": [[0.4 * s for s in spread], [0.1 * s for s in spread]],
        "some": [[0.4 * s for s in spread], [0.3 * s for s in spread]],
        "none": [[0.4 * s for s in spread], [0.4 * s for s in reversed(spread)]],
    }
    runs = {n: run_dirs.write(tmp_path / n, (0, 10), {("sums", "sbert"): rows}) for n, rows in values.items()}
    said = answers(divmon.compare(runs))["Which run collapsed?"]
    assert said[0] == "half collapsed."
    assert "some lost diversity" in said[1] and "none kept its diversity" in said[1]
    assert answers(divmon.compare([runs["none"]]))["Did it collapse?"][0].startswith("none kept")
    assert (
        answers(divmon.compare([runs["half"]]))["How much of it was narrowing among correct answers?"][0]
        == "It cannot be said."
    )


def test_seeds_are_named_only_where_groups_have_several(tmp_path: Path) -> None:
    runs = {}
    for r, name in enumerate("abcd"):
        level = 0.4 if r < 2 else 0.1
        values = [[0.4 + 0.01 * p for p in range(12)], [level + 0.01 * p + 0.003 * r for p in range(12)]]
        runs[name] = run_dirs.write(tmp_path / name, (0, 10), {("sums", "sbert"): values})
    grouped = divmon.compare({"kept": [runs["a"], runs["b"]], "lost": [runs["c"], runs["d"]]})
    assert "beyond prompts and training seeds" in answers(grouped)["When?"][1]
    single = divmon.compare({"kept": [runs["a"]], "lost": [runs["c"]]})
    assert "on these prompts" in answers(single)["When?"][1]
    text = write(single, tmp_path / "page.html", "words").read_text()
    assert "not training seeds" in text and "significant" not in text.lower().partition("<script")[0]
    facts = json.loads(Reader(write(grouped, tmp_path / "two.html", "words").read_text()).scripts["facts"])
    drawn = set(facts["rows"]["curve"]["run"])
    assert drawn == {"kept/a", "kept/b", "lost/c", "lost/d", "kept, mean of 2 runs", "lost, mean of 2 runs"}


def test_the_page_needs_no_network_and_runs_no_script_but_its_own(page: Path) -> None:
    read = Reader(page.read_text())
    assert not [tag for tag, a in read.tags if tag in ("link", "iframe", "object", "img") or "src" in a]
    assert all(a["href"].startswith("#") for tag, a in read.tags if tag == "a")
    policy = next(a["content"] for tag, a in read.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy and policy.count("'sha256-") == 2 and "unsafe-eval" not in policy
    scripts = [a for tag, a in read.tags if tag == "script"]
    assert len([a for a in scripts if a.get("type") is None]) == 2


def test_what_a_model_says_stays_text(page: Path) -> None:
    text = page.read_text()
    read = Reader(text)
    scripts = [a.get("id", "") for tag, a in read.tags if tag == "script"]
    assert scripts == ["facts", *(f"s{i}" for i in range(12)), "", ""]
    assert "img" not in {tag for tag, _ in read.tags} and not [a for _, a in read.tags if "onerror" in a]
    assert "&lt;script&gt;window.hacked" in text  # among the prompts to read
    found = json.loads(gzip.decompress(base64.b64decode(read.scripts["s0"])))
    assert any(report_runs.HOSTILE in said for said in found["texts"])
    assert json.loads(read.scripts["facts"])["main"] == {"task": "sums", "metric": "sbert"}


def test_a_hostile_name_prompt_or_metric_is_text_wherever_it_stands(tmp_path: Path) -> None:
    values = {(report_runs.HOSTILE, "sbert"): [[0.2] * 4, [0.3, 0.2, 0.3, 0.4]]}
    run = run_dirs.write(tmp_path / "run", (0, 10), values, model=report_runs.HOSTILE)
    read = Reader(write(divmon.compare({report_runs.HOSTILE: [run]}), tmp_path / "page.html", "words").read_text())
    assert "img" not in {tag for tag, _ in read.tags}
    assert [a.get("id", "") for tag, a in read.tags if tag == "script"] == ["facts", "", ""]
    assert json.loads(read.scripts["facts"])["tasks"] == [report_runs.HOSTILE]


def test_every_completion_is_in_the_page_with_its_verdict(page: Path, runs: dict[str, Path]) -> None:
    read = Reader(page.read_text())
    prompts = json.loads(read.scripts["facts"])["prompts"]
    own = divmon.read_run(runs["narrow"]).samples
    for prompt in prompts:
        found = json.loads(gzip.decompress(base64.b64decode(read.scripts[f"s{prompt['place']}"])))
        for step in report_runs.STEPS:
            rows = own[(own["step"] == step) & (own["prompt_id"] == prompt["id"])]
            shown = [(found["texts"][row[0]], row[1]) for row in found["runs"]["narrow"][str(step)]]
            assert shown == list(zip(rows["text"], rows["correct"], strict=True))


def test_samples_that_do_not_fit_are_cut_and_it_is_said(comparison: Comparison) -> None:
    members = [m for group in comparison.groups.values() for m in group]
    found = samples.collect(members, comparison.tasks)
    for one in found.values():
        one.texts = [f"{text} {random.Random(i).randbytes(1000).hex()}" for i, text in enumerate(one.texts)]
        one.group = [0] * len(one.texts)
    whole, limit = samples.packed(found)
    assert limit is None
    room = sum(map(len, whole.values())) * 2 // 3
    cut, limit = samples.packed(found, room)
    assert limit is not None and sum(map(len, cut.values())) <= room
    texts = json.loads(gzip.decompress(base64.b64decode(next(iter(cut.values())))))["texts"]
    assert all(len(text) <= limit + 30 and text.endswith("more)") for text in texts)


def test_of_many_snapshots_some_are_drawn_and_it_is_said(tmp_path: Path) -> None:
    steps = range(0, 3000, 10)
    values_SP = np.random.default_rng(0).normal(0.3, 0.01, (len(steps), 4))
    run_dirs.write(tmp_path / "long", steps, {("sums", "sbert"): values_SP, ("sums", "ead"): values_SP})
    read = Reader(write(divmon.compare([tmp_path / "long"]), tmp_path / "long.html", "words").read_text())
    curve = json.loads(read.scripts["facts"])["rows"]["curve"]
    drawn = [step for step, metric in zip(curve["step"], curve["metric"], strict=True) if metric == "sbert"]
    assert len(drawn) == 200 and drawn[0] == 0 and drawn[-1] == 2990
    assert max(after - before for after, before in zip(drawn[1:], drawn, strict=False)) <= 20
    assert "Charts show 200 of the 300 snapshots of long" in read.text


def test_warnings_and_the_best_are_drawn_however_many_snapshots_there_are() -> None:
    rows: list[dict[str, Any]] = [{"run": "a", "step": step, "alert": None} for step in range(1000)]
    rows[333]["alert"], rows[777]["best"] = "narrowing", True
    kept = [row["step"] for row in chart_rows.thinned(rows, 5)]
    assert kept == [0, 250, 333, 500, 749, 777, 999]


def test_completions_of_some_snapshots_where_there_are_too_many(
    tmp_path: Path, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "MOST", 200)  # a snapshot has 12 prompts x 8
    read = Reader(write(divmon.compare([runs["narrow"]]), tmp_path / "few.html", "words").read_text())
    found = json.loads(gzip.decompress(base64.b64decode(read.scripts["s0"])))
    assert list(found["runs"]["narrow"]) == ["0", "20"]
    assert "of narrow those of 2 in 3 snapshots" in read.text


def test_damaged_samples_are_named_and_the_rest_is_shown(tmp_path: Path, runs: dict[str, Path]) -> None:
    import shutil

    folder = shutil.copytree(runs["narrow"], tmp_path / "run")
    (folder / "snapshots" / "00000010.samples.jsonl.gz").write_bytes(b"no gzip")
    with pytest.warns(UserWarning, match=r"00000010\.samples"):
        text = write(divmon.compare([folder]), tmp_path / "page.html", "words").read_text()
    found = json.loads(gzip.decompress(base64.b64decode(Reader(text).scripts["s0"])))
    assert list(found["runs"]["run"]) == ["0", "20"]


def test_the_command_writes_page_tables_and_pictures(tmp_path: Path, runs: dict[str, Path], capsys: Any) -> None:
    out = ["--out", str(tmp_path / "x" / "page.html"), "--csv", str(tmp_path / "csv"), "--png", str(tmp_path / "png")]
    assert cli.main(["report", str(runs["narrow"]), *out, "--groups", "words"]) == 0
    assert (tmp_path / "x" / "page.html").stat().st_size > 500_000
    tables = {path.stem: path.read_text() for path in (tmp_path / "csv").iterdir()}
    assert {"curves", "changes", "decomposition", "per_prompt", "frontier", "composition", "alerts"} <= set(tables)
    rows = divmon.read_run(runs["narrow"]).changes
    assert len(tables["changes"].splitlines()) == len(rows) + 1
    pictures = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert pictures == [f"sums-{name}.png" for name in ("change", "curve", "frontier", "parts-narrow")]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in (tmp_path / "png").iterdir())
    assert "open it in a browser" in capsys.readouterr().out


def test_lineages_have_a_picture_of_what_each_stage_left(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    lines = {"think": ["sft", "sft", "dpo"], "instruct": ["think-sft", "sft", "dpo"], "zero": ["rl", "rl", "rl"]}
    runs = []
    for name, stages in lines.items():
        facts = {step: {"stage": stage} for step, stage in zip([0, 10, 20, 30], ["base", *stages], strict=True)}
        values = {("sums", "sbert"): generator.uniform(0.2, 0.6, (4, 10))}
        runs.append(run_dirs.write(tmp_path / name, list(facts), values, facts=facts))
    comparison = divmon.compare(runs)
    assert tmp_path / "png" / "stages.png" in export.png(comparison, tmp_path / "png")
    rows = chart_rows.rows(comparison, {})["stages"]
    assert chart_rows.ordered(rows) == ["base", "think-sft", "rl", "sft", "dpo"]
    spec = dict(export.pictures(comparison, chart_rows.rows(comparison, {}), "sbert"))["stages"]
    assert len(spec["data"]["values"]) == 1 + 2 + 1 + 3 + 1 + 1


def test_stages_that_come_in_two_orders_are_all_there() -> None:
    rows = [{"lineage": name, "stage": stage} for name, line in (("a", "xy"), ("b", "yx")) for stage in line]
    assert sorted(chart_rows.ordered(rows)) == ["x", "y"]


def test_compare_writes_the_same_page(tmp_path: Path, runs: dict[str, Path]) -> None:
    out = tmp_path / "page.html"
    named = [f"{name}={path}" for name, path in runs.items()]
    assert cli.main(["compare", *named, "--metric", "sbert", "--out", str(out), "--groups", "words"]) == 0
    text = out.read_text()
    assert re.search(r"<h1>narrow against broad", text) and "narrow collapsed." in text


def test_what_cannot_be_written_is_said(tmp_path: Path, runs: dict[str, Path], capsys: Any) -> None:
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2
    assert "no divmon run" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["report", str(runs["narrow"]), "--csv", str(tmp_path / "file")]) == 2
    assert "is a file, expected a folder" in capsys.readouterr().err


def test_the_report_of_a_run_shows_its_rollouts(tmp_path: Path) -> None:
    run = run_dirs.write(tmp_path / "run", (0, 10), {("sums", "sbert"): [[0.3] * 6, [0.2] * 6]})
    values = {("rollouts", "ead"): [[0.5] * 6, [0.25] * 6], ("rollouts", "reward"): [[0.1] * 6, [0.75] * 6]}
    run_dirs.write(run / "rollouts", (5, 10), values)
    text = write(divmon.compare([run]), tmp_path / "page.html", "words").read_text().partition("<script")[0]
    cells = [re.findall(r"<td[^>]*>([^<]*)", row) for row in re.findall("<tr>(.*?)</tr>", text)]
    assert ["5", "", "0.100", "0.500"] in cells and ["10", "", "0.750", "0.250"] in cells
    assert f"divmon report {run / 'rollouts'}" in text
