"""The command line as ``python -m casstore.cli``, for where the script is not on the path.  Floor: cli."""

from casstore.cli.root import main

main()
