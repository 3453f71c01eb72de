"""Recorded exchanges of real providers, as interactions of a cassette; none where the data is not here."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "http_exchanges_sample.jsonl.gz"


def _body(row: dict[str, Any], side: str) -> bytes:
    text, form = row[f"{side}_body"], row[f"{side}_body_encoding"]
    if text is None:
        return b""
    return base64.b64decode(text) if form.endswith("base64") else str(text).encode()


def interactions(**headers: str) -> list[dict[str, Any]]:
    """Return the exchanges; `headers` are added to the requests'."""
    if not SAMPLE.exists():
        return []
    rows = [json.loads(line) for line in gzip.decompress(SAMPLE.read_bytes()).splitlines()]
    return [
        {
            "request": {
                "method": row["method"],
                "uri": row["url"],
                "headers": {name: [value] for name, value in (row["request_headers"] | headers).items()},
                "body": _body(row, "request"),
            },
            "response": {
                "status": {"code": row["status"], "message": ""},
                "headers": {name: [value] for name, value in row["response_headers"].items()},
                "body": {"string": _body(row, "response")},
            },
        }
        for row in rows
    ]
