"""IFEval's 25 constraints (Zhou et al. 2023), each a function of the text and the arguments its row gives.

They decide as the publisher's checks do, but for what those get wrong: keywords are taken as they stand, not as regular
expressions, and a text in no language at all is in no language. Sentences are told by a rule and languages by
py3langid, with nothing to download.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from divmon.types import TRUNCATED, Prompt, Verdict

_LANGUAGES = frozenset(
    [
        *("ar", "bg", "bn", "de", "en", "es", "fa", "fi", "fr", "gu", "he", "hi", "it", "ja", "kn", "ko", "ml", "mr"),
        *("ne", "pa", "pl", "pt", "ru", "sw", "ta", "te", "th", "uk", "ur", "vi", "zh"),
    ]
)
"""Those IFEval asks for: fewer to choose from makes the choice surer."""
_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f\u0964]+[\"'”’)\]]*(?=\s+[^\sa-z]|\s*$)|[\u3002\uff01\uff1f]")
_ABBREVIATION = re.compile(
    r"(?i)(?:\b(?:mr|mrs|ms|dr|prof|st|sr|jr|vs|etc|inc|ltd|co|e\.g|i\.e|cf|fig|no|vol|approx|dept|gen|rev|hon|p\.s)"
    r"|\b[a-z]|^\s*\d+|\n\s*\d+)\.$"
)


def _holds(count: int, relation: str, limit: int) -> bool:
    if relation not in ("at least", "less than"):
        raise ValueError(f"expected the relation 'at least' or 'less than', came {relation!r}")
    return count >= limit if relation == "at least" else count < limit


def _count(text: str, word: str) -> int:
    return len(re.findall(re.escape(word), text, re.IGNORECASE))


# keywords


def existence(text: str, keywords: Sequence[str]) -> bool:
    return all(_count(text, word) for word in keywords)


def frequency(text: str, keyword: str, relation: str, frequency: int) -> bool:
    return _holds(_count(text, keyword), relation, frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(text: str, letter: str, let_relation: str, let_frequency: int) -> bool:
    return _holds(text.lower().count(letter.lower()), let_relation, let_frequency)


# language


def response_language(text: str, language: str) -> bool:
    return language_of(text) == language.split("-")[0]


def language_of(text: str) -> str | None:
    """Code of the language, of those IFEval asks for; None for a text without a letter. Raises ImportError: py3langid
    is not installed."""
    if not re.search(r"[^\W\d_]", text):
        return None
    import py3langid

    # In lower case: words in capitals look like another language to it.
    ranked = py3langid.rank(text.lower())
    return next(code for code, _ in ranked if code in _LANGUAGES)


# length


def number_sentences(text: str, relation: str, num_sentences: int) -> bool:
    return _holds(len(sentences(text)), relation, num_sentences)


def sentences(text: str) -> list[str]:
    """Sentences end at `.`, `!` or `?` before white space and no small letter, but for abbreviations and list numbers.

    >>> sentences("Dr. Ay met Mr. Bee. Did they talk? They did!")
    ['Dr. Ay met Mr. Bee.', 'Did they talk?', 'They did!']
    """
    found, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text[start : match.end()]) or not text[match.end() :].strip():
            found.append(text[start : match.end()].strip())
            start = match.end()
    return [sentence for sentence in [*found, text[start:].strip()] if sentence]


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    inner = parts[1:-1]
    return all(part.strip() for part in inner) and sum(bool(part.strip()) for part in parts) == num_paragraphs


def number_words(text: str, relation: str, num_words: int) -> bool:
    return _holds(len(re.findall(r"\w+", text)), relation, num_words)


def nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    if len(paragraphs) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    first = paragraphs[nth_paragraph - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", first)[0].lower() == first_word.lower()


# content and format


def number_placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(known.get(postscript_marker, re.escape(postscript_marker.lower())), text.lower()))


def number_bullet_lists(text: str, num_bullets: int) -> bool:
    return len(re.findall(r"^\s*(?:\*[^*]|-).*$", text, re.MULTILINE)) == num_bullets


def constrained_response(text: str) -> bool:
    return any(answer in text for answer in ("My answer is yes.", "My answer is no.", "My answer is maybe."))


def number_highlighted_sections(text: str, num_highlights: int) -> bool:
    marked = re.findall(r"\*[^\n*]*\*", text) + re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(section.strip("*").strip()) for section in marked) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", text)) >= num_sections


def json_format(text: str) -> bool:
    text = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def title(text: str) -> bool:
    return any(found.strip("<>").strip() for found in re.findall(r"<<[^\n]+>>", text))


# combination, start and end, case, punctuation


def two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    answers = [part for part in parts if part]
    return all(parts[1:-1]) and len(answers) == 2 and answers[0] != answers[1]


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def capital_word_frequency(text: str, capital_relation: str, capital_frequency: int) -> bool:
    words = re.findall(r"[^\W_]+(?:[-.'’&][^\W_]+)*", text)
    return _holds(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    return text.isupper() and language_of(text) == "en"


def english_lowercase(text: str) -> bool:
    return text.islower() and language_of(text) == "en"


def no_comma(text: str) -> bool:
    return "," not in text


_GROUPS: dict[str, tuple[Callable[..., bool], ...]] = {
    "keywords": (existence, frequency, forbidden_words, letter_frequency),
    "language": (response_language,),
    "length_constraints": (number_sentences, number_paragraphs, number_words, nth_paragraph_first_word),
    "detectable_content": (number_placeholders, postscript),
    "detectable_format": (
        number_bullet_lists, constrained_response, number_highlighted_sections, multiple_sections, json_format, title,
    ),
    "combination": (two_responses, repeat_prompt),
    "startend": (end_checker, quotation),
    "change_case": (capital_word_frequency, english_capital, english_lowercase),
    "punctuation": (no_comma,),
}  # fmt: skip
CONSTRAINTS = {f"{group}:{check.__name__}": check for group, checks in _GROUPS.items() for check in checks}
"""The publisher's ids, "keywords:existence", and their checks."""


def verdict(text: str, prompt: Prompt, complete: bool, loose: bool = False) -> Verdict:
    """Correct where every constraint of the prompt's row is met; they are on the whole text, so that a truncated one is
    ungradable."""
    if not prompt.row or not prompt.row.get("instruction_id_list"):
        return Verdict(None, "no row with 'instruction_id_list' and 'kwargs'")
    if not complete:
        return Verdict(None, TRUNCATED)
    broken, unknown = unmet(text, prompt.row, loose)
    if broken:
        return Verdict(False, f"not met: {', '.join(broken)}")
    return Verdict(None, f"not checked: {', '.join(unknown)}") if unknown else Verdict(True, "every constraint is met")


def unmet(text: str, row: dict[str, Any], loose: bool = False) -> tuple[list[str], list[str]]:
    """The constraints of a row that a text does not meet, and those that could not be checked, each with its reason.

    A constraint whose arguments the row lacks, or has for another one, could not be checked.

    Args:
        loose: a constraint counts as met where it is without the first line, the last line, or the asterisks, in any
            combination (the publisher's loose accuracy).

    Raises:
        KeyError: the row lacks "instruction_id_list".
    """
    broken, unknown = [], []
    texts = [variant for variant in (_variants(text) if loose else [text]) if variant.strip()]
    names = _plain(row["instruction_id_list"])
    names = names if isinstance(names, list | tuple) else [names]
    arguments = _plain(row.get("kwargs") or [])
    arguments = list(arguments) if isinstance(arguments, list | tuple) else [arguments]
    for name, own in itertools.zip_longest(names, arguments[: len(names)]):
        try:
            # The hub fills the arguments of other constraints with null.
            given = {key: value for key, value in (_plain(own) or {}).items() if value is not None}
            if not any(CONSTRAINTS[name](variant, **given) for variant in texts):
                broken.append(name)
        except ImportError:
            unknown.append(f"{name} (telling languages needs py3langid: pip install 'divmon[verify]')")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            unknown.append(f"{name} ({type(error).__name__}: {error})")
    return broken, unknown


def _plain(value: Any) -> Any:
    """A field that a file may hold as the text of JSON; as it is where it is none."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _variants(text: str) -> list[str]:
    lines = text.split("\n")
    cut = [text] + ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    return cut + [variant.replace("*", "") for variant in cut]
