"""How the notebooks show charts and pictures.

Charts are SVG that Vega-Lite draws when a cell runs, as in the reports. TFMA's own widgets do not
show in JupyterLab 4 and TFDV's need the network; these show everywhere, in print too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.display import HTML

from components.caption_evaluator import charts

# The colours of the reports in their light form; both are readable on a dark page.
_COLOURS = "--model:#2f6fdb;--reference:#d9822b;--third:#6b9c3a"
_WIDTH = 46  # rem


def chart(spec: Mapping[str, Any], width: int = _WIDTH) -> HTML:
    """A Vega-Lite chart.

    Args:
      spec: Without size and style where those of the reports are right.
      width: The most it takes, rem.
    """
    # Letters may be wider here than where the chart was laid out: what sticks out must show.
    drawn = charts.svg(spec).replace("<svg", '<svg style="overflow:visible"', 1)
    return HTML(f'<div style="{_COLOURS};max-width:{width}rem;padding:0 2.5rem">{drawn}</div>')


def series(field: str, names: list[str]) -> dict[str, Any]:
    """The colour of each of some names, as a Vega-Lite encoding."""
    return charts.colour(field, names) if len(names) <= len(charts.COLOURS) else {"field": field}
