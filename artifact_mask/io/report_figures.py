"""The figures of a report: Bokeh's own description of them, without data, which the page's scripts fill in.

No text from outside is in them: axes, titles and legends may hold formulas, for which Bokeh would ask the network.
"""

from typing import Any

from bokeh.embed import json_item
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Range1d,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

_WELL_COLUMNS = ("x", "y", "colour", "well", "text", "ink", "mark", "value", "layout", "outcome")


def describe_figures() -> dict[str, Any]:
    """Describe the figures by the element that each is put into."""
    return {name: json_item(plot) for name, plot in (("map", _map()), ("histogram", _histogram()), ("dose", _dose()))}


def _map() -> figure:
    """Plate map: wells that were imaged, gaps where none was, marks of controls, and where the keyboard is."""
    wells = ColumnDataSource(
        {name: [] for name in _WELL_COLUMNS},
        name="wells",
    )
    gaps, unknown, cursor = (ColumnDataSource({"x": [], "y": []}, name=name) for name in ("gaps", "unknown", "cursor"))
    plot = figure(
        name="map",
        x_range=Range1d(0.5, 12.5),
        y_range=Range1d(8.5, 0.5),
        frame_width=480,
        frame_height=320,
        x_axis_location="above",
        toolbar_location=None,
        tools=[],
        min_border=0,
    )
    plot.rect("x", "y", 0.92, 0.92, source=gaps, fill_color=None, line_color="#8886", line_dash="dotted")
    drawn = plot.rect(
        "x",
        "y",
        0.94,
        0.94,
        source=wells,
        name="drawn",
        fill_color="colour",
        line_color=None,
    )
    # Apart from the others: a pattern for each well would take most of the time that the page needs to open.
    plot.rect(
        "x",
        "y",
        0.94,
        0.94,
        source=unknown,
        name="hatched",
        fill_color=None,
        line_color=None,
        hatch_pattern="right_diagonal_line",
        hatch_scale=6,
    )
    for name in ("text", "mark"):
        plot.text(
            "x",
            "y",
            name,
            source=wells,
            name=f"{name}s",
            text_color="ink",
            text_align="center",
            text_baseline="middle",
            text_font_style="bold" if name == "mark" else "normal",
        )
    plot.rect("x", "y", 1, 1, source=cursor, name="cursor-frame", fill_color=None, line_width=3)
    hover = HoverTool(
        renderers=[drawn],
        tooltips=[("well", "@well"), ("value", "@value"), ("layout", "@layout"), ("fields", "@outcome")],
    )
    plot.add_tools(hover)
    colours = LinearColorMapper(palette=Viridis256, low=0, high=1, name="colours")
    plot.add_layout(
        ColorBar(color_mapper=colours, name="bar", width=14, padding=6, background_fill_color=None), "right"
    )
    plot.xaxis.ticker, plot.yaxis.ticker = FixedTicker(ticks=[]), FixedTicker(ticks=[])
    return _plain(plot, grid=False)


def _histogram() -> figure:
    bars = ColumnDataSource({name: [] for name in ("left", "right", "used", "top", "range", "said")}, name="bars")
    plot = _chart("histogram", 260)
    plot.quad(left="left", right="right", bottom="used", top="top", source=bars, name="rejected", line_color=None)
    plot.quad(left="left", right="right", bottom=0, top="used", source=bars, name="used", line_color=None)
    plot.add_tools(HoverTool(tooltips=[("from", "@range"), ("fields", "@said")]))
    plot.yaxis.axis_label = "fields"
    return _plain(plot, grid=True)


def _dose() -> figure:
    """Draw wells as points, and the means over wells of one concentration joined by a line for each compound."""
    points = ColumnDataSource({name: [] for name in ("x", "y", "colour", "well", "dose", "series")}, name="points")
    means = ColumnDataSource({name: [] for name in ("x", "y", "colour", "n", "dose", "series")}, name="means")
    lines = ColumnDataSource({name: [] for name in ("xs", "ys", "colour")}, name="lines")
    plot = _chart("dose", 320)
    plot.multi_line("xs", "ys", source=lines, line_color="colour", line_width=2)
    of_wells = plot.scatter("x", "y", source=points, size=5, color="colour", alpha=0.45)
    of_means = plot.scatter("x", "y", source=means, size=9, color="colour", line_color=None)
    seen = [("", "@series"), ("concentration", "@dose"), ("value", "@y{0.[0000]}")]
    plot.add_tools(
        HoverTool(renderers=[of_wells], tooltips=[("well", "@well"), *seen]),
        HoverTool(renderers=[of_means], tooltips=[("mean of wells", "@n"), *seen]),
    )
    plot.xaxis.ticker = FixedTicker(ticks=[])
    return _plain(plot, grid=True)


def _chart(name: str, height: int) -> figure:
    return figure(
        name=name,
        x_range=Range1d(0, 1),
        y_range=Range1d(0, 1),
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools=[],
    )


def _plain(plot: figure, *, grid: bool) -> figure:
    """Leave colours to the page, which knows whether it is light or dark."""
    plot.background_fill_color = plot.border_fill_color = None
    plot.outline_line_color = None
    plot.axis.axis_line_color = plot.axis.minor_tick_line_color = None
    plot.axis.major_tick_line_color = None
    plot.axis.axis_label_text_font_style = "normal"
    plot.xgrid.grid_line_color = None
    if not grid:
        plot.ygrid.grid_line_color = None
        plot.axis.axis_line_color = None
    return plot
