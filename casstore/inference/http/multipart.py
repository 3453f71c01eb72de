"""Bodies of many parts: what they say, without their random boundaries; pure.  Floor: inference.

Knows the form (RFC 7578) and nothing of who sends it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message

from casstore.errors import FormatError

_BOUNDARY = re.compile(r"boundary=(?:\"([^\"]+)\"|([^;\s]+))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    Attributes:
        name: Its field's name.
        filename: The file's name; None for a part that is no file.
        content_type: As sent; empty where it is not told.
        content: Its bytes.
    """

    name: str
    filename: str | None
    content_type: str
    content: bytes

    @property
    def text(self) -> str | None:
        """The content of a part that is no file, as text; None for any other."""
        if self.filename is not None:
            return None
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return None


def parts_of(content_type: str, body: bytes) -> tuple[Part, ...]:
    """Return the parts of a body, in their order.

    Args:
        content_type: The header, which tells the boundary.
        body: The bytes.

    Raises:
        FormatError: It is no such body.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise FormatError("a multipart body without a boundary")
    line = b"--" + (found[1] or found[2]).encode()
    pieces = (b"\r\n" + body).split(b"\r\n" + line)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):  # noqa: PLR2004 — what is before and after the parts
        raise FormatError("a multipart body without its end")
    return tuple(_part(piece) for piece in pieces[1:-1])


def _part(piece: bytes) -> Part:
    head, blank, content = piece.partition(b"\r\n\r\n")
    if not blank:
        raise FormatError("a part without a head")
    message = Message()
    for line in head.split(b"\r\n"):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if name.strip():
            message[name.strip()] = value.strip()
    field = message.get_param("name", header="content-disposition")
    return Part(
        field if isinstance(field, str) else "",
        message.get_filename(),
        str(message.get("content-type", "")),
        content,
    )
