"""Guide the search: which configuration to try next, and why.

``policy.suggest`` is the one entry; it returns a ``Decision``, of which a host stores a
``DecisionRecord``. Below it: the history as the study sees it (``history``), the ``portfolio``,
the ``acquisition`` function, what is ``hopeless`` and points ``spread`` over the space. ``plugin``
is what both plug-ins call. Stateless, apart from caches keyed by their inputs. Not for users, who
reach it through their framework.
"""
