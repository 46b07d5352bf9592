"""Tests of golden values; a package, so that its files may have the names of others."""

from golden.golden import check

__all__ = ["check"]
