"""Losses and related quantities as pure functions; state such as queues and momentum copies is in ``modules``."""
