"""The commands, a module each.  Floor: cli."""
