"""What is stored, for the person in front of it: explained, searched, shown, written out.  Floor: inference.

Nothing here is on the way of a call. Modules are imported by name.
"""
