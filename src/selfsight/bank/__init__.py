"""Banks: cached features of a representation on a data set."""
