"""Push and pull through the second S3 server, which counts for itself what it is asked."""

from __future__ import annotations

from casstore.repo.repository import Repository
from casstore.store.codec import FRAME_SIZE
from tests.conftest import Bucket
from tests.seaweed import Seaweed
from tests.stores import answers, fill, noise
from tests.unit.repo.conftest import Open


def test_a_round_trip_sends_the_requests_it_reports(
    store: Repository, opened: Open, seaweed: Seaweed, seaweed_bucket: Bucket
) -> None:
    """Two machines come to hold the same, and the server has seen as many requests as they say."""
    start = seaweed.traffic(seaweed_bucket.name)
    fill(store, range(50))
    large = store.put(noise(FRAME_SIZE * 5))
    pushed = store.push(seaweed_bucket.url)
    after_push = seaweed.traffic(seaweed_bucket.name)
    other = opened("other")
    pulled = other.pull(seaweed_bucket.url)
    after_pull = seaweed.traffic(seaweed_bucket.name)
    assert (pushed.failures, pulled.failures) == ((), ())
    assert answers(other) == answers(store)
    assert other.get(large) == noise(FRAME_SIZE * 5)
    assert after_push.since(start).requests == dict(pushed.requests)
    assert after_pull.since(after_push).requests == dict(pulled.requests)
    assert after_pull.since(after_push).sent >= pulled.bytes > FRAME_SIZE * 5


def test_nothing_new_is_one_list(
    store: Repository, opened: Open, seaweed: Seaweed, seaweed_bucket: Bucket
) -> None:
    """A push and a pull of nothing ask for one listing each, by the server's own count."""
    fill(store, range(3))
    store.push(seaweed_bucket.url)
    other = opened("other")
    other.pull(seaweed_bucket.url)
    before = seaweed.traffic(seaweed_bucket.name)
    store.push(seaweed_bucket.url)
    other.pull(seaweed_bucket.url)
    assert seaweed.traffic(seaweed_bucket.name).since(before).requests == {"LIST": 2}
