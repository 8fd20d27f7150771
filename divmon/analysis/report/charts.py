"""The charts, as Vega-Lite specifications, the same for the page and for PNG files.

A specification holds words in braces, {metric} and the like, which `filled` puts in; its data are the rows of one task
and metric. Colours are those of Okabe and Ito, and runs differ by dash and shape too.
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


def _scales(groups: Sequence[str]) -> dict[str, Any]:
    """Colour, dash and shape of each group, the same in every chart."""

    def each(values: Sequence[Any]) -> dict[str, Any]:
        return {"domain": list(groups), "range": [values[i % len(values)] for i in range(len(groups))]}

    legend = {"orient": "top", "symbolOpacity": 1, "symbolSize": 110, "labelLimit": 0}
    named = {"field": "group", "type": "nominal", "title": None, "legend": legend}
    return {
        "color": {**named, "scale": each(OKABE_ITO)},
        "strokeDash": {**named, "scale": each(DASHES)},
        "shape": {**named, "scale": each(SHAPES)},
    }


def _lines(title: str, groups: Sequence[str], zero: bool) -> Spec:
    """Lines with bands over training; where `zero`, with a line where nothing changed."""
    scales = _scales(groups)
    x: Spec = {
        "field": "{axis}",
        "type": "quantitative",
        "title": "{axis_title}",
        "scale": {"nice": False, "padding": 10},
    }
    x["axis"] = {"grid": False, "tickCount": 8, "tickMinStep": 1, "format": "~s"}
    y: Spec = {"field": "value", "type": "quantitative", "title": title, "scale": {"zero": True}}
    tips = [{"field": name, "type": "nominal"} for name in ("run", "{axis}")]
    tips += [{"field": name, "type": "quantitative", "format": ".3f"} for name in ("value", "low", "high")]
    tips += [{"field": "n", "title": "n prompts"}, *([] if zero else [{"field": "alert"}, {"field": "trouble"}])]
    detail = {"field": "run", "type": "nominal"}
    band: Spec = {
        "mark": {"type": "area", "opacity": 0.2},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": scales["color"]},
    }
    band["encoding"]["detail"] = detail
    line = {
        "mark": {"type": "line", "clip": True},
        "encoding": {
            "x": x,
            "y": y,
            "color": scales["color"],
            "strokeDash": scales["strokeDash"],
            "detail": detail,
            "strokeWidth": {"condition": {"test": "datum.thin", "value": 1}, "value": 2.5},
        },
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
        "encoding": {"x": x, "y": y, "color": scales["color"], "shape": scales["shape"], "tooltip": tips},
    }
    said = {"condition": {"test": "datum.said", "field": "said"}, "value": ""}
    alone = {
        "mark": {"type": "text", "dx": 9, "align": "left", "baseline": "middle"},
        "encoding": {"x": x, "y": y, "color": scales["color"], "text": said},
    }
    layers: list[Spec] = [band, line, points, alone]
    if zero:
        layers.insert(0, _nothing())
    else:
        warned = {"condition": {"test": "datum.alert", "value": "▼ alert"}, "value": ""}
        layers.append(
            {
                "mark": {"type": "text", "dy": -12, "fontWeight": "bold", "align": "left"},
                "encoding": {"x": x, "y": y, "tooltip": tips, "text": warned},
            }
        )
    return {"width": "container", "height": HEIGHT, "layer": layers}


def _points() -> Spec:
    """A pair's difference at each place, with its interval; filled where it is more than chance over the curve."""
    x: Spec = {
        "field": "at",
        "type": "quantitative",
        "title": "{by_title}",
        "scale": {"zero": False, "nice": False, "padding": 12},
    }
    x["axis"] = {"grid": False, "format": "{format}", "tickCount": 6}
    y: Spec = {"field": "difference", "type": "quantitative", "title": "difference of {metric}"}
    tips = [{"field": "pair", "title": "difference"}, {"field": "at", "title": "{by}"}]
    tips += [{"field": f, "type": "quantitative", "format": ".3f"} for f in ("difference", "low", "high", "p")]
    tips += [{"field": "n", "title": "n prompts"}, {"field": "told"}, {"field": "trouble"}]
    color: Spec = {
        "field": "pair",
        "type": "nominal",
        "title": None,
        "scale": {"range": list(OKABE_ITO[3:] + OKABE_ITO[:3])},
    }
    color["legend"] = {"orient": "top"}
    shape: Spec = {
        "field": "told",
        "type": "nominal",
        "title": None,
        "scale": {"domain": [DIFFERENT, CHANCE], "range": ["circle", "cross"]},
    }
    shape["legend"] = None
    rule: Spec = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "color": color},
    }
    rule["encoding"]["y2"] = {"field": "high"}
    point: Spec = {"mark": {"type": "point", "filled": True, "size": 90, "opacity": 1}, "encoding": {"x": x, "y": y}}
    point["encoding"] |= {"color": color, "shape": shape, "tooltip": tips}
    return {"width": "container", "height": HEIGHT, "layer": [_nothing(), rule, point]}


def _stacked() -> Spec:
    """One run's change at each step, its parts stacked around zero, the whole change as a line."""
    order = list(TERMS)
    x: Spec = {"field": "step", "type": "ordinal", "title": "training step", "axis": {"labelAngle": 0}}
    y: Spec = {"field": "value", "type": "quantitative", "title": "change of {metric} since the reference"}
    tips = [{"field": "words", "title": "part"}, {"field": "step"}]
    tips += [{"field": f, "type": "quantitative", "format": ".3f"} for f in ("value", "low", "high")]
    tips += [{"field": "n", "title": "n prompts"}]
    color: Spec = {"field": "words", "type": "nominal", "title": None}
    color["scale"] = {"domain": [TERM_WORDS[t] for t in order], "range": [COLOURS[t] for t in order]}
    names = json.dumps(TERM_WORDS)
    parts: Spec = {
        "transform": [
            {"filter": {"field": "part", "oneOf": order}},
            {"calculate": f"({names})[datum.part]", "as": "words"},
            {"calculate": f"indexof({json.dumps(order)}, datum.part)", "as": "order"},
        ],
        "mark": {"type": "bar", "width": {"band": 0.7}},
        "encoding": {
            "x": x,
            "y": {**y, "stack": "zero", "scale": {"domain": "{domain}"}},
            "color": color,
            "tooltip": tips,
        },
    }
    parts["encoding"]["order"] = {"field": "order"}
    whole = {
        "transform": [{"filter": "datum.part === 'change'"}, {"calculate": "'the whole change'", "as": "words"}],
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "color": "{ink}"}},
            {"mark": {"type": "point", "filled": True, "size": 60, "color": "{ink}"}, "encoding": {"tooltip": tips}},
        ],
    }
    return {"width": "container", "height": HEIGHT, "layer": [_nothing(), parts, whole]}


def _path(groups: Sequence[str]) -> Spec:
    """Each run's way through accuracy and diversity, from its first step to its last."""
    scales = _scales(groups)
    x: Spec = {
        "field": "accuracy",
        "type": "quantitative",
        "title": "accuracy",
    }
    x |= {"scale": {"zero": False, "nice": False, "padding": 20}}
    x["axis"] = {"format": ".0%", "grid": False, "tickCount": 8}
    y: Spec = {"field": "value", "type": "quantitative", "title": "{metric}: {unit}"}
    same: Spec = {"color": scales["color"], "detail": {"field": "run"}}
    tips: list[Spec] = [
        {"field": "run"},
        {"field": "step"},
        {"field": "accuracy", "type": "quantitative", "format": ".1%"},
    ]
    tips += [{"field": f, "type": "quantitative", "format": ".3f"} for f in ("value", "low", "high")]
    tips += [{"field": "best", "title": "no other point has more of both"}]
    faint: Spec = {"type": "rule", "opacity": 0.4}
    return {
        "width": "container",
        "height": HEIGHT,
        "layer": [
            {"mark": faint, "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, **same}},
            {
                "mark": faint,
                "encoding": {"x": {**x, "field": "accuracy_low"}, "x2": {"field": "accuracy_high"}, "y": y, **same},
            },
            {
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"x": x, "y": y, "order": {"field": "step"}, "strokeDash": scales["strokeDash"], **same},
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "shape": scales["shape"],
                    "size": {"condition": {"test": "datum.best", "value": 140}, "value": 50},
                    "tooltip": tips,
                    **same,
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 8, "dy": -8},
                "encoding": {"x": x, "y": y, "text": {"field": "label"}, **same},
            },
        ],
    }


def _kept(groups: Sequence[str]) -> Spec:
    """What each stage of each lineage leaves of the base's diversity."""
    scales = _scales(groups)
    x: Spec = {"field": "stage", "type": "ordinal", "title": "after stage", "sort": "{order}"}
    x["axis"] = {"labelAngle": 0}
    y: Spec = {"field": "kept_percent", "type": "quantitative", "title": "{metric}, percent of the base"}
    tips = [{"field": name} for name in ("lineage", "stage", "step")]
    tips += [{"field": f, "type": "quantitative", "format": ".1f"} for f in ("kept_percent", "kept_low", "kept_high")]
    same: Spec = {"x": x, "color": scales["color"], "detail": {"field": "lineage"}}
    ends = {"y": {**y, "field": "kept_low"}, "y2": {"field": "kept_high"}}
    dash, shape = scales["strokeDash"], scales["shape"]
    layers: list[Spec] = [
        {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5}, "encoding": {**same, **ends}},
        {
            "mark": {"type": "line", "strokeWidth": 2.5},
            "encoding": {**same, "y": y, "strokeDash": dash, "order": {"field": "step"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {**same, "y": y, "shape": shape, "tooltip": tips},
        },
    ]
    return {"width": "container", "height": HEIGHT, "layer": layers}


def _nothing() -> Spec:
    """The line where nothing changed, or where two do not differ."""
    return {"mark": {"type": "rule", "opacity": 0.6, "color": "{ink}"}, "encoding": {"y": {"datum": 0}}}
