"""The contenders of the reading benchmark: one file a peer group, one class a contender."""
