"""Figures of decisions and recommendations (plotly, the extra ``plots``).

Public: the functions below; each returns a ``plotly`` figure. A figure shows what was recorded or
what the folder of its subject computes; nothing is computed here but layouts. A new figure goes
into the file of its subject, and its look comes from ``figure_style``.
"""

from metahpo.plots.decision_figures import plot_decision
from metahpo.plots.hopeless_figure import plot_hopeless
from metahpo.plots.recommendation_figures import plot_metafeatures, plot_provenance
from metahpo.plots.task_map import plot_task_map

__all__ = [
    "plot_decision",
    "plot_hopeless",
    "plot_metafeatures",
    "plot_provenance",
    "plot_task_map",
]
