"""What a representation says of a data set, kept: the hinge between learning and judging."""
