"""Objects: their paths, their compression, their storing and reading.  Floor: store."""
