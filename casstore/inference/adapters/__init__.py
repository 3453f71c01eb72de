"""Thin clients over the official SDKs, one module a provider.  Floor: inference.

An SDK is imported by its adapter alone, and only when it is first called: a run of hits loads none of them
and needs no credentials.
"""
