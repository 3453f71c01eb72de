"""The command line.  Floor: cli.

Arguments, output and exit codes; what a command does is done below, in `casstore.repo` and `casstore.config`.
Only this floor uses click and rich.
"""

from casstore.cli.root import main

__all__ = ["main"]
