"""Shared parts of tests: tasks, folders, trainables, interrupted trainings."""
