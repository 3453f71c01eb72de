"""What packs save by dictionaries: the layouts of objects in a pack, measured on real answers and exchanges.

Every figure is of objects that the dictionary was not trained on: each set is cut into parts, and each part
is compressed with what the others teach. zstd level 3, through the library alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from scripts._bench.layouts import DICTIONARY, LEVEL, SAMPLES, TRAINER, Body, Taken, measure, train
from scripts._bench.results import machine
from scripts._bench.sync_results import markdown
from scripts._bench.texts import EXCHANGES, OUTPUTS, rows
from scripts._bench.trainers import trainers

PARTS = 3
"""Each third is measured with a dictionary of the other two."""

KIB = 1024
_TITLES = {
    "gsm": "grade-school maths",
    "math-l5": "maths",
    "crux": "code",
    "arena-hard-v0.1": "long answers",
    "arena-hard-v2.0": "long answers",
    "wildbench-judge": "judgements",
}

Sets = Mapping[str, Sequence[Body]]
Teacher = Callable[[str, Sequence[Body]], Sequence[bytes]]
"""Returns what a dictionary is trained on, given the name of the set and the rest of it."""


def main(arguments: Sequence[str]) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench dictionaries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    absent = [str(path) for path in (OUTPUTS, EXCHANGES) if not path.exists()]
    if absent:
        print(f"scripts/bench dictionaries: no {' and no '.join(absent)}", file=sys.stderr)
        return 2
    answers, exchanges = _answers(), _exchanges()
    found = {**compare(answers, answers), **compare(exchanges, answers)}
    training = trainers([body.content for bodies in answers.values() for body in bodies])
    if options.json:
        tables = {
            layout: {
                name: {"percent": each.percent, "us": each.microseconds} for name, each in columns.items()
            }
            for layout, columns in _by_layout(found).items()
        }
        print(json.dumps({"machine": machine(), "layouts": tables, "trainers": training.to_json()}, indent=2))
    else:
        print("\n".join(_report({**answers, **exchanges}, found)))
        print("\n".join(training.report()))
    return 0


def compare(sets: Sets, others: Sets) -> dict[tuple[str, str], Taken]:
    """Return what each set takes in each layout, by layout and set.

    Args:
        sets: The sets.
        others: Where a foreign dictionary comes from: all of these but the set itself.
    """

    def nothing(*_: object) -> Sequence[bytes]:
        return ()

    def this_store(_: str, rest: Sequence[Body]) -> Sequence[bytes]:
        return [body.content for body in rest]

    def foreign(name: str, _: Sequence[Body]) -> Sequence[bytes]:
        return [body.content for other, bodies in others.items() if other != name for body in bodies]

    layouts: dict[str, tuple[int, Teacher | None]] = {
        "one frame an object, no dictionary": (0, nothing),
        "frames of 16 KiB": (16 * KIB, nothing),
        "frames of 64 KiB": (64 * KIB, nothing),
        "**one frame an object, dictionary from this store**": (0, this_store),
        "the same, from other models or providers": (0, None),
        "the same, from other sets": (0, foreign),
        "frames of 4 KiB, dictionary from this store": (4 * KIB, this_store),
    }
    found = {}
    for name, bodies in sets.items():
        for layout, (frame, teacher) in layouts.items():
            taken = _in_parts(name, bodies, frame, teacher) if teacher else _by_group(bodies)
            found[layout, name] = taken
    return found


def _in_parts(name: str, bodies: Sequence[Body], frame: int, teacher: Teacher) -> Taken:
    taken = Taken()
    for part in range(PARTS):
        held, rest = bodies[part::PARTS], [body for index, body in enumerate(bodies) if index % PARTS != part]
        samples = teacher(name, rest)
        dictionary = train(samples) if samples else None
        taken += measure([body.content for body in held], frame, dictionary)
    return taken


def _by_group(bodies: Sequence[Body]) -> Taken:
    """Return what each group's objects take with a dictionary of the other groups' objects."""
    groups: defaultdict[object, list[bytes]] = defaultdict(list)
    for body in bodies:
        groups[body.group].append(body.content)
    if len(groups) == 1:
        return Taken()
    taken = Taken()
    for group, held in groups.items():
        taken += measure(
            held, 0, train([each for other in groups if other != group for each in groups[other]])
        )
    return taken


def _answers() -> Sets:
    found: defaultdict[str, list[Body]] = defaultdict(list)
    for row in rows(OUTPUTS):
        if row["dataset"] in _TITLES:
            found[_TITLES[row["dataset"]]].append(Body(row["output"].encode(), row["model"]))
    return dict(found)


def _exchanges() -> Sets:
    found: defaultdict[str, list[Body]] = defaultdict(list)
    for row in rows(EXCHANGES):
        for name, part in (("requests", "request_body"), ("responses", "response_body")):
            if row[part]:
                found[name].append(Body(row[part].encode(), row["provider"]))
    return dict(found)


def _by_layout(found: Mapping[tuple[str, str], Taken]) -> dict[str, dict[str, Taken]]:
    tables: defaultdict[str, dict[str, Taken]] = defaultdict(dict)
    for (layout, name), taken in found.items():
        if taken.count:
            tables[layout][name] = taken
    return dict(tables)


def _report(sets: Sets, found: Mapping[tuple[str, str], Taken]) -> Iterator[str]:
    where = machine()
    yield f"zstandard {where['zstandard']}, level {LEVEL}; Python {where['python']}, {where['system']}"
    yield f"dictionaries: {DICTIONARY // KIB} KiB of up to {SAMPLES:,} objects, {TRAINER}"
    yield f"texts: {Path(OUTPUTS).name}, {Path(EXCHANGES).name}"
    yield ""
    names = list(sets)
    yield from markdown(
        ("percent of the raw bytes", *names, "one object"), list(_lines(names, found)), left=1
    )
    yield ""
    yield from markdown(("objects", *names), list(_sizes(sets)), left=1)
    yield ""


def _lines(names: Sequence[str], found: Mapping[tuple[str, str], Taken]) -> Iterator[Sequence[str]]:
    for layout, columns in _by_layout(found).items():
        cells = [f"{columns[name].percent:.1f}" if name in columns else "-" for name in names]
        times = [taken.microseconds for taken in columns.values()]
        yield (layout, *cells, f"{min(times):.1f} to {max(times):.1f} us")


def _sizes(sets: Sets) -> Iterator[Sequence[str]]:
    yield ("how many", *(f"{len(bodies):,}" for bodies in sets.values()))
    for title, share in (("median bytes", 0.5), ("90th percentile", 0.9), ("largest", 1.0)):
        yield (title, *(f"{_quantile(bodies, share):,}" for bodies in sets.values()))


def _quantile(bodies: Sequence[Body], share: float) -> int:
    sizes = sorted(len(body.content) for body in bodies)
    return sizes[min(int(share * len(sizes)), len(sizes) - 1)]
