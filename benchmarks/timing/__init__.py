"""Time and memory: ``python -m benchmarks.timing WHAT``.

One module for each group of measurements; ``studies`` and ``histories`` make what is measured,
``benchmarks.processes`` starts processes and reads their memory. A new measurement is a module
with ``add_arguments(parser)`` and ``run(options)``, and a line of ``COMMANDS`` in ``__main__``.
"""
