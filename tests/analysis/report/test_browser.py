"""The page in a real browser: it draws, its choices work, by keyboard too, narrow, dark, and fast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import report_runs
from support.browsers import needs_chromium, until

import divmon
from divmon.analysis.report import write

pytestmark = needs_chromium
READY = "document.documentElement.dataset.ready"


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    """Opens a page, and fails the test on anything in its console and on any request for something else."""
    said: list[str] = []

    def opened(path: Path, **options: Any) -> Any:
        tab = browser.new_page(**options)
        tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        tab.goto(path.as_uri())
        until(tab, READY)
        return tab

    yield opened
    for context in browser.contexts:
        context.close()
    assert said == []


def all_drawn(tab: Any) -> None:
    """Scrolls to every chart, and waits for each."""
    for figure in tab.query_selector_all("figure:not([hidden])"):
        figure.scroll_into_view_if_needed()
        figure.wait_for_selector(".chart svg, .chart .note")


def test_every_chart_is_drawn_with_a_name_and_a_table(look: Any, page: Path) -> None:
    tab = look(page)
    all_drawn(tab)
    figures = tab.query_selector_all("figure")
    assert len(figures) == 7
    for figure in figures:
        assert "numbers are in the table" in figure.query_selector("[role=graphics-document]").get_attribute(
            "aria-label"
        )
        figure.query_selector(":scope > details > summary").click()
        figure.wait_for_selector("tbody tr:nth-child(2)")
    first = tab.eval_on_selector_all("#curve tbody tr:first-child td", "cells => cells.map(c => c.textContent)")
    assert first[0] == "narrow" and first[1] == "0"


def test_what_lies_below_does_not_move_as_charts_are_drawn(look: Any, page: Path) -> None:
    tab = look(page)
    places = "e => [...document.querySelectorAll('figure:not([hidden]), #samples')].map(e => [e.id, e.offsetTop])"
    before = dict(tab.evaluate(places))
    all_drawn(tab)
    moved = {name: top - before[name] for name, top in tab.evaluate(places)}
    assert max(map(abs, moved.values())) < 2, moved


def test_choosing_a_metric_and_an_axis_draws_it(look: Any, page: Path) -> None:
    tab = look(page)
    all_drawn(tab)
    assert "sbert: Mean cosine distance" in tab.inner_text("#meaning")
    tab.select_option("#metric", "accuracy")
    until(tab, "document.querySelector('#curve svg').textContent.includes('accuracy')")
    assert "Share of graded completions" in tab.inner_text("#meaning") and "n = 12 prompts" in tab.inner_text(
        "#meaning"
    )
    assert "a decomposition takes a reference (an earlier snapshot, or an earlier run)" in tab.inner_text("#parts-0")
    tab.select_option("#axis", "tokens")
    until(tab, "document.querySelector('#curve svg').textContent.includes('tokens trained on')")


def test_the_samples_by_prompt_and_step_side_by_side(look: Any, page: Path) -> None:
    tab = look(page)
    tab.wait_for_selector("#columns .group")
    narrow, broad = tab.query_selector_all("#columns > section")
    assert "narrow, step 20" in narrow.inner_text() and "8 completions, 1 group, all identical" in narrow.inner_text()
    assert "✓ correct" in narrow.inner_text() and "8 times the same" in narrow.inner_text()
    assert len(broad.query_selector_all(".group")) > 2 and "✗ wrong" in broad.inner_text()
    assert len(narrow.query_selector_all(".strip button")) == 3
    narrow.query_selector(".strip button").click()
    assert "narrow, step 0" in tab.inner_text("#columns > section:first-child")
    assert "8 completions" in tab.inner_text("#columns > section:last-child")
    assert "8 more completions of this step" in tab.inner_text("#columns > section:last-child")
    tab.check("#diff")
    tab.select_option("#prompt", "3")
    until(tab, "document.getElementById('asked').textContent.includes('prompt p3')")
    tab.fill("#find", "is 7 plus")
    until(tab, "document.getElementById('asked').textContent.includes('prompt p7')")
    assert tab.eval_on_selector_all("#prompt option", "o => o.length") == 1


def test_differences_from_the_reference_are_marked_word_by_word(
    look: Any, runs: dict[str, Path], tmp_path: Path
) -> None:
    from support import run_dirs

    from divmon.scoring.scorer import Scorer

    def text(step: int, prompt: Any, k: int) -> tuple[str, bool]:
        return f"The {'fast' if step else 'slow'} train arrives at {k if step else 9}.", True

    folder = run_dirs.draw(tmp_path / "run", (0, 10), text, Scorer("ead", vocab_size=400), prompts=4, num_samples=2)
    tab = look(write(divmon.compare([folder]), tmp_path / "page.html", "words"))
    tab.wait_for_selector("#columns .group")
    tab.check("#diff")
    said = tab.eval_on_selector("#columns .said pre", "e => e.innerHTML")
    assert said == "The <del>slow</del><ins>fast</ins> train arrives at <del>9</del><ins>0</ins>."


def test_read_these_opens_the_prompt(look: Any, page: Path) -> None:
    tab = look(page)
    tab.wait_for_selector("#columns .group")
    cards = tab.query_selector_all("#read .card")
    assert len(cards) == 3
    name = cards[2].query_selector("h3").inner_text().removeprefix("Prompt ")
    cards[2].query_selector("button").click()
    until(tab, f"document.getElementById('asked').textContent.includes('prompt {name}:')")


def test_samples_are_filtered_and_one_of_them_has_a_link(look: Any, page: Path) -> None:
    tab = look(page)
    tab.wait_for_selector("#columns .group")
    tab.select_option("#only", "wrong")
    narrow, broad = (section.inner_text() for section in tab.query_selector_all("#columns > section"))
    assert "0 of 8 completions shown" in narrow and "✗ wrong" in broad and "✓ correct" not in broad
    before = tab.inner_text("#asked")
    tab.click("#next")
    until(tab, f"document.getElementById('asked').innerText !== {json.dumps(before)}")
    tab.fill("#words", "COUNTING on")
    shown = tab.eval_on_selector_all("#columns .said pre", "all => all.map(one => one.textContent)")
    assert shown and all("Counting on" in text for text in shown)
    tab.select_option("#only", "truncated")
    assert not tab.query_selector_all("#columns .said")
    tab.evaluate("location.hash = 'sample/sums/p5/0/narrow/12'")  # beyond the eight that are shown, and folded
    until(tab, "document.activeElement.classList.contains('linked')")
    assert tab.input_value("#only") == "all" and "prompt p5" in tab.inner_text("#asked")
    assert "12" in tab.evaluate("document.activeElement.dataset.samples").split()
    link = tab.evaluate("document.activeElement.querySelector('a').href").partition("#")[2]
    assert link.startswith("sample/sums/p5/0/narrow/")
    opened = look(page)
    opened.goto(f"{page.as_uri()}#{link}")
    opened.reload()
    until(opened, "document.activeElement.classList.contains('linked')")


def test_what_a_model_says_is_shown_and_not_run(look: Any, page: Path) -> None:
    tab = look(page)
    tab.wait_for_selector("#columns .group")
    tab.eval_on_selector("#step", "e => { e.value = 0; e.dispatchEvent(new Event('input')); }")
    for details in tab.query_selector_all("#columns details"):
        details.query_selector("summary").click()
    assert report_runs.HOSTILE in tab.eval_on_selector("#columns", "e => e.textContent")
    tab.check("#diff")
    assert tab.evaluate("window.hacked") is None
    assert tab.query_selector("main img") is None


def test_by_keyboard_alone(look: Any, page: Path) -> None:
    tab = look(page)
    tab.wait_for_selector("#columns .group")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(80):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"theme", "task", "metric", "axis", "find", "prompt", "previous", "next", "step", "diff"} <= reached
    tab.focus("#theme")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.documentElement.className") == "dark"
    tab.focus("#step")
    tab.keyboard.press("ArrowLeft")
    assert "narrow, step 10" in tab.inner_text("#columns > section:first-child")
    before = tab.inner_text("#asked")
    tab.focus("#next")
    tab.keyboard.press("Enter")
    until(tab, f"document.getElementById('asked').innerText !== {json.dumps(before)}")
    tab.focus("#curve > details > summary")
    tab.keyboard.press("Space")
    tab.wait_for_selector("#curve tbody tr")


def test_on_a_phone_nothing_scrolls_sideways_but_tables(look: Any, page: Path) -> None:
    tab = look(page, viewport={"width": 360, "height": 740})
    all_drawn(tab)
    tab.wait_for_selector("#columns .group")
    for summary in tab.query_selector_all("figure > details > summary"):
        summary.click()
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    wide = """[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 361
        && !e.closest('.scroll, svg, pre, .asked')).map(e => e.outerHTML.slice(0, 80))"""
    assert tab.evaluate(wide) == []


def test_light_and_dark_follow_the_system_and_the_button(look: Any, page: Path) -> None:
    brightness = "getComputedStyle(document.body).backgroundColor"
    assert look(page).evaluate(brightness) == "rgb(255, 255, 255)"
    tab = look(page, color_scheme="dark")
    dark = tab.evaluate(brightness)
    assert dark == "rgb(20, 23, 27)"
    label = "[...document.querySelectorAll('#curve svg text')].at(-1).getAttribute('fill')"
    assert tab.evaluate(label) == "#e8ebef"
    tab.click("#theme")
    assert tab.evaluate(brightness) == "rgb(255, 255, 255)"
    until(tab, f"{label} === '#1b1f24'")


def test_a_run_without_samples_verdicts_or_changes(look: Any, tmp_path: Path) -> None:
    from support import run_dirs

    run = run_dirs.write(tmp_path / "run", (0, 10), {("sums", "sbert"): [[0.2] * 4, [0.3] * 4]})
    tab = look(write(divmon.compare([run]), tmp_path / "page.html", "words"))
    all_drawn(tab)
    assert "No samples are stored" in tab.inner_text("#samples")
    assert "needs a diversity metric" in tab.inner_text("#frontier")


def test_a_single_point_says_its_value(look: Any, tmp_path: Path) -> None:
    """One snapshot of three prompts: no line leads to the point, and no band is around it."""
    from support import run_dirs

    run = run_dirs.write(tmp_path / "run", (20,), {("sums", "sbert"): [[0.25] * 3]})
    tab = look(write(divmon.compare([run]), tmp_path / "page.html", "words"))
    until(tab, "document.querySelector('#curve svg').textContent.includes('0.250, no interval of 3 prompts')")


@pytest.mark.slow
def test_twenty_snapshots_of_64_prompts_by_16_are_small_and_open_at_once(look: Any, tmp_path: Path) -> None:
    run = report_runs.large(tmp_path / "run")
    path = write(divmon.compare([run]), tmp_path / "page.html", "words")
    tab = look(path)
    ready = float(tab.evaluate(READY))
    print(json.dumps({"MB": path.stat().st_size / 1e6, "ms": ready}))
    assert path.stat().st_size < 15e6
    assert ready < 2000
    tab.wait_for_selector("#columns .group")
