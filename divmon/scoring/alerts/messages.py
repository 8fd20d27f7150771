"""An alert in three lines: what happened and by how much; what to read; and the evidence, for the report."""

from __future__ import annotations

from collections.abc import Sequence

from divmon.scoring.alerts.hypotheses import Figures, Finding
from divmon.types import TERMS, TRUNCATED_LIMIT

TITLES = {
    "narrowing": "NARROWING",
    "narrowing_correct": "NARROWING AMONG CORRECT ANSWERS",
    "templating": "TEMPLATING",
    "repetition": "DEGENERATION, repetition",
    "length": "DEGENERATION, length",
    "truncation": "TRUNCATION",
    "saturation": "SATURATION",
    "sampler": "SUSPICIOUS SAMPLER",
}

_RISEN = {
    "repetition": "of a text that repeats itself",
    "length": "of completions empty or at the token limit",
    "truncation": "of completions without an answer",
}

_LOOK_AT = {
    "narrowing": "the completions{most} beside those of the reference",
    "narrowing_correct": "the correct completions{most} beside those of the reference",
    "templating": "one answer to each of several prompts side by side{most}",
    "repetition": "the completions{most}: do they loop?",
    "length": "how the completions{most} end: is the end of text still trained, is max_new_tokens enough?",
    "saturation": "the correct completions{most} beside those of earlier evaluations; training on narrows them and"
    " helps no more: stop, or take an earlier checkpoint (divmon select)",
    "truncation": "how the completions{most} end; until they have answers nothing is comparable",
}


def evidence(
    kind: str, before: Figures, now: Figures, found: Finding, prompts: Sequence[str], against: str, threshold: float
) -> str:
    """What follows the kind, the task and the steps: what happened, what to read, why it is no chance, a line each."""
    if found.looks:
        against = f"over the last {found.looks} evaluations"
    what = f"{_change(kind, before, now, found)} {against}"
    if (gain := found.gain) is not None:
        what += f"; accuracy moved by {100 * gain.value:+.1f} points [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
    parts = [f"n {found.n}, t {found.t:.1f} > {threshold:.1f}"]
    parts += _decomposition(before, now) if kind.startswith("narrowing") else []
    parts += _lengths(before, now) if kind in ("repetition", "length") else []
    no_answer = now.scores.get("no_answer")
    if no_answer is not None and no_answer.mean > TRUNCATED_LIMIT and kind != "truncation":
        what += f"; {100 * no_answer.mean:.0f} % of completions have no answer, so that it may be no more than that"
    most = f" of prompt{'' if len(prompts) == 1 else 's'} {', '.join(prompts)}" if prompts else ""
    return f"{what}\nRead {_read(kind, before, now).format(most=most)}\nEvidence: {'; '.join(parts)}"


def title(kind: str, before: Figures, now: Figures) -> str:
    """What the alert is called: by where the change lies, where correctness tells."""
    return "CHANGE AMONG WRONG ANSWERS" if _is_among_wrong(kind, before, now) else TITLES[kind]


def _is_among_wrong(kind: str, before: Figures, now: Figures) -> bool:
    """Whether nine tenths of what was lost at equal accuracy, or more, were lost in pairs with a wrong answer."""
    parts = now.decomposition.get(before.tested or "", {}) if kind == "narrowing" else {}
    lost = {term: -min(parts.get(term) or 0.0, 0.0) for term in TERMS if term.startswith("narrowing")}
    return sum(lost.values()) > 0 and lost["narrowing_correct"] <= 0.1 * sum(lost.values())


def _read(kind: str, before: Figures, now: Figures) -> str:
    """What to read; to raise a limit is advised only where one was reached, and where no loop would fill it."""
    at_limit, repeated = now.scores.get("clipped_ratio"), now.scores.get("repetition")
    if _is_among_wrong(kind, before, now):
        return "the wrong completions{most} beside those of the reference: fewer errors of a kind, or fewer kinds?"
    no_answer = now.scores.get("no_answer")
    if kind == "truncation" and repeated and no_answer and repeated.mean >= no_answer.mean / 2:
        return f"{_LOOK_AT[kind]}; {100 * repeated.mean:.0f} % of all text repeats itself, and a loop fills any limit"
    if kind == "truncation" and at_limit is not None and at_limit.mean > 0:
        return f"{_LOOK_AT[kind]}; raise max_new_tokens (max_reasoning_tokens where they end inside their reasoning)"
    return _LOOK_AT[kind]


def _change(kind: str, before: Figures, now: Figures, found: Finding) -> str:
    then, change = found.reference, found.change
    if kind in _RISEN:
        points = f"{100 * change.value:+.0f} points [{100 * change.low:.0f}, {100 * change.high:.0f}]"
        return f"{100 * (then + change.value):.0f} % {_RISEN[kind]} ({points})"
    what = "the share of answers nearest to their own prompt's"
    if kind != "templating":
        assert before.tested_figure is not None
        what = before.tested_figure
        if kind == "saturation":
            what += " of pairs of correct answers"
        elif kind == "narrowing_correct":
            what += " of pairs of correct answers, at their share,"
        elif "accuracy" in now.scores:
            what += " minus what better answers take away"
    lost = f"{-change.value:.3f} [{-change.high:.3f}, {-change.low:.3f}]"
    return f"{what} fell by {lost} of {then:.3f} ({-100 * change.value / then:.0f} %)"


def _decomposition(before: Figures, now: Figures) -> list[str]:
    parts = now.decomposition.get(before.tested or "", {})
    if parts.get("change") is None:
        return []
    labels = {f"narrowing_{stratum}": f" ({label})" for stratum, label in parts.get("labels", {}).items()}
    terms = [
        f"{parts[term]:+.3f} {title}{labels.get(term, '')}"
        for term, title in TERMS.items()
        if parts.get(term) is not None
    ]
    said = [f"decomposition: {parts['change']:+.3f} = {', '.join(terms)}"]
    if "accuracy" in before.scores and "accuracy" in now.scores:
        said.append(f"accuracy {before.scores['accuracy'].mean:.2f} to {now.scores['accuracy'].mean:.2f}")
    return said


def _lengths(before: Figures, now: Figures) -> list[str]:
    for name, unit in (("length_tokens", "tokens"), ("length_words", "words")):
        if name in before.scores and name in now.scores:
            return [f"mean length {before.scores[name].mean:.0f} to {now.scores[name].mean:.0f} {unit}"]
    return []
