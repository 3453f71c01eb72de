"""Entries: records, segments, the journal and the index.  Floor: catalog."""
