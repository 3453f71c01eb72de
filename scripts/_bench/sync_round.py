"""One round: every subject does every operation, one subject at a time, on one server of the round's own."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts._bench.peers import (
    CASSTORE,
    COLD_PULL,
    COLD_PUSH,
    NEW_PULL,
    NEW_PUSH,
    OPERATIONS,
    PLAIN,
    PUSHES,
    Peer,
    Place,
)
from scripts._bench.processes import Cost, ProgramError, measure
from scripts._bench.results import say
from scripts._bench.sources import NEW, Disk, Sources, disk
from tests.seaweed import Seaweed, Traffic, running_seaweed


@dataclass(frozen=True, slots=True)
class Result:
    """What one operation took one subject in one round.

    Attributes:
        peer: The subject's name.
        operation: What it did.
        cost: What its process cost.
        traffic: What the server saw of it.
        bucket: Bytes in the bucket after a push; 0 for a pull.
        disk: What the target takes after a pull; None for a push.
        reported: Requests by its own count, where it gives one.
    """

    peer: str
    operation: str
    cost: Cost
    traffic: Traffic
    bucket: int = 0
    disk: Disk | None = None
    reported: Mapping[str, int] = field(default_factory=dict)


class Round:
    """One round of a comparison.

    Attributes:
        failures: Who could not go on, and what it said.

    Args:
        number: Its number, from 0.
        subjects: Who takes part; casstore among them.
        sources: What they push.
        folder: An empty folder.
        server: The server.
    """

    def __init__(
        self, number: int, subjects: Sequence[Peer], sources: Sources, folder: Path, server: Seaweed
    ) -> None:
        self._number = number
        self._subjects = list(subjects)
        self._sources = sources
        self._server = server
        self._chance = random.Random(number)
        self._moved = 0
        self.failures: dict[str, str] = {}
        self._places = {
            peer.name: self._place(peer, folder / str(index)) for index, peer in enumerate(subjects)
        }

    def run(self) -> list[Result]:
        """Do every operation, and return what each took."""
        results: list[Result] = []
        for operation in OPERATIONS:
            if operation == NEW_PUSH:
                self._sources.add(self._number, self._places[CASSTORE].source)
            for peer in self._order(operation):
                results += self._try(peer, operation)
            say(f"round {self._number + 1}: {operation} done")
        self._sources.take_away(self._number)
        return results

    def _order(self, operation: str) -> list[Peer]:
        """Return who does an operation, by chance; but `PLAIN` moves what casstore turned out to move."""
        able = [
            peer for peer in self._subjects if operation in peer.operations and peer.name not in self.failures
        ]
        self._chance.shuffle(able)
        return sorted(able, key=lambda peer: operation == COLD_PUSH and peer.name in PLAIN)

    def _place(self, peer: Peer, folder: Path) -> Place:
        folder.mkdir(parents=True)
        source = self._sources.files
        if peer.name == CASSTORE:
            source = folder / "source"
            self._sources.copy_store(source)
        bucket = self._server.new_bucket()
        place = Place(folder, source, folder / "target", bucket, self._server.environment)
        for command in peer.prepare(place):
            measure(command, peer.environment(place), folder)
        return place

    def _try(self, peer: Peer, operation: str) -> list[Result]:
        """Return a result; none where a peer fails, which ends its part and nobody else's."""
        try:
            return [self._measure(peer, operation)]
        except ProgramError as error:
            if peer.name == CASSTORE:
                raise
            self.failures[peer.name] = f"{operation}: {error}"
            return []

    def _measure(self, peer: Peer, operation: str) -> Result:
        place = self._places[peer.name]
        if peer.name in PLAIN:
            place = Place(
                place.folder, place.source, place.target, place.bucket, place.environment, self._moved
            )
        before = self._server.traffic(place.bucket)
        os.sync()  # nobody pays for what another has written
        cost = measure(peer.command(operation, place), peer.environment(place), place.folder)
        traffic = self._server.traffic(place.bucket).since(before)
        pushed = operation in PUSHES
        bucket = sum(self._server.sizes(place.bucket).values()) if pushed else 0
        if (peer.name, operation) == (CASSTORE, COLD_PUSH):
            self._moved = bucket
        target = None if pushed else disk(place.target)
        reported = _reported(cost) if peer.name == CASSTORE else {}
        result = Result(peer.name, operation, cost, traffic, bucket, target, reported)
        self._check(peer, result)
        return result

    def _check(self, peer: Peer, result: Result) -> None:
        """See that a pull brought what it was to bring: who leaves half behind is fast."""
        wanted = {COLD_PULL: self._sources.entries, NEW_PULL: NEW}.get(result.operation)
        if wanted is None or result.disk is None or peer.name in PLAIN:
            return
        found = result.disk.files
        if peer.name == CASSTORE:
            found = int(json.loads(result.cost.output)["entries"])
        elif result.operation == NEW_PULL:
            found -= self._sources.entries
        if found != wanted:
            raise ProgramError(f"{peer.name}: a {result.operation} brought {found:,} of {wanted:,}")


def run_round(
    number: int, subjects: Sequence[Peer], sources: Sources, folder: Path
) -> tuple[list[Result], Mapping[str, str]]:
    """Run a round on a fresh server; return the results, and what those said who failed."""
    with running_seaweed() as server:
        this = Round(number, subjects, sources, folder, server)
        return this.run(), this.failures


def _reported(cost: Cost) -> Mapping[str, int]:
    requests: Mapping[str, int] = json.loads(cost.output)["requests"]
    return {verb: count for verb, count in sorted(requests.items()) if count}
