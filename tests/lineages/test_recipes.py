"""The recipes of Olmo 3, and what is said of a wrong one: file, line and key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import RECIPES, lineage, runs, tiny

from divmon.lineages import recipes
from divmon.lineages.recipes import load
from divmon.lineages.recipes.checks import check
from divmon.lineages.recipes.file import RecipeError
from divmon.lineages.recipes.plan import accumulation, plan, steps, tokens, trl_args

FOLDER = RECIPES
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "miniature")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lineage.make(tmp_path_factory.mktemp("lineage"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_recipe_can_run(path: Path) -> None:
    recipe = load(path)
    check(recipe)
    shown = plan(recipe)
    for stage in recipe.stages.values():
        assert stage.not_reproduced and stage.open_points
        for name in trl_args(stage, ""):
            assert f"    {name} = " in shown or name == "output_dir"
        for point in stage.open_points:
            assert point[:40] in shown, "what is not certain is seen before anything runs"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_value_says_what_it_rests_on(path: Path) -> None:
    block = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        key = re.match(r"^ +([\w]+):(.*)$", line)
        if key is None:
            continue
        indent = len(line) - len(line.lstrip())
        block = key[1] if indent == 4 else block
        if indent == 6 and block == "args":
            assert "  # " in line, f"{path.name}:{number}: no source beside {key[1]}"


def test_the_facts_that_a_reader_would_look_up() -> None:
    think, instruct = load(FOLDER / "think.yaml"), load(FOLDER / "instruct.yaml")
    assert [steps(stage).value for stage in think.stages.values()] == [43_297, 1_172, 1_400]
    assert tokens(think.stages["sft"]).value == 45_400_000_000
    assert steps(instruct.stages["sft"]).value == 3_243 and steps(instruct.stages["dpo"]).value == 2_031
    assert accumulation(think.stages["dpo"]) == 4 and accumulation(instruct.stages["rl"]) == 16
    for recipe in (think, instruct):
        for stage in recipe.stages.values():
            assert sum(source.rows or 0 for source in stage.data.sources) == stage.data.rows
    assert instruct.stages["think-sft"].recipe == "olmo3-think"
    assert think.monitor == instruct.monitor, "measured alike, so that the lineages compare"


def test_a_recipe_of_the_package_is_loaded_by_its_name() -> None:
    assert recipes.names() == [path.stem for path in FILES]
    assert load("think").stages == load(recipes.LIBRARY / "think.yaml").stages
    assert recipes.LIBRARY.resolve() == FOLDER
    with pytest.raises(RecipeError, match="no recipe and no file named 'thnik'; did you mean 'think'"):
        load("thnik")
    with pytest.raises(RecipeError, match="no recipe and no file named 'gpt'; there are instruct, rl_zero_code"):
        load("gpt")
    with pytest.raises(RecipeError, match=r"no\.yaml: cannot be read"):
        load("no.yaml")


def test_the_run_that_is_not_established_is_named() -> None:
    assert not (FOLDER / "rl_zero_code_31.yaml").exists()
    assert "3.1 RL-Zero Code" in plan(load(FOLDER / "rl_zero_math_31.yaml"))


WRONG = [
    (
        "global_batch: 4\n    args",
        "global_batches: 4\n    args",
        r"small.yaml:16: sft.global_batches: no such key; did you",
    ),
    ("    global_batch: 4\n    rewards", "    rewards", r"small.yaml:26: rl: the key `global_batch` is missing"),
    (
        "beta: 5.0",
        "betas: 5.0",
        r"small.yaml:25: dpo.args.betas: DPOConfig of the installed TRL .* 'betas'; did you .*'beta'",
    ),
    ("beta: 5.0", "beta: high", r"dpo.args.beta: expected a number, got 'high'"),
    ("beta: 5.0", "beta: true", r"dpo.args.beta: expected a number, got True"),
    ("beta: 5.0", "lr_scheduler_type: lienar", r"dpo.args.lr_scheduler_type: DPOConfig refuses it: .*lienar"),
    ("beta: 5.0", "gradient_accumulation_steps: 2", r"gradient_accumulation_steps: not given here: it follows from"),
    (
        "start: sft",
        "start: stf",
        r"small.yaml:21: dpo.start: there is no stage 'stf' before this one; there are base, sft",
    ),
    ("start: sft", "start: rl", r"dpo.start: the stage 'rl' comes later; list it before"),
    ("trainer: dpo", "trainer: ppo", r"dpo.trainer: expected one of sft, dpo, grpo, got 'ppo'"),
    (
        "num_generations: 2",
        "num_generations: 3",
        r"num_generations: 4 completions .* no multiple of num_generations \(3\)",
    ),
    (
        "per_device_train_batch_size: 4",
        "per_device_train_batch_size: 3",
        r"rl.global_batch: 4 is not made of 1 processes",
    ),
    (
        "rows: 16",
        "rows: 16, sources: [{name: a, rows: 9}]",
        r"sft.data.sources: their rows sum to 9, the data set has 16",
    ),
    ("keep: [chosen, rejected]", "keep: [chosen]", r"dpo.data.keep: DPOTrainer needs the column 'rejected'"),
    (
        "function: math",
        "function: maths",
        r"small.yaml:33: rl.rewards\[0\]: no reward function named 'maths'; there are",
    ),
    (
        "function: constraints",
        "function: code, arguments: {limit: 1}",
        r"rl.rewards\[1\]: the reward 'code' has no argument",
    ),
    (
        "num_samples: 2",
        "num_sample: 2",
        r"small.yaml:7: monitor.num_sample: DiversityCallback has no such option; did you",
    ),
    ("num_samples: 2", "num_samples: 1", r"small.yaml:7: monitor.num_samples: .*undefined"),
    ("metrics: ead", "metrics: eda", r"small.yaml:6: monitor.metrics: no metric named 'eda' \(did you mean 'ead'"),
    (
        "monitor: {every: 2}",
        "monitor: {num_samples: 4}",
        r"sft.monitor.num_samples: it must be the same along the line",
    ),
    (
        "chat: chat.jinja",
        "chat: no.jinja",
        r"small.yaml:15: sft.template.chat: .*no.jinja cannot be read: No such file",
    ),
    ("about: three stages", "about: three stages\nabout: four", r"small.yaml:3: about: stands here a second time"),
    ("about: three stages", "about: [", r"small.yaml: no valid YAML: .*line"),
    ("    monitor: {every: 2}", "    accelerate: no.yaml", r"sft.accelerate: .*no.yaml: cannot be read"),
]


@pytest.mark.parametrize("before,after,said", WRONG, ids=lambda value: str(value)[:24])
def test_what_is_wrong_is_named_by_file_line_and_key(made: Path, before: str, after: str, said: str) -> None:
    text = made.read_text()
    assert before in text
    wrong = made.with_name("wrong") / "small.yaml"
    wrong.parent.mkdir(exist_ok=True)
    (wrong.parent / "chat.jinja").write_text(lineage.CHAT)
    wrong.write_text(text.replace(before, after, 1))
    with pytest.raises(RecipeError, match=said):
        check(load(wrong))


def test_what_reuse_names_must_be_there(made: Path) -> None:
    other = made.with_name("reuse.yaml")
    text = made.with_name("other.yaml").read_text()
    other.write_text(text.replace("small.yaml/sft", "small.yaml/sfft"))
    with pytest.raises(
        RecipeError, match=r"reuse.yaml:6: small-sft.reuse: small.yaml has no stage 'sfft'; it has sft, dpo"
    ):
        load(other)
    other.write_text(text.replace("small.yaml/sft", "small.yaml/rl"))
    with pytest.raises(RecipeError, match=r"expected a stage that starts at its base, this one starts at 'dpo'"):
        check(load(other))


def test_values_from_the_command_line(made: Path) -> None:
    sets = ["sft.args.learning_rate=5e-5", "rl.args.max_steps=7", "monitor.num_samples=3", "dpo.start=a/model"]
    recipe = load(made, sets=sets)
    assert recipe.stages["sft"].args["learning_rate"] == 5e-5, "a number, as people write it"
    assert (recipe.stages["rl"].args["max_steps"], recipe.monitor["num_samples"]) == (7, 3)
    assert recipe.stages["dpo"].start == "a/model"
    for wrong, said in (
        ("beta", "expected key=value"),
        ("sft.args.beta.x.y=1", "no keys of its own"),
        ("x=[", "no valid"),
    ):
        with pytest.raises(RecipeError, match=said):
            load(made, sets=["sft.args.beta=1", wrong])


def test_a_task_that_is_not_there_is_said_before_anything_runs(made: Path) -> None:
    with pytest.raises(RecipeError, match=r"small.yaml:5: monitor.probes: no task named 'startr'; there are"):
        check(load(made, sets=["monitor.probes=startr"]))


@pytest.mark.parametrize(
    ("stage", "sets", "expected"),
    [
        ("sft", ["num_train_epochs=1.5"], 6),  # of 4 each
        ("sft", ["num_train_epochs=0.3"], 2),
        ("sft", ["packing=true"], None),  # without data.tokens
        ("rl", ["num_train_epochs=1"], 5),  # 11 prompts x 2, of which 10 make whole batches
        ("rl", ["num_train_epochs=1", "num_iterations=2"], 10),
        ("rl", ["num_train_epochs=1", "steps_per_generation=2"], 4),
    ],
)
def test_the_steps_planned_are_those_that_the_trainer_takes(
    made: Path, stage: str, sets: list[str], expected: int | None
) -> None:
    given = [f"{stage}.args.max_steps=-1", "rl.data.rows=11", *(f"{stage}.args.{value}" for value in sets)]
    assert steps(load(made, sets=given).stages[stage]).value == expected


def test_packing_without_a_length_is_planned_by_trls_default(made: Path) -> None:
    sets = ["sft.args.max_steps=-1", "sft.args.packing=true", "sft.data.tokens=10000", "sft.args.num_train_epochs=1"]
    assert steps(load(made, sets=sets).stages["sft"]).value == 3  # of 4 x 1,024
    assert steps(load(made, sets=[*sets, "sft.args.max_length=null"]).stages["sft"]).value is None


def test_the_batch_is_the_recipes_on_any_number_of_processes(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = load(made).stages["sft"]
    assert accumulation(stage) == 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert accumulation(stage) == 1
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RecipeError, match=r"sft.global_batch: 4 is not made of 3 processes with 2 each"):
        accumulation(stage)


def test_a_miniature_lays_its_values_by_trainer_over_every_lineage(made: Path) -> None:
    small = made.with_name("shrink.yaml")
    small.write_text(made.read_text() + "miniature: mini.yaml\n")
    made.with_name("mini.yaml").write_text(
        "base: tiny\ndpo:\n  args: {beta: null, max_steps: 1}\n"
        "sft: {global_batch: 2, args: {learning_rate: {times: 20}}}\n"
    )
    recipe = load(small, scale="miniature", sets=["dpo.args.max_steps=3"])
    assert recipe.base == "tiny" and recipe.stages["sft"].global_batch == 2
    assert "beta" not in recipe.stages["dpo"].args and recipe.stages["dpo"].args["max_steps"] == 3
    assert recipe.stages["sft"].args["learning_rate"] == pytest.approx(
        20 * load(small).stages["sft"].args["learning_rate"]
    )
    assert load(small).stages["dpo"].args["beta"] == 5.0
    made.with_name("mini.yaml").write_text("think: {}\n")
    with pytest.raises(
        RecipeError, match=r"mini.yaml:1: think: expected one of base, tokenizer, monitor, sft, dpo, grpo"
    ):
        load(small, scale="miniature")
    with pytest.raises(RecipeError, match="has no key `miniature`"):
        load(made, scale="miniature")


TEMPLATES = [("think_sft", "assistant\n"), ("think", "assistant\n<think>"), ("instruct", "assistant\n")]


@pytest.mark.parametrize("name,prompt_ends", TEMPLATES)
def test_templates_learn_every_answer_with_its_end_and_nothing_else(name: str, prompt_ends: str) -> None:
    tokenizer = tiny.tokenizer(runs.TEXTS)
    tokenizer.chat_template = (FOLDER / "templates" / f"{name}.jinja").read_text()
    turns = [("user", "q?"), ("assistant", "one"), ("user", "more"), ("assistant", "two")]
    messages = [{"role": role, "content": content} for role, content in turns]
    made = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    learned = [i for i, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(learned) == "one<|im_end|>two<eos>"
    asked = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert asked.endswith(f"q?<|im_end|>\n<|im_start|>{prompt_ends}")


@given(rows=st.integers(0, 5000), counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_sources_keep_their_shares_of_fewer_rows(rows: int, counts: list[int]) -> None:
    sources: list[dict[str, Any]] = [{"rows": count} for count in counts]
    recipes._share(rows, sources)
    total = sum(counts)
    if total:
        assert sum(source["rows"] for source in sources) == rows
        assert all(abs(s["rows"] - rows * count / total) < 1 for s, count in zip(sources, counts, strict=True))
