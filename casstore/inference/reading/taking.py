"""Exchanges and entries from files, taken into a store.  Floor: inference.

What comes from a recording passes the HTTP core: its `material` decides what may have a key, its `judge` what
may be stored; so nothing gets in that a call would not have stored, and no header or query that may hold a
credential. What comes from ``casstore export`` is proved by its digests.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Any, BinaryIO, Final, Protocol

from casstore.catalog.records import Entry
from casstore.digest import Key
from casstore.errors import ConfigError, FormatError, IntegrityError, NotFoundError
from casstore.inference.http.core import HttpCache
from casstore.inference.http.exchange import HttpReply, media_type
from casstore.inference.http.framing import framing_for
from casstore.inference.http.judge import Verdict, judge, judge_stream
from casstore.inference.http.material import Passed, Subject
from casstore.inference.http.stored import encode, labels_for
from casstore.inference.http.streams import StreamWatch
from casstore.inference.reading.cassettes import LARGEST, Recorded, exchange_of, read_cassette
from casstore.inference.reading.lines import from_line
from casstore.inference.types import Response

LONGEST: Final = 256 * 1024 * 1024
"""Bytes of a line that is read: an answer and its images."""

_FIRST: Final = 4096
"""Bytes at the beginning of a file that tell what it is."""


class Target(Protocol):
    """What is used of a repository."""

    def entry(self, key: Key) -> Entry:
        """Return an entry; raise NotFoundError where there is none."""

    def put_entry(
        self,
        key: Key,
        content: bytes,
        *,
        labels: Mapping[str, Any] | None = None,
        refs: Sequence[bytes] = (),
        created: int | None = None,
    ) -> Entry:
        """Store an answer, first given when `created` says, unless there is one."""


@dataclass(slots=True)
class Taken:
    """What became of the contents of files.

    Attributes:
        imported: Entries that are new.
        present: Entries that were here already, or stood twice in the files: the first one holds.
        unproven: Those among `imported` whose request was not there, so that their key is taken on trust.
        skipped: What was not taken, as a call would not have stored it: by reason, how often.
        details: To each reason of `skipped`, what was wrong with the first one.
        failures: What could not be read, or is not what its digests say: where, and why.
    """

    imported: int = 0
    present: int = 0
    unproven: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, reason: str, detail: str) -> None:
        """Count what was not taken."""
        self.skipped[reason] += 1
        self.details.setdefault(reason, detail)

    def put(self, target: Target, key: Key, content: bytes, **more: Any) -> bool:
        """Store an entry, unless there is one; tell whether it is new.

        Args:
            target: Where to.
            key: Its key.
            content: Its answer.
            more: What else `Target.put_entry` takes.
        """
        try:
            target.entry(key)
        except NotFoundError:
            target.put_entry(key, content, **more)
            self.imported += 1
            return True
        self.present += 1
        return False


def take_file(http: HttpCache, target: Target, name: str, file: BinaryIO, taken: Taken) -> None:
    """Take in what ``casstore export`` wrote, or a cassette of vcrpy.

    Args:
        http: The rules for what comes from a cassette: streams are taken where they record streams.
        target: Where to.
        name: What to call the file where something is wrong.
        file: Its bytes.
        taken: Where to count, and to say what could not be read.
    """
    first = file.readline(LONGEST + 1)
    if _is_line(first):
        _take_lines(target, name, chain([first], iter(lambda: file.readline(LONGEST + 1), b"")), taken)
        return
    try:
        interactions = read_cassette(first + file.read(LARGEST + 1 - min(len(first), LARGEST)))
    except (FormatError, ConfigError) as error:
        taken.failures.append((name, str(error)))
        return
    for number, interaction in enumerate(interactions, 1):
        try:
            take_exchange(http, target, exchange_of(interaction), taken)
        except FormatError as error:
            taken.failures.append((f"{name}: interaction {number}", str(error)))


def _is_line(first: bytes) -> bool:
    """Tell whether a file's first line is one that ``casstore export`` wrote."""
    begin = first[:_FIRST]
    return begin.lstrip().startswith(b"{") and b'"casstore"' in begin and b'"interactions"' not in begin


def _take_lines(target: Target, name: str, lines: Iterator[bytes], taken: Taken) -> None:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = from_line(_loaded(line))
            more = {"labels": entry.labels, "refs": entry.refs, "created": entry.created}
            new = taken.put(target, entry.key, entry.content, **more)
            taken.unproven += new and not entry.proven
        except (ConfigError, FormatError, IntegrityError) as error:
            taken.failures.append((f"{name}: line {number}", str(error)))


def _loaded(line: bytes) -> Any:
    if len(line) > LONGEST:
        raise FormatError(f"a line longer than {LONGEST:,} bytes")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from error


def take_exchange(http: HttpCache, target: Target, recorded: Recorded, taken: Taken) -> None:
    """Take in one recorded exchange, if a call would have stored it.

    Args:
        http: The rules.
        target: Where to.
        recorded: The exchange.
        taken: Where to count.
    """
    settings = http.cache.settings({})
    found = http.material_of(recorded.request, settings)
    if isinstance(found, Passed):
        taken.skip(found.reason, found.detail)
        return
    verdict = _verdict(http, found.subject, recorded)
    if verdict.reason is not None:
        taken.skip(verdict.reason, verdict.detail)
        return
    response: Response = http.priced(found.subject, verdict.response, 0.0)
    labels = labels_for(found.subject, settings, response)
    refs = (found.canonical, *found.objects)
    created = _time_of(recorded.reply)
    taken.put(target, found.key, encode(recorded.reply, response), labels=labels, refs=refs, created=created)


def _time_of(reply: HttpReply) -> int | None:
    """Return when a reply was sent, in milliseconds since the Unix epoch; None where it does not tell."""
    try:
        seconds = parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (OverflowError, ValueError):
        return None
    return max(0, int(seconds * 1000))


def _verdict(http: HttpCache, subject: Subject, recorded: Recorded) -> Verdict:
    reply = recorded.reply
    framing = framing_for(media_type(reply.headers)) if subject.streams else None
    if framing is None:
        return judge(subject, reply, http.rules.keep)
    watch = StreamWatch(subject.endpoint.wire, framing)
    watch.feed(reply.body)
    watch.end()
    return judge_stream(reply.status, watch, http.rules.keep)
