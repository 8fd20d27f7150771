"""IFEval: every constraint of the 541 prompts is known; texts built to meet each type pass, built to break it fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from divmon.grading.verifiers._constraints import CONSTRAINTS, language_of, sentences, unmet
from divmon.grading.verifiers.ifeval import ifeval
from divmon.grading.verifiers.ifeval_loose import ifeval_loose
from divmon.types import Prompt

ENGLISH = "we walked along the river and talked about the weather until it was dark"
SAID = {
    "ar": "ذهبت إلى السوق واشتريت بعض الخبز والفاكهة", "bg": "Отидох на пазара и купих малко хляб и плодове",
    "bn": "আমি বাজারে গিয়ে কিছু রুটি ও ফল কিনেছি", "de": "Ich ging auf den Markt und kaufte etwas Brot und Obst",
    "en": ENGLISH, "fa": "من به بازار رفتم و مقداری نان و میوه خریدم",
    "fi": "Kävin torilla ja ostin hieman leipää ja hedelmiä", "gu": "હું બજારમાં ગયો અને થોડી રોટલી અને ફળ ખરીદ્યા",
    "hi": "मैं बाज़ार गया और कुछ रोटी और फल खरीदे", "it": "Sono andato al mercato e ho comprato del pane e della frutta",
    "kn": "ನಾನು ಮಾರುಕಟ್ಟೆಗೆ ಹೋಗಿ ಸ್ವಲ್ಪ ಬ್ರೆಡ್ ಮತ್ತು ಹಣ್ಣು ಖರೀದಿಸಿದೆ", "ko": "나는 시장에 가서 빵과 과일을 조금 샀습니다",
    "mr": "मी बाजारात गेलो आणि थोडी भाकरी आणि फळे विकत घेतली",
    "ne": "म हिजो बजार गएँ र केही रोटी र फलफूल किनें, त्यसपछि घर फर्केर खाना पकाएँ",
    "pa": "ਮੈਂ ਬਾਜ਼ਾਰ ਗਿਆ ਅਤੇ ਕੁਝ ਰੋਟੀ ਅਤੇ ਫਲ ਖਰੀਦੇ", "pt": "Fui ao mercado e comprei um pouco de pão e de fruta",
    "ru": "Я пошёл на рынок и купил немного хлеба и фруктов",
    "sw": "Nilienda sokoni na kununua mkate na matunda kidogo",
    "ta": "நான் சந்தைக்குச் சென்று கொஞ்சம் ரொட்டியும் பழமும் வாங்கினேன்",
    "te": "నేను మార్కెట్‌కు వెళ్లి కొంచెం రొట్టె మరియు పండ్లు కొన్నాను", "th": "ฉันไปตลาดและซื้อขนมปังกับผลไม้นิดหน่อย",
    "ur": "میں بازار گیا اور کچھ روٹی اور پھل خریدے", "vi": "Tôi đã đi chợ và mua một ít bánh mì và trái cây",
}  # fmt: skip


def times(relation: str, limit: int, item: str) -> tuple[str, str]:
    """(enough, not enough) of an item, for either relation."""
    few, many = item * (limit - 1), item * limit
    return (many, few) if relation == "at least" else (few or "%", many)


# Constraint: arguments -> (a text that meets it, a text that breaks it)
BUILT: dict[str, Callable[..., tuple[str, str]]] = {
    "keywords:existence": lambda keywords: (f"{ENGLISH} {' '.join(keywords).upper()}", "0 1 2"),
    "keywords:frequency": lambda keyword, relation, frequency: times(relation, frequency, f"{keyword} 0 "),
    "keywords:forbidden_words": lambda forbidden_words: (
        "0 " + "x".join(forbidden_words) + "x",
        f"0 {forbidden_words[-1].upper()}, 1",
    ),
    "keywords:letter_frequency": lambda letter, let_relation, let_frequency: times(
        let_relation, let_frequency, f"{letter.upper()} 0 "
    ),
    "language:response_language": lambda language: (SAID[language], SAID["en" if language != "en" else "de"]),
    "length_constraints:number_sentences": lambda relation, num_sentences: times(
        relation, num_sentences, "Dr. Ay ate. "
    ),
    "length_constraints:number_paragraphs": lambda num_paragraphs: (
        "\n***\n".join(["one"] * num_paragraphs),
        "\n***\n".join(["one"] * (num_paragraphs + 1)),
    ),
    "length_constraints:number_words": lambda relation, num_words: times(relation, num_words, "word, "),
    "length_constraints:nth_paragraph_first_word": lambda num_paragraphs, nth_paragraph, first_word: (
        "\n\n".join(f"{first_word.upper() if i == nth_paragraph else 'some'}, x" for i in range(1, num_paragraphs + 1)),
        "\n\n".join(f"{first_word}, x" for _ in range(num_paragraphs + 1)),
    ),
    "detectable_content:number_placeholders": lambda num_placeholders: times("at least", num_placeholders, "[name] "),
    "detectable_content:postscript": lambda postscript_marker: (f"Bye.\n{postscript_marker} One more", "Bye."),
    "detectable_format:number_bullet_lists": lambda num_bullets: (
        "* one\n" * (num_bullets - 1) + "- two",
        "* one\n" * (num_bullets + 1),
    ),
    "detectable_format:constrained_response": lambda: ("Well. My answer is maybe.", "Maybe."),
    "detectable_format:number_highlighted_sections": lambda num_highlights: times(
        "at least", num_highlights, "*this* and ** ** "
    ),
    "detectable_format:multiple_sections": lambda section_spliter, num_sections: (
        "\n".join(f"{section_spliter} {i}\ntext" for i in range(1, num_sections + 1)),
        "\n".join(f"{section_spliter} {i}\ntext" for i in range(1, num_sections)),
    ),
    "detectable_format:json_format": lambda: ('```json\n{"a": [1]}\n```', '{"a": [1}'),
    "detectable_format:title": lambda: ("<<A title>>\ntext", "<< >>\n<a title>"),
    "combination:two_responses": lambda: ("one\n******\ntwo", "one\n******\none"),
    "combination:repeat_prompt": lambda prompt_to_repeat: (f"{prompt_to_repeat}\nWell", f"Well: {prompt_to_repeat}"),
    "startend:end_checker": lambda end_phrase: (f'Well. {end_phrase.upper()}" ', f"{end_phrase} Well"),
    "startend:quotation": lambda: (' "Well" ', '"Well"!'),
    "change_case:capital_word_frequency": lambda capital_relation, capital_frequency: times(
        capital_relation, capital_frequency, "WELL-KNOWN but "
    ),
    "change_case:english_capital": lambda: (ENGLISH.upper(), ENGLISH.capitalize()),
    "change_case:english_lowercase": lambda: (ENGLISH, ENGLISH.capitalize()),
    "punctuation:no_comma": lambda: (ENGLISH, f"{ENGLISH}, then"),
}
OWN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "keywords:existence": {"keywords": ["mother", "C++"]},
    "keywords:frequency": {"keyword": "mother", "relation": "at least", "frequency": 3},
    "keywords:forbidden_words": {"forbidden_words": ["mother", "c++"]},
    "keywords:letter_frequency": {"letter": "q", "let_relation": "less than", "let_frequency": 3},
    "language:response_language": {"language": "pt"},
    "length_constraints:number_sentences": {"relation": "less than", "num_sentences": 4},
    "length_constraints:number_paragraphs": {"num_paragraphs": 3},
    "length_constraints:number_words": {"relation": "at least", "num_words": 5},
    "length_constraints:nth_paragraph_first_word": {"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "elm"},
    "detectable_content:number_placeholders": {"num_placeholders": 2},
    "detectable_content:postscript": {"postscript_marker": "P.P.S"},
    "detectable_format:number_bullet_lists": {"num_bullets": 3},
    "detectable_format:number_highlighted_sections": {"num_highlights": 2},
    "detectable_format:multiple_sections": {"section_spliter": "SECTION", "num_sections": 2},
    "combination:repeat_prompt": {"prompt_to_repeat": "Say (well) + [this]."},
    "startend:end_checker": {"end_phrase": "Peace!"},
    "change_case:capital_word_frequency": {"capital_relation": "less than", "capital_frequency": 3},
}


def asked(name: str, arguments: dict[str, Any] | None = None) -> Prompt:
    return Prompt("1", "?", row={"instruction_id_list": [name], "kwargs": [arguments or OWN_ARGUMENTS.get(name, {})]})


@pytest.fixture(scope="module")
def rows(shared: Path | None) -> list[dict[str, Any]]:
    """The 541 real rows, or one of each constraint."""
    if shared:
        return [json.loads(line) for line in (shared / "data/probes/ifeval.jsonl").read_text("utf-8").splitlines()]
    return [asked(name).row or {} for name in CONSTRAINTS]


def test_there_are_25_and_each_has_its_texts() -> None:
    assert len(CONSTRAINTS) == 25
    assert set(BUILT) == set(CONSTRAINTS)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_is_met_by_a_text_built_for_it_and_not_by_one_built_against_it(name: str) -> None:
    meets, breaks = BUILT[name](**OWN_ARGUMENTS.get(name, {}))

    for rule in (ifeval, ifeval_loose):
        assert rule(meets, asked(name)).correct is True, meets
    assert ifeval(breaks, asked(name)).correct is False, breaks
    assert ifeval(breaks, asked(name)).reason == f"not met: {name}"


def test_every_constraint_and_argument_of_the_real_prompts(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for name, arguments in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            meets, breaks = BUILT[name](**arguments)
            one = {"instruction_id_list": [name], "kwargs": [arguments]}
            assert unmet(meets, one) == ([], []), (name, arguments, meets)
            assert unmet(breaks, one) == ([name], []), (name, arguments, breaks)


def test_every_constraint_counts_and_an_empty_text_meets_none(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        names = row["instruction_id_list"]
        for rule in (ifeval, ifeval_loose):
            assert rule(" \n", Prompt("1", "?", row=row)).correct is False
        assert unmet("", row) == (names, [])


def test_the_hub_s_rows_name_every_argument_and_leave_the_others_null() -> None:
    null = dict.fromkeys(("keywords", "relation", "num_words", "language", "letter"))
    prompt = asked("length_constraints:number_words", null | {"relation": "at least", "num_words": 3})

    assert ifeval("one two three", prompt).correct is True
    assert ifeval("one two", prompt).correct is False


def test_loose_forgives_the_first_line_the_last_line_and_asterisks() -> None:
    no_comma = asked("punctuation:no_comma")
    starts = asked("combination:repeat_prompt", {"prompt_to_repeat": "Say it"})

    for text in ("Sure, here it is:\none two", "one two\nAs you see, it is done.", "Sure, here:\none\nSo, done."):
        assert ifeval(text, no_comma).correct is False
        assert ifeval_loose(text, no_comma).correct is True
    assert ifeval("**Say it** well", starts).correct is False
    assert ifeval_loose("**Say it** well", starts).correct is True
    assert ifeval_loose("Sure, here:\none, two\nSo, done.", no_comma).correct is False


def test_a_cut_text_and_a_prompt_without_its_row_could_not_be_judged() -> None:
    assert ifeval("one two", asked("punctuation:no_comma"), complete=False).correct is None
    assert ifeval("one two", Prompt("1", "?", gold="one")).correct is None


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("style:rhyme", {"n": 1}, "style:rhyme"),
        ("length_constraints:number_words", {"relation": "about", "num_words": 3}, "'at least' or 'less than'"),
        ("length_constraints:number_words", {"words": 3}, "TypeError"),
    ],
)
def test_a_constraint_that_cannot_be_checked_is_named(name: str, arguments: dict[str, Any], reason: str) -> None:
    row = {"instruction_id_list": [name, "punctuation:no_comma"], "kwargs": [arguments, {}]}

    verdict = ifeval("one two", Prompt("1", "?", row=row))

    assert verdict.correct is None and reason in verdict.reason
    assert ifeval("one, two", Prompt("1", "?", row=row)).correct is False, "another constraint is broken all the same"


def test_without_py3langid_a_language_could_not_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid", None)  # as where it is not installed

    verdict = ifeval(SAID["pt"], asked("language:response_language"))

    assert verdict.correct is None and "pip install 'divmon[verify]'" in verdict.reason
    assert ifeval(ENGLISH.capitalize(), asked("change_case:english_lowercase")).correct is False


@pytest.mark.parametrize("language", SAID)
def test_languages_are_told_apart_in_any_case(language: str) -> None:
    assert language_of(SAID[language]) == language_of(SAID[language].upper()) == language


def test_numbers_alone_are_in_no_language() -> None:
    assert language_of("12, 13!") is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One. Two! Three?", 3),
        ("One... Two?! Three", 3),
        ("Dr. Ay met Mrs. Bee, i.e. the U.S. envoy, at 3.30 p.m. today.", 1),
        ('He said "No." Then he left.', 2),
        ("1. Mix.\n2. Bake.\n3. Eat.", 3),
        ("It costs 3.50 today. J. R. Lee paid.", 2),
        ("no end\nstill none", 1),
        ("他走了。她笑了。", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert len(sentences(text)) == count, sentences(text)


@pytest.mark.parametrize(
    ("name", "arguments", "text", "met"),
    [
        ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", True),
        ("keywords:existence", {"keywords": ["a.b"]}, "axb", False),
        ("keywords:existence", {"keywords": ["("]}, "a (b", True),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n** b **\n- c", True),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "**a** and *b*", True),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "* a\n* b", False),
        ("detectable_format:json_format", {}, "Here: {}", False),
        ("detectable_format:json_format", {}, '"text"', True),
        ("combination:two_responses", {}, "one\n******\ntwo\n******\nthree", False),
        ("combination:two_responses", {}, "******\none\n******\ntwo\n******", True),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\none\n***\ntwo\n***", True),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\n\n***\ntwo", False),
        ("startend:quotation", {}, '"', False),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "p. s. more", True),
        ("change_case:english_capital", {}, "12 34", False),
    ],
)
def test_what_the_publisher_s_checks_decide(name: str, arguments: dict[str, Any], text: str, met: bool) -> None:
    assert ifeval(text, asked(name, arguments or {"x": None})).correct is met
