"""Ratios against named references, measured in the same run: `make bench`, or `python -m tests.benchmarks --help`.

One module a topic; its `rows(full)` measures and yields the rows of the table. A number without its reference measured
beside it says more about the machine than about the program, so none is kept.
"""
