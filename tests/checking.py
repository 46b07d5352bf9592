"""The type checker of the tests: integers are accepted as floats (the numeric tower of PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
