"""How S3's redirects are followed: by botocore, signed for the other region, and never in a circle."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession


class UnredirectedSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """Returns redirects as they are.

    aiohttp would follow them with a signature that is made for another host, which S3 refuses; botocore signs
    again, as boto3 and the AWS command line do.
    """

    async def _get_session(self, proxy_url: str | None) -> _Unredirected:
        return _Unredirected(await super()._get_session(proxy_url))


class _Unredirected:
    """An aiohttp session that follows no redirect."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, *args: Any, **extra: Any) -> Any:
        return await self._session.request(*args, allow_redirects=False, **extra)


def probe_regions_once(session: AioSession) -> None:
    """Keep botocore from following the redirects of its own question.

    To learn a bucket's region botocore sends HEAD. Where that is redirected, too, it sends HEAD again, until
    Python's stack ends. casstore itself never sends HEAD for a bucket.
    """
    session.register("before-call.s3.HeadBucket", _mark_redirected)


def _mark_redirected(params: MutableMapping[str, Any], **_: object) -> None:
    params["context"].setdefault("s3_redirect", {})["redirected"] = True
