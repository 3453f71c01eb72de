"""The demo's story, told by doing it: run, run again, share, and let a colleague run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from casstore.config import Config, format_size
from scripts._demo.bucket import Bucket
from scripts._demo.pipeline import CALLS, STRATEGIES, WORKERS
from scripts._demo.processes import Asked, Processes, Run
from scripts._demo.report import Report, files_in

HEADLINE = "casstore: LLM calls cached, shared through a bucket, and not paid twice"


class Story:
    """What happens, step by step, with what is claimed of it.

    Args:
        report: Where it is told.
        processes: Run the pipeline and the command line.
        bucket: The team's bucket.
        asked: What the pipeline does.
    """

    def __init__(self, report: Report, processes: Processes, bucket: Bucket, asked: Asked) -> None:
        self._report = report
        self._processes = processes
        self._bucket = bucket
        self._total = asked.documents * CALLS
        self._asked = asked

    def tell(self) -> None:
        """Run everything with the cache."""
        first = self._first("You run a pipeline")
        again = self._again(first)
        self._share()
        colleague = self._colleague(first)
        self._sum_up({"first run": first, "the same again": again, "a colleague": colleague})
        self._look()

    def tell_without_cache(self) -> None:
        """Run the pipeline twice, the cache being skipped."""
        first = self._first("You run a pipeline, skipping the cache")
        self._report.step("You run the same again, skipping the cache")
        again = self._run("you")
        self._report.check(
            f"all {self._total} calls were paid again, and the store was left alone",
            holds=again.calls == self._total and again.hits == 0 and again.answered in (None, self._total),
        )
        self._sum_up({"first run": first, "the same again": again})

    def _first(self, title: str) -> Run:
        report, count = self._report, self._asked.documents
        report.step(title)
        documents = f"{count} document{'s' if count != 1 else ''}"
        report.say(f"{documents}, {CALLS} questions each ({', '.join(STRATEGIES)}, decision)")
        run = self._run("you")
        report.check(
            f"each of {self._total} answers was paid for, or came from the store",
            holds=run.calls + run.hits == self._total and run.answered in (None, run.calls),
        )
        if run.hits:
            report.say("The store is kept from an earlier demo, so there was less to pay.")
        return run

    def _again(self, first: Run) -> Run:
        self._report.step("You run the same again, in a new process")
        run = self._run("you")
        self._check_free(run, first)
        return run

    def _share(self) -> None:
        self._report.step("You share the answers through the team's bucket")
        self._add_remote("you")
        self._command("you", "push")
        self._bucket.clear()
        self._command("you", "push")
        self._report.check(
            "with nothing new, a push is one request (the bucket counted)",
            holds=self._bucket.requests() == {"LIST": 1},
        )

    def _colleague(self, first: Run) -> Run:
        self._report.step("A colleague, with a store of their own, pulls and runs the pipeline")
        self._add_remote("colleague")
        self._command("colleague", "pull")
        run = self._run("colleague")
        self._check_free(run, first)
        return run

    def _sum_up(self, runs: Mapping[str, Run]) -> None:
        self._report.step("What it came to")
        head = ["", "calls", "hits", "time", "price"]
        self._report.table([head, *(_row(title, run) for title, run in runs.items())])
        self._report.say("Time: the whole process, Python's start and the SDK's import included.", "dim")

    def _look(self) -> None:
        report, files = self._report, self._bucket.files()
        report.step("What is there now")
        self._command("you", "stats")
        report.tree("your store", files_in(self._processes.folder / "you"))
        size = format_size(sum(size for _, size in files))
        names = [name.removeprefix("llm/") for name, _ in files]
        report.tree(f"the bucket, {self._bucket.url}: {len(files)} files, {size}", names)

    def _run(self, who: str) -> Run:
        with self._report.progress(self._total) as advance:
            run = self._processes.pipeline(who, advance)
        calls = f"{run.calls} call{'s' if run.calls != 1 else ''}"
        self._report.say(f"{calls}, {run.hits} hits, {run.seconds:.1f} s, {run.price}", "bold")
        return run

    def _check_free(self, run: Run, first: Run) -> None:
        counted = "" if run.answered is None else " (the provider counted)"
        self._report.check(
            f"0 calls{counted}, cost 0, the same reports byte for byte",
            holds=(run.calls, run.hits, run.money) == (0, self._total, 0)
            and run.answered in (None, 0)
            and run.reports == first.reports,
        )

    def _add_remote(self, who: str) -> None:
        if "team" in Config.load(self._processes.folder / who).remotes:
            # A kept store knows where the last demo's bucket was.
            self._processes.casstore(who, "remote", "remove", "team")
        self._command(who, "remote", "add", "team", self._bucket.url, "--endpoint", self._bucket.endpoint)

    def _command(self, who: str, *arguments: str) -> None:
        output = self._processes.casstore(who, *arguments)
        self._report.command(f"casstore {' '.join(arguments)}", output)


def introduction(asked: Asked, *, simulated: bool) -> Sequence[str]:
    """Return what is simulated and what is real."""
    if simulated:
        return [
            "Simulated  the provider: a local server that answers with extracts of the text,",
            "           after a made-up delay, at a made-up price",
            "           the bucket: moto, an S3 server on this machine",
            f"Real       the pipeline ({WORKERS} threads), its documents, OpenAI's SDK, HTTP, casstore",
        ]
    return [
        "Simulated  the bucket: moto, an S3 server on this machine",
        f"Real       the provider ({asked.provider}, {asked.model}): its calls cost money",
        f"           the pipeline ({WORKERS} threads), its documents, HTTP, casstore",
    ]


def _row(title: str, run: Run) -> list[str]:
    return [title, str(run.calls), str(run.hits), f"{run.seconds:.1f} s", run.price]
