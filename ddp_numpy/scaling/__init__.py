"""The scaling lab: measures how training scales with the number of ranks."""
