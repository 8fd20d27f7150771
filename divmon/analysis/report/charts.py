"""The charts, as Vega-Lite specifications, the same for the page and for PNG files.

A specification holds words in braces, {metric} and the like, which `filled` puts in; its data are the rows of one task
and metric. Colors are those of Okabe and Ito, and runs differ by dash and shape too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from divmon.analysis.report.chart_rows import CHANCE, DIFFERENT, Row
from divmon.analysis.report.wording import TERM_WORDS
from divmon.loggers.decomposition_chart import COLOURS
from divmon.types import TERMS

Spec = dict[str, Any]

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#888888")
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond")
HEIGHT = 300
"""Pixels; the width is the page's."""
NOTHING: Spec = {"mark": {"type": "rule", "opacity": 0.6, "color": "{ink}"}, "encoding": {"y": {"datum": 0}}}
"""The line where nothing changed, or where two do not differ."""


def specs(groups: Sequence[str]) -> dict[str, Spec]:
    """The specifications by name; `chart_rows.rows` gives their rows by the same names."""
    return {
        "curve": _lines("{metric}: {unit}", groups, zero=False),
        "change": _lines("change of {metric} since the reference", groups, zero=True),
        "difference": _points(),
        "parts": _stacked(),
        "frontier": _path(groups),
        "stages": _kept(groups),
    }


def filled(spec: Spec, rows: Sequence[Row], **words: Any) -> Spec:
    """A specification with its words and its data. What is no text takes the place of the quotes too."""
    text = json.dumps(spec)
    for name, word in words.items():
        whole = json.dumps(word)
        text = text.replace(f'"{{{name}}}"', whole).replace(f"{{{name}}}", whole.strip('"'))
    return {**json.loads(text), "data": {"values": list(rows)}}


def _chart(*layers: Spec) -> Spec:
    return {"width": "container", "height": HEIGHT, "layer": list(layers)}


def _layer(mark: str, style: Spec, **encoding: Any) -> Spec:
    return {"mark": {"type": mark, **style}, "encoding": encoding}


def _number(field: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", **more}


def _tips(*numbers: str, form: str = ".3f") -> list[Spec]:
    return [_number(name, format=form) for name in numbers]


def _scales(groups: Sequence[str]) -> tuple[Spec, Spec, Spec]:
    """Color, dash and shape of each group, the same in every chart."""
    legend = {"orient": "top", "symbolOpacity": 1, "symbolSize": 110, "labelLimit": 0}
    named = {"field": "group", "type": "nominal", "title": None, "legend": legend}
    color, dash, shape = (
        {**named, "scale": {"domain": list(groups), "range": [values[i % len(values)] for i in range(len(groups))]}}
        for values in (OKABE_ITO, DASHES, SHAPES)
    )
    return color, dash, shape


def _lines(title: str, groups: Sequence[str], zero: bool) -> Spec:
    """Lines with bands over training; where `zero`, with a line where nothing changed."""
    color, dash, shape = _scales(groups)
    axis = {"grid": False, "tickCount": 8, "tickMinStep": 1, "format": "~s"}
    x = _number("{axis}", title="{axis_title}", scale={"nice": False, "padding": 10}, axis=axis)
    y = _number("value", title=title, scale={"zero": True})
    tips = [*({"field": name, "type": "nominal"} for name in ("run", "{axis}")), *_tips("value", "low", "high")]
    tips += [{"field": "n", "title": "n prompts"}, *([] if zero else [{"field": "alert"}, {"field": "trouble"}])]
    own = {"color": color, "detail": {"field": "run", "type": "nominal"}}
    width = {"condition": {"test": "datum.thin", "value": 1}, "value": 2.5}
    said = {"condition": {"test": "datum.said", "field": "said"}, "value": ""}
    layers = [
        _layer("area", {"opacity": 0.2}, x=x, y={**y, "field": "low"}, y2={"field": "high"}, **own),
        _layer("line", {"clip": True}, x=x, y=y, strokeDash=dash, strokeWidth=width, **own),
        _layer("point", {"filled": True, "size": 55, "opacity": 1}, x=x, y=y, color=color, shape=shape, tooltip=tips),
        _layer("text", {"dx": 9, "align": "left", "baseline": "middle"}, x=x, y=y, color=color, text=said),
    ]
    if zero:
        return _chart(NOTHING, *layers)
    warned = {"condition": {"test": "datum.alert", "value": "▼ alert"}, "value": ""}
    style = {"dy": -12, "fontWeight": "bold", "align": "left"}
    return _chart(*layers, _layer("text", style, x=x, y=y, tooltip=tips, text=warned))


def _points() -> Spec:
    """A pair's difference at each place, with its interval; filled where it is more than chance over the curve."""
    axis = {"grid": False, "format": "{format}", "tickCount": 6}
    x = _number("at", title="{by_title}", scale={"zero": False, "nice": False, "padding": 12}, axis=axis)
    y = _number("difference", title="difference of {metric}")
    tips = [{"field": "pair", "title": "difference"}, {"field": "at", "title": "{by}"}]
    tips += [*_tips("difference", "low", "high", "p"), {"field": "n", "title": "n prompts"}]
    tips += [{"field": "told"}, {"field": "trouble"}]
    color: Spec = {"field": "pair", "type": "nominal", "title": None, "legend": {"orient": "top"}}
    color["scale"] = {"range": list(OKABE_ITO[3:] + OKABE_ITO[:3])}
    shape: Spec = {"field": "told", "type": "nominal", "title": None, "legend": None}
    shape["scale"] = {"domain": [DIFFERENT, CHANCE], "range": ["circle", "cross"]}
    rule = _layer("rule", {"strokeWidth": 2}, x=x, y={**y, "field": "low"}, y2={"field": "high"}, color=color)
    style = {"filled": True, "size": 90, "opacity": 1}
    return _chart(NOTHING, rule, _layer("point", style, x=x, y=y, color=color, shape=shape, tooltip=tips))


def _stacked() -> Spec:
    """One run's change at each step, its parts stacked around zero, the whole change as a line."""
    order = list(TERMS)
    x: Spec = {"field": "step", "type": "ordinal", "title": "training step", "axis": {"labelAngle": 0}}
    y = _number("value", title="change of {metric} since the reference")
    tips = [{"field": "words", "title": "part"}, {"field": "step"}, *_tips("value", "low", "high")]
    tips += [{"field": "n", "title": "n prompts"}]
    color: Spec = {"field": "words", "type": "nominal", "title": None}
    color["scale"] = {"domain": [TERM_WORDS[t] for t in order], "range": [COLOURS[t] for t in order]}
    stacked = {**y, "stack": "zero", "scale": {"domain": "{domain}"}}
    parts = _layer("bar", {"width": {"band": 0.7}}, x=x, y=stacked, color=color, tooltip=tips, order={"field": "order"})
    parts["transform"] = [
        {"filter": {"field": "part", "oneOf": order}},
        {"calculate": f"({json.dumps(TERM_WORDS)})[datum.part]", "as": "words"},
        {"calculate": f"indexof({json.dumps(order)}, datum.part)", "as": "order"},
    ]
    whole: Spec = {
        "transform": [{"filter": "datum.part === 'change'"}, {"calculate": "'the whole change'", "as": "words"}],
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "color": "{ink}"}},
            _layer("point", {"filled": True, "size": 60, "color": "{ink}"}, tooltip=tips),
        ],
    }
    return _chart(NOTHING, parts, whole)


def _path(groups: Sequence[str]) -> Spec:
    """Each run's way through accuracy and diversity, from its first step to its last."""
    color, dash, shape = _scales(groups)
    axis, scale = {"format": ".0%", "grid": False, "tickCount": 8}, {"zero": False, "nice": False, "padding": 20}
    x, y = _number("accuracy", title="accuracy", scale=scale, axis=axis), _number("value", title="{metric}: {unit}")
    same: Spec = {"color": color, "detail": {"field": "run"}}
    tips = [{"field": "run"}, {"field": "step"}, *_tips("accuracy", form=".1%"), *_tips("value", "low", "high")]
    tips += [{"field": "best", "title": "no other point has more of both"}]
    across = {"x": {**x, "field": "accuracy_low"}, "x2": {"field": "accuracy_high"}, "y": y}
    size = {"condition": {"test": "datum.best", "value": 140}, "value": 50}
    return _chart(
        _layer("rule", {"opacity": 0.4}, x=x, y={**y, "field": "low"}, y2={"field": "high"}, **same),
        _layer("rule", {"opacity": 0.4}, **across, **same),
        _layer("line", {"strokeWidth": 2}, x=x, y=y, order={"field": "step"}, strokeDash=dash, **same),
        _layer("point", {"filled": True, "opacity": 1}, x=x, y=y, shape=shape, size=size, tooltip=tips, **same),
        _layer("text", {"align": "left", "dx": 8, "dy": -8}, x=x, y=y, text={"field": "label"}, **same),
    )


def _kept(groups: Sequence[str]) -> Spec:
    """What each stage of each lineage leaves of the base's diversity."""
    color, dash, shape = _scales(groups)
    x = {"field": "stage", "type": "ordinal", "title": "after stage", "sort": "{order}", "axis": {"labelAngle": 0}}
    y = _number("kept_percent", title="{metric}, percent of the base")
    tips = [{"field": name} for name in ("lineage", "stage", "step")]
    tips += _tips("kept_percent", "kept_low", "kept_high", form=".1f")
    same: Spec = {"x": x, "color": color, "detail": {"field": "lineage"}}
    ends = {"y": {**y, "field": "kept_low"}, "y2": {"field": "kept_high"}}
    return _chart(
        _layer("rule", {"strokeWidth": 2, "opacity": 0.5}, **same, **ends),
        _layer("line", {"strokeWidth": 2.5}, **same, y=y, strokeDash=dash, order={"field": "step"}),
        _layer("point", {"filled": True, "size": 90, "opacity": 1}, **same, y=y, shape=shape, tooltip=tips),
    )
