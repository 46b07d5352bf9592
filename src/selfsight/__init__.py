"""selfsight: learn visual representations without labels, measure them, explain them, and put them to use."""

__version__ = "0.1.0"
