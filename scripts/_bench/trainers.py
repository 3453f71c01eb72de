"""How a dictionary is best trained: time against bytes saved, for settings, samples and sizes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scripts._bench.layouts import DICTIONARY, SAMPLES, TRAINER, measure, train_with
from scripts._bench.sync_results import markdown

HELD_OUT, SEEDS = 700, 5
"""Answers that each dictionary is measured on, and how many draws are averaged."""

KIB = 1024


@dataclass(frozen=True, slots=True)
class Trial:
    """A way to train.

    Attributes:
        name: What it is called in the table.
        settings: Of the trainer.
        samples: How many objects it sees.
        size: Bytes of dictionary it may make.
    """

    name: str
    settings: Mapping[str, int]
    samples: int = SAMPLES
    size: int = DICTIONARY


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a way to train came to, on average.

    Attributes:
        trial: The way.
        seconds: The fastest training.
        made: Bytes of the smallest dictionary it made.
        percent: Bytes of a hundred raw ones, one frame an object.
    """

    trial: Trial
    seconds: float
    made: int
    percent: float


@dataclass(frozen=True, slots=True)
class Training:
    """All outcomes."""

    outcomes: tuple[Outcome, ...]

    def report(self) -> Iterator[str]:
        """Yield a Markdown table and what it was measured on."""
        yield f"Trained on answers of all sets, measured on {HELD_OUT} others; average of {SEEDS} draws"
        yield ""
        head = ("trainer", "samples", "time", "dictionary", "percent")
        cells = [
            (
                each.trial.name,
                f"{each.trial.samples:,}",
                f"{1000 * each.seconds:.0f} ms",
                f"{each.made:,}",
                f"{each.percent:.2f}",
            )
            for each in self.outcomes
        ]
        yield from markdown(head, cells, left=1)

    def to_json(self) -> list[dict[str, object]]:
        """Return the outcomes with stable names."""
        return [
            {
                "name": each.trial.name,
                "settings": dict(each.trial.settings),
                "samples": each.trial.samples,
                "size": each.trial.size,
                "seconds": each.seconds,
                "made": each.made,
                "percent": each.percent,
            }
            for each in self.outcomes
        ]


def trainers(answers: Sequence[bytes]) -> Training:
    """Return what each way to train comes to."""
    return Training(tuple(_outcome(trial, answers) for trial in _trials()))


def _trials() -> Iterator[Trial]:
    yield Trial("left to itself (it searches k)", {})
    for k in (64, 128, 256, 512, 1024, 2048):
        yield Trial(f"k={k}, d=8, f=20, accel=1", {"k": k, "d": 8, "f": 20, "accel": 1})
    yield Trial("k=256, d=6, f=20, accel=1", {"k": 256, "d": 6, "f": 20, "accel": 1})
    yield Trial("k=256, d=8, f=20, accel=4", {"k": 256, "d": 8, "f": 20, "accel": 4})
    chosen = ", ".join(f"{name}={value}" for name, value in TRAINER.items())
    yield Trial(f"**{chosen}**", TRAINER)
    for samples in (100, 250, 500, 2000):
        yield Trial("the same", TRAINER, samples=samples)
    for size in (16, 32, 112):
        yield Trial(f"the same, {size} KiB", TRAINER, size=size * KIB)


def _outcome(trial: Trial, answers: Sequence[bytes]) -> Outcome:
    seconds, made, percents = float("inf"), trial.size, []
    for seed in range(SEEDS):
        shuffled = random.Random(seed).sample(answers, len(answers))
        held, samples = shuffled[:HELD_OUT], shuffled[HELD_OUT : HELD_OUT + trial.samples]
        started = time.perf_counter()
        dictionary = train_with(trial.settings, trial.size, samples)
        seconds = min(seconds, time.perf_counter() - started)
        made = min(made, len(dictionary))
        percents.append(measure(held, 0, dictionary).percent)
    return Outcome(trial, seconds, made, statistics.mean(percents))
