"""Readers of the journal that show a run to people."""
