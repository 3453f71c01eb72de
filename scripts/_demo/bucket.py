"""The simulated bucket: an S3 server on the loopback interface, which writes down every request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import Request, urlopen
from xml.etree import ElementTree as ET

from tests.s3 import Server, running_server

NAME = "team"
_S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket on a server that is running.

    Attributes:
        server: The server.
        url: A store in it.
    """

    server: Server
    url: str = f"s3://{NAME}/llm"

    @property
    def endpoint(self) -> str:
        """Where the server listens."""
        return self.server.endpoint

    def requests(self) -> Mapping[str, int]:
        """Return the requests since the last `clear`, by verb, as the server counted them."""
        return self.server.verbs()

    def clear(self) -> None:
        """Count from zero."""
        self.server.clear()

    def files(self) -> list[tuple[str, int]]:
        """Return names and sizes of all files, by name; they are few enough for one request."""
        with urlopen(f"{self.endpoint}/{NAME}?list-type=2") as answer:
            found = ET.parse(answer).iter(f"{_S3}Contents")
            return [(_text(each, "Key"), int(_text(each, "Size"))) for each in found]


@contextmanager
def simulated_bucket() -> Iterator[Bucket]:
    """Serve an empty bucket for as long as the block lasts."""
    with running_server() as server:
        with urlopen(Request(f"{server.endpoint}/{NAME}", method="PUT")):
            pass
        yield Bucket(server)


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(_S3 + name) or ""
