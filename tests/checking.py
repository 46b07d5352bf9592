"""The type checker of the tests: a whole number may stand where a floating-point one is asked for (PEP 484's numeric tower)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
