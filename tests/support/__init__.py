"""What several test files define alike: tasks, folders, trainables, interrupted trainings."""
