"""The first hit of a fresh process: from its start to its end, imports and opening included."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import diskcache
import orjson

from casstore.inference.cache import Cache
from scripts._bench.results import Row
from scripts._bench.rounds import Action, best
from scripts._bench.subjects import Prepared
from scripts._bench.workload import MODEL, pairs

_CASSTORE = f"""
from casstore.inference.adapters.openai import OpenAIClient
from casstore.inference.cache import Cache
with Cache({{folder!r}}) as cache:
    assert cache.wrap(OpenAIClient({MODEL!r})).converse({{messages!r}}).hit
"""
_DISKCACHE = f"""
from hashlib import sha256
import diskcache, orjson
with diskcache.Cache({{folder!r}}) as cache:
    request = {{{{"model": {MODEL!r}, "messages": {{messages!r}}}}}}
    key = sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
    assert orjson.loads(cache[key])
"""
_NOTHING = "python -c pass"


def fresh(folder: Path, rounds: int) -> list[Row]:
    """Return what a process costs that has one hit."""
    (pair,) = pairs(1, "fresh")
    messages = pair.request["messages"]
    with Cache(folder / "casstore") as cache:
        model = Prepared(MODEL)
        model.response = pair.response
        cache.wrap(model).converse(messages)
    with diskcache.Cache(str(folder / "diskcache")) as other:
        request = {"model": MODEL, "messages": messages}
        key = sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
        other[key] = orjson.dumps(pair.reply)
    mine = "first hit of a process"
    found = best(
        {
            mine: _process(_CASSTORE.format(folder=str(folder / "casstore"), messages=messages)),
            "diskcache": _process(_DISKCACHE.format(folder=str(folder / "diskcache"), messages=messages)),
            _NOTHING: _process("pass"),
        },
        rounds,
    )
    return [
        Row(mine, found[mine], "diskcache", found["diskcache"], 1.3),
        Row(mine, found[mine], _NOTHING, found[_NOTHING], None),
    ]


def _process(program: str) -> Action:
    def run(_: int) -> int:
        subprocess.run([sys.executable, "-c", program], check=True)
        return 1

    return run
