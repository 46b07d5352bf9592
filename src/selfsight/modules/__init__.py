"""Modules that methods are made of; those with upkeep do it themselves."""
