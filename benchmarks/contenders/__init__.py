"""The contenders of the reading benchmark: one file per group of peers, one class per contender."""
