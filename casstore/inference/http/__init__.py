"""A cache under the SDKs: exchanges with providers of models over HTTP, given again.  Floor: inference.

Nothing is imported here. `designs/http.md` names the parts; those that say "pure" know no I/O and no HTTP
library.
"""
