"""LLM calls through a content-addressed cache: keys, policy, cached clients, adapters.  Floor: inference.

Nothing is imported here: a program loads only what it uses.
"""
