"""LLM calls cached, shared through a bucket, and not paid twice: a demo that checks its own claims."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts._demo.bucket import simulated_bucket
from scripts._demo.processes import Asked, DemoError, Processes
from scripts._demo.provider import DELAY, MODEL, Provider, simulated_provider
from scripts._demo.report import Report
from scripts._demo.story import HEADLINE, Story, introduction

SIMULATED = "simulated"
MODELS = {
    SIMULATED: MODEL,
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "bedrock": "amazon.nova-micro-v1:0",
}
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""The variables that hold credentials; for Bedrock boto3 looks in many places."""

FROM = "DEMO_FROM"
"""The variable by which scripts/demo tells the folder it was called from, before it went to the checkout."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the story, and return 1 where it did not go as claimed."""
    options, report = _parse(arguments), Report()
    simulated = options.provider == SIMULATED
    provider = "openai" if simulated else options.provider
    asked = Asked(provider, options.model or MODELS[options.provider], options.documents, options.skip_cache)
    try:
        if not simulated:
            require_key(provider)
        report.title(HEADLINE, introduction(asked, simulated=simulated))
        with (
            _folder(options.keep) as folder,
            _served(options.delay if simulated else None) as served,
            simulated_bucket() as bucket,
        ):
            story = Story(report, Processes(folder, asked, served), bucket, asked)
            story.tell_without_cache() if asked.skip_cache else story.tell()
    except DemoError as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    report.end(_farewell(options, report))
    return 1 if report.false else 0


def require_key(provider: str) -> None:
    """Refuse to begin without what a real provider will ask for.

    Raises:
        DemoError: Credentials, or a region, are missing.
    """
    if provider == "bedrock":
        import boto3

        session = boto3.Session()
        if session.get_credentials() is None or session.region_name is None:
            raise DemoError(
                "--provider bedrock needs AWS credentials and a region: set AWS_PROFILE, or AWS_ACCESS_KEY_ID"
                " and AWS_SECRET_ACCESS_KEY, and AWS_DEFAULT_REGION; or leave --provider out"
            )
    elif not os.environ.get(KEYS[provider]):
        raise DemoError(
            f"--provider {provider} needs a key: set {KEYS[provider]}; or leave --provider out, and the"
            " provider is simulated"
        )


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Yield the folder for the stores, which is removed afterwards unless it is to be kept."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="casstore-demo-") as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep


@contextmanager
def _served(delay: float | None) -> Iterator[Provider | None]:
    """Yield the simulated provider, or none where there is no delay to simulate."""
    if delay is None:
        yield None
    else:
        with simulated_provider(delay) as provider:
            yield provider


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    add = parser.add_argument
    add("--skip-cache", action="store_true", help="call the provider each time, as without a cache")
    add(
        "--provider", choices=MODELS, default=SIMULATED, help="a real one takes your key from the environment"
    )
    add("--model", help="another than the provider's small one")
    add("--keep", metavar="DIR", type=Path, help="keep the stores there, and use them the next time")
    add("--documents", metavar="N", type=int, default=18, help="how many to read; 18 at first, 38 at most")
    add(
        "--delay",
        metavar="SECONDS",
        type=float,
        default=DELAY,
        help=f"what the simulated provider takes on average; {DELAY} at first",
    )
    options = parser.parse_args(arguments)
    if options.keep:
        options.keep = (Path(os.environ.get(FROM, ".")) / options.keep).resolve()
    return options


def _farewell(options: argparse.Namespace, report: Report) -> list[str]:
    if report.false:
        return [f"{len(report.false)} of {report.held + len(report.false)} claims did not hold."]
    lines = [f"All {report.held} claims were checked, and hold."]
    if options.keep:
        lines.append(f"The stores are kept: .venv/bin/casstore --store {options.keep / 'you'} ls")
    elif not options.skip_cache:
        lines.append("What it costs without a cache: scripts/demo --skip-cache")
    return [*lines, "How to use it: README.md"]


if __name__ == "__main__":
    sys.exit(main())
