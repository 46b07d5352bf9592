"""Tests of golden values; a package, so that file names can occur elsewhere too."""

from golden.golden import check

__all__ = ["check"]
