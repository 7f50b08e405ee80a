"""How much of a source is read.

A history is somebody else's data: a file of a few kilobytes may unfold to gigabytes, and a table
may never end. The limits are far beyond what tuning leaves behind; a warning or an error says
what they left out.
"""

from __future__ import annotations

# ---- any source ----------------------------------------------------------------------------

# Bytes of one file: ten million trials in a database have about that.
LARGEST_FILE = 4 * 2**30
# Bytes of the files of one folder that are read together, and of one of them.
LARGEST_FOLDER, LARGEST_PART = 2**31, 2**28
# Entries of a folder, and files of an archive.
MOST_ENTRIES = 100_000
# Rows of values, reports and parameters together: about 2 GB in memory.
MOST_ROWS = 10_000_000
# Seconds of reading one source: a million trials take a quarter of a minute.
LONGEST_READ = 120.0
# Characters of a single text: a categorical hyperparameter with 10,000 choices has a tenth.
LONGEST_TEXT = 2_000_000
# Levels of nested lists and mappings, and of conditions on conditions. Python's own functions fail
# from a few hundred on.
DEEPEST = 32
# Hyperparameters of one space: the time of a suggestion grows with them.
MOST_HYPERPARAMETERS = 2_000

# ---- archives ------------------------------------------------------------------------------
#
# What a file claims is compared with these before anything of that size is made, and
# ``Archive.add`` refuses what could not be read again. Within them, one file takes about 1 GB for
# a moment at worst, and usually a few hundred kilobytes.

MEBIBYTE = 2**20

# Of one file, as it is stored: a thousand trials take about 100 kB.
FILE_BYTES = 64 * MEBIBYTE
# Of one file, decompressed: 100,000 trials of 600 bytes. JSON grows fifteenfold in memory.
DECOMPRESSED_BYTES = 64 * MEBIBYTE
# Of the part of a file that describes the task and the columns, which Arrow reads as a whole:
# 10,000 choices take 0.6 MiB. Arrow's objects are some 150 times larger than their encoded form.
FOOTER_BYTES = 4 * MEBIBYTE
# Of one task. A study of its own is bounded long before.
TRIALS = 100_000
# Of one column, which are the points of all learning curves: 64 MiB hold four million.
VALUES = 5_000_000
# Of one file: Arrow writes one per MiB and column.
PAGES = 10_000
# Characters of one configuration as JSON: ten thousand hyperparameters.
CONFIGURATION_CHARACTERS = MEBIBYTE
# Of one task.
METAFEATURES = 10_000
# Characters of the name of a task, a hyperparameter or a meta-feature.
NAME_CHARACTERS = 10_000
# Of one archive, all tasks together: they take some 4 GB in memory.
ARCHIVED_TRIALS = 1_000_000
# Times that a task is looked for again because another process replaced its file just before it
# was read. Each time is independent of the others and succeeds more often than not.
ROUNDS = 20
# Seconds after which a writer's unfinished file is left over from one that was killed: a day is
# longer than any upload, and than clocks differ.
LEFT_OVER = 86_400.0
