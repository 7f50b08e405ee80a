"""Figures of decisions and recommendations (plotly).

Public: the functions listed below, each of which returns a ``plotly`` figure. Nothing is computed
here but layouts: what a figure shows was recorded or is computed by the room it belongs to.
"""

from metahpo.plots.plots import plot_hopeless, plot_metafeatures, plot_provenance, plot_task_map

__all__ = ["plot_hopeless", "plot_metafeatures", "plot_provenance", "plot_task_map"]
