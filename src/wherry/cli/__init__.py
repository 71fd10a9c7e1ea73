"""The `wherry` command. Nothing is loaded before the command that needs it."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with one of the exit codes of `wherry.cli.ending`."""
    from wherry.cli.app import start

    start()
