"""Bedrock through boto3: one client or a session, whole replies and streams, real HTTP on loopback."""

from __future__ import annotations

import json
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError

from casstore import Cache, cached
from casstore.errors import ConfigError
from tests.credentials import SECRET
from tests.inference.http.loopback import Canned, Loopback
from tests.inference.provider import Provider, _frame

ASKED = {
    "modelId": "amazon.nova-micro-v1:0",
    "messages": [{"role": "user", "content": [{"text": "why is the sky blue"}]}],
}
CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
BODY = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}
REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}


def client(url: str, session: Any = boto3, *, signed: bool = True) -> Any:
    """Return a client of Bedrock that asks the server at `url`."""
    keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": SECRET} if signed else {}
    config = Config(retries={"total_max_attempts": 1})
    return session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url, config=config, **keys)


def told(reply: Any) -> Any:
    """Return a reply without what botocore says of its HTTP."""
    return {name: value for name, value in reply.items() if name != "ResponseMetadata"}


def test_a_second_converse_is_a_hit_with_an_equal_reply(cache: Cache, provider: Provider) -> None:
    """The first call asks, the second does not, and both get the same."""
    bedrock = cached(client(provider.url), cache)
    first, second = bedrock.converse(**ASKED), bedrock.converse(**ASKED)
    assert told(first) == told(second)
    assert provider.calls == 1
    headers = [each["ResponseMetadata"]["HTTPHeaders"]["x-casstore"] for each in (first, second)]
    assert headers == ["miss", "hit"]
    assert cache.stats().hits == 1


def test_a_hit_needs_no_credentials(cache: Cache, provider: Provider) -> None:
    """What one client stored, another without credentials gets; what is not stored it cannot ask for."""
    cached(client(provider.url), cache).converse(**ASKED)
    bedrock = cached(client(provider.url, signed=False), cache)
    assert bedrock.converse(**ASKED)["stopReason"] == "end_turn"
    with pytest.raises(NoCredentialsError):
        bedrock.converse(**{**ASKED, "modelId": "another"})
    assert provider.calls == 1


def test_a_session_puts_the_cache_before_each_client_it_makes(cache: Cache, provider: Provider) -> None:
    """Clients made after `cached(session)` share their answers; clients for other services are let alone."""
    session = cached(boto3.Session(), cache)
    for _ in range(2):
        client(provider.url, session).converse(**ASKED)
    assert provider.calls == 1
    assert session.client("sts", region_name="us-east-1") is not None


def test_a_stream_is_recorded_and_replayed_event_by_event(cache: Cache, provider: Provider) -> None:
    """With streams recorded, a second stream has the first one's events and asks nobody."""
    bedrock = cached(client(provider.url), cache, streams="record")
    first = list(bedrock.converse_stream(**ASKED)["stream"])
    second = list(bedrock.converse_stream(**ASKED)["stream"])
    assert first == second
    assert {"messageStop": {"stopReason": "end_turn"}} in first
    assert provider.calls == 1


def test_a_stream_passes_by_default_and_is_counted(cache: Cache, provider: Provider) -> None:
    """Streams that are not recorded are asked for each time; what they used is in the ledger."""
    bedrock = cached(client(provider.url), cache)
    for _ in range(2):
        assert list(bedrock.converse_stream(**ASKED)["stream"])
    assert provider.calls == 2
    assert cache.reasons() == {"uncached_stream": 2}
    assert cache.stats().output_spent == 8


@pytest.mark.parametrize("paced", [False, True])
def test_a_stream_is_stored_once_its_end_was_seen(cache: Cache, loopback: Loopback, paced: bool) -> None:
    """Neither a stream without its last event nor one that was closed early is replayed; a whole one is."""
    frames = [
        _frame("messageStart", {"role": "assistant"}),
        _frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hello"}}),
        _frame("messageStop", {"stopReason": "end_turn"}),
        _frame("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}}),
    ]
    headers = [("content-type", "application/vnd.amazon.eventstream")]
    loopback.script.append(Canned(headers=headers, pieces=frames[:2]))
    loopback.reply = Canned(headers=headers, pieces=frames)
    bedrock = cached(client(loopback.url), cache, streams="record", paced=paced)
    assert len(list(bedrock.converse_stream(**ASKED)["stream"])) == 2
    left = bedrock.converse_stream(**ASKED)["stream"]
    next(iter(left))
    left.close()
    whole = list(bedrock.converse_stream(**ASKED)["stream"])
    assert list(bedrock.converse_stream(**ASKED)["stream"]) == whole
    assert loopback.calls == 3


def test_invoke_model_gives_a_body_that_can_be_read(cache: Cache, loopback: Loopback) -> None:
    """The body of InvokeModel is read by the cache and again by the program, on a miss and on a hit."""
    loopback.reply = Canned(body=json.dumps(REPLY).encode())
    bedrock = cached(client(loopback.url), cache)
    for body in (json.dumps(BODY), json.dumps(BODY).encode(), BytesIO(json.dumps(BODY).encode())):
        reply = bedrock.invoke_model(modelId=CLAUDE, body=body)
        assert json.loads(reply["body"].read()) == REPLY
        assert reply["contentType"] == "application/json"
    assert loopback.calls == 1


def test_a_request_has_the_key_it_has_over_httpx(cache: Cache, loopback: Loopback) -> None:
    """AnthropicBedrock, which uses httpx, and boto3 share answers where they send the same body."""
    anthropic = pytest.importorskip("anthropic")
    loopback.reply = Canned(body=json.dumps(REPLY).encode())
    keys = {"aws_access_key": "AKIDEXAMPLE", "aws_secret_key": SECRET, "aws_region": "us-east-1"}
    with anthropic.AnthropicBedrock(base_url=loopback.url, **keys) as other:
        sent = cached(other, cache).messages.create(
            model=CLAUDE, max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        )
    assert sent.content[0].text == "hello"
    body = {**BODY, "anthropic_version": json.loads(loopback.seen[0].body)["anthropic_version"]}
    reply = cached(client(loopback.url), cache).invoke_model(modelId=CLAUDE, body=json.dumps(body))
    assert json.loads(reply["body"].read()) == REPLY
    assert loopback.calls == 1


@pytest.mark.parametrize("status", [429, 500])
def test_an_error_is_raised_as_ever_and_not_stored(cache: Cache, provider: Provider, status: int) -> None:
    """The program sees botocore's own error, and the next call asks again."""
    bedrock = cached(client(provider.url), cache)
    provider.script.append(status)
    with pytest.raises(ClientError, match=f"scripted {status}"):
        bedrock.converse(**ASKED)
    assert bedrock.converse(**ASKED)["stopReason"] == "end_turn"
    assert provider.calls == 2


def test_offline_a_miss_is_an_error_with_the_reason(cache: Cache, provider: Provider) -> None:
    """Offline, what is stored is given, and anything else is botocore's error with casstore's words."""
    bedrock = cached(client(provider.url, signed=False), cache)
    with cache.using(mode="offline"), pytest.raises(ClientError, match="casstore is offline"):
        bedrock.converse(**ASKED)
    assert provider.calls == 0


def test_identical_calls_at_one_moment_are_one(cache: Cache, loopback: Loopback) -> None:
    """Threads that ask the same at once share one call."""
    held = threading.Event()
    body = {
        "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
        "metrics": {"latencyMs": 1},
    }
    loopback.reply = Canned(body=json.dumps(body).encode(), hold=held)
    bedrock = cached(client(loopback.url), cache)
    replies: list[Any] = []
    threads = [threading.Thread(target=lambda: replies.append(bedrock.converse(**ASKED))) for _ in range(8)]
    for thread in threads:
        thread.start()
    held.set()
    for thread in threads:
        thread.join()
    assert [told(reply) for reply in replies] == [body] * 8
    assert loopback.calls == 1


def test_a_broken_store_is_no_store(tmp_path: Path, provider: Provider) -> None:
    """Where the store cannot be opened, calls go through."""
    (tmp_path / "file").write_bytes(b"in the way")
    with Cache(tmp_path / "file" / "store", memory=0) as cache:
        bedrock = cached(client(provider.url), cache)
        for _ in range(2):
            assert bedrock.converse(**ASKED)["stopReason"] == "end_turn"
    assert provider.calls == 2


def test_other_clients_are_refused(cache: Cache) -> None:
    """A client of S3 has no answers to keep."""
    with pytest.raises(ConfigError, match="bedrock-runtime"):
        cached(boto3.client("sts", region_name="us-east-1"), cache)


def test_chat_bedrock_converse_is_cached_as_its_client(cache: Cache, provider: Provider) -> None:
    """LangChain's model for Bedrock keeps its client, and the cache stands before that."""
    aws = pytest.importorskip("langchain_aws")
    model = cached(aws.ChatBedrockConverse(model=ASKED["modelId"], client=client(provider.url)), cache)
    assert [model.invoke("hello").content for _ in range(2)] == ["you said: hello"] * 2
    assert provider.calls == 1
