"""Charts of a report as SVG: no script, no network, and the colours of the page around them.

Vega-Lite draws them once, when the report is made. Colours are CSS variables of the page, so that
one picture is right in light and in dark.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import vl_convert

from tfx_captioner.metrics import scripts

# Defined by the page around the charts.
COLOURS = ("var(--model)", "var(--reference)", "var(--third)")
_WIDTH = 330  # pixels; what a phone shows without shrinking the letters
_SHOWN_WORDS = 16

_CONFIG: dict[str, Any] = {
    "background": None,
    "view": {"stroke": None},
    "font": "system-ui, sans-serif",
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "titleFontWeight": "normal",
        "gridColor": "currentColor",
        "gridOpacity": 0.12,
        "domainColor": "currentColor",
        "tickColor": "currentColor",
        "labelFontSize": 11,
        "titleFontSize": 12,
    },
    "legend": {
        "labelColor": "currentColor",
        "labelFontSize": 12,
        "title": None,
        "orient": "top",
    },
    "header": {"labelColor": "currentColor", "titleColor": "currentColor"},
}


def learning_curves(history: Sequence[Mapping[str, float]], best_epoch: int) -> str:
    """Training and validation loss by epoch.

    Args:
      history: Per epoch `epoch`, `val_loss`, and `loss` unless it was trained by rewards.
      best_epoch: The epoch whose weights were kept.
    """
    rows = [
        {"epoch": entry["epoch"], "loss": entry[key], "split": split}
        for entry in history
        for key, split in (("val_loss", "validation"), ("loss", "training"))
        if key in entry
    ]
    lines = {
        "data": {"values": rows},
        "mark": {"type": "line", "point": len(history) < 30},
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative", "axis": {"tickMinStep": 1}},
            "y": {
                "field": "loss",
                "type": "quantitative",
                "title": "nats per token",
                "scale": {"zero": False},
            },
            "color": colour("split", ["validation", "training"]),
        },
    }
    kept = {
        "data": {"values": [{"epoch": best_epoch}]},
        "mark": {"type": "rule", "strokeDash": [3, 3], "color": "currentColor", "opacity": 0.6},
        "encoding": {"x": {"field": "epoch", "type": "quantitative"}},
    }
    return svg({"height": 190, "layer": [lines, kept]})


def caption_lengths(lengths: Mapping[str, Iterable[int]]) -> str:
    """Share of captions by number of words.

    Args:
      lengths: Whose captions to the number of words of each.
    """
    rows = []
    for name, values in lengths.items():
        counts = collections.Counter(values)
        rows += [
            {"words": words, "share": count / sum(counts.values()), "of": name}
            for words, count in sorted(counts.items())
        ]
    return svg(
        {
            "height": 170,
            "data": {"values": rows},
            "mark": {"type": "line", "interpolate": "monotone", "point": True},
            "encoding": {
                "x": {"field": "words", "type": "quantitative", "title": "words of a caption"},
                "y": {
                    "field": "share",
                    "type": "quantitative",
                    "title": "share of captions",
                    "axis": {"format": ".0%", "tickCount": 5},
                },
                "color": colour("of", list(lengths)),
            },
        }
    )


def word_use(captions: Iterable[str], references: Iterable[str]) -> str:
    """The words that a model uses most too often and most too rarely.

    Args:
      captions: The model's.
      references: Reference captions.
    """
    model, people = _document_shares(captions), _document_shares(references)
    words = sorted(
        {*model, *people},
        key=lambda word: (-abs(model.get(word, 0.0) - people.get(word, 0.0)), word),
    )[:_SHOWN_WORDS]
    rows = [
        {"word": word, "share": shares.get(word, 0.0), "of": name}
        for word in words
        for name, shares in (("model", model), ("people", people))
    ]
    return svg(
        {
            "height": {"step": 9},
            "data": {"values": rows},
            "mark": "bar",
            "encoding": {
                "y": {"field": "word", "type": "nominal", "sort": words, "title": None},
                "yOffset": {"field": "of", "sort": ["model", "people"]},
                "x": {
                    "field": "share",
                    "type": "quantitative",
                    "title": "share of captions with the word",
                    "axis": {"format": ".0%", "tickCount": 5},
                },
                "color": colour("of", ["model", "people"]),
            },
        }
    )


def words_of(caption: str) -> list[str]:
    """Words of a caption in lower case, without punctuation, in any language."""
    return scripts.split_words(caption).split()


def _document_shares(captions: Iterable[str]) -> dict[str, float]:
    """Word to the share of captions it occurs in."""
    documents = [set(words_of(caption)) for caption in captions]
    counts = collections.Counter(word for words in documents for word in words)
    return {word: count / len(documents) for word, count in counts.items()}


def colour(field: str, domain: Sequence[str]) -> dict[str, Any]:
    """One of `COLOURS` for each value of a field, as a Vega-Lite encoding."""
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(domain), "range": list(COLOURS[: len(domain)])},
    }


def svg(spec: Mapping[str, Any]) -> str:
    """Draws a chart in the style of the reports.

    Args:
      spec: Vega-Lite, without size and style where the usual ones are right.
    """
    drawn = vl_convert.vegalite_to_svg(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "width": _WIDTH,
            "config": _CONFIG,
            **spec,
        }
    )
    # Without a size of its own it takes that of the page; `viewBox` keeps the proportions.
    return re.sub(r'(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r"\1", drawn, count=1)
