"""Guide the search: which configuration to try next, and why.

``policy.suggest`` is the one entry; it returns a ``Decision``. Below it: the history as the study
sees it, the portfolio and the acquisition function. ``plugin`` is what both plug-ins call. Nothing
here keeps state between calls but caches under the data they were made from. Not for users, who
reach it through their framework.
"""
