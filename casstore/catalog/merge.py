"""The union of records: which claim on a key stands.  Floor: catalog.  Pure.

Claims on one key are totally ordered, and the best one stands; so merging any number of segments in any
order, any of them twice, gives the same entries. `casstore.catalog.statements` says the same order in SQL.
"""

from __future__ import annotations

from collections.abc import Iterable

from casstore.catalog.records import Claim, Entry, dump_labels
from casstore.digest import Key


def rank(claim: Claim) -> tuple[int, bool, int, str, bytes, str]:
    """Return what claims on one key are compared by; the smallest stands.

    The higher generation; then a tombstone before an entry; then the earlier creation; then the smaller
    object digest. What follows settles claims that differ in nothing else: labels, then refs.
    """
    if isinstance(claim, Entry):
        refs = "".join(claim.refs)
        return -claim.generation, True, claim.created, claim.object, dump_labels(claim.labels), refs
    return -claim.generation, False, claim.created, "", b"", ""


def merge(claims: Iterable[Claim]) -> dict[Key, Claim]:
    """Return the claim that stands for each key."""
    standing: dict[Key, Claim] = {}
    for claim in claims:
        other = standing.get(claim.key)
        if other is None or rank(claim) < rank(other):
            standing[claim.key] = claim
    return standing
