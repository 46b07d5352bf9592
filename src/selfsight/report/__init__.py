"""Telling what was found: tables, figures, one page."""
