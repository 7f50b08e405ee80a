"""How much of an archive is read, and how much one file may hold.

A file of a few kilobytes can claim billions of values. What it claims is compared with these
limits before anything of that size is made, and ``Archive.add`` refuses what could not be read
again. Within them, one file takes about 1 GB for a moment at worst, and usually a few hundred
kilobytes.
"""

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
# Of one task. The costs of a suggestion grow with it.
HYPERPARAMETERS = 1_000
METAFEATURES = 10_000
# Characters of the name of a task, a hyperparameter or a meta-feature.
NAME_CHARACTERS = 10_000
# Conditions on conditions. Levels of lists within a choice: metahpo.tasks.distributions.
DEPTH_OF_CONDITIONS = 32
# Of one archive, all tasks together: they take some 4 GB in memory.
ARCHIVED_TRIALS = 1_000_000
ARCHIVED_FILES = 100_000
# Times that a task is looked for again because another process replaced its file just before it
# was read. Each time is independent of the others and succeeds more often than not.
ROUNDS = 20
# Seconds after which a writer's unfinished file is left over from one that was killed: a day is
# longer than any upload, and than clocks differ.
LEFT_OVER = 86_400.0
