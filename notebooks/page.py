"""How the notebooks show charts and pictures.

Charts are SVG that Vega-Lite draws when a cell runs, as in the reports, within `<img>`: what is SVG
itself JupyterLab strips from notebooks that were run elsewhere, on a server or in CI. TFMA's own
widgets do not show in JupyterLab 4 and TFDV's need the network; these show everywhere, in print
too.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from IPython.display import HTML

from tfx_captioner.components.evaluation_report import charts

# The colours of the reports in their light form, and a gray that is read on a dark page too: a
# picture knows nothing of the page's.
_COLOURS = "--model:#2f6fdb;--reference:#d9822b;--third:#6b9c3a;color:#7a7a7a"
_WIDTH = 46  # rem
# Letters may be wider than where a chart is laid out, and a picture cuts off what sticks out.
_PADDING = {"left": 50, "right": 30, "top": 5, "bottom": 5}


def chart(spec: Mapping[str, Any], width: int = _WIDTH) -> HTML:
    """A Vega-Lite chart.

    Args:
      spec: Without size and style where those of the reports are right.
      width: The most it takes, rem.
    """
    drawn = charts.svg({"padding": _PADDING, **spec})
    drawn = drawn.replace("<svg", f'<svg style="{_COLOURS}"', 1)
    data = base64.b64encode(drawn.encode()).decode()
    return HTML(
        f'<img src="data:image/svg+xml;base64,{data}" style="width:100%;max-width:{width}rem">'
    )


def series(field: str, names: list[str]) -> dict[str, Any]:
    """The colour of each of some names, as a Vega-Lite encoding."""
    return charts.colour(field, names) if len(names) <= len(charts.COLOURS) else {"field": field}
