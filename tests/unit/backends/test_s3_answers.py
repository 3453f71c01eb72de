"""What S3's error answers become, over real HTTP: what happened, why, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casstore.backends.s3 import S3Backend
from casstore.errors import BackendError
from tests.conftest import Bucket
from tests.s3 import Fault, Server

Operation = Callable[[S3Backend], object]

OPERATIONS: dict[str, tuple[str, Operation]] = {
    "read": ("GET", lambda backend: backend.read("objects/a")),
    "read_range": ("GET", lambda backend: backend.read_range("objects/a", 0, 1)),
    "write": ("PUT", lambda backend: backend.write("objects/a", b"x")),
    "delete": ("DELETE", lambda backend: backend.delete("objects/a")),
    "list": ("LIST", lambda backend: list(backend.list("manifest"))),
}
ALWAYS = 1000


@pytest.fixture
def backend(bucket: Bucket) -> Iterator[S3Backend]:
    """Return a store under a prefix, without the retrying wrapper."""
    backend = S3Backend(bucket.name, "team")
    yield backend
    backend.close()


def trouble(backend: S3Backend, operation: Operation) -> str:
    """Return what `operation` says as it fails, and see that it is not to be tried again."""
    with pytest.raises(BackendError) as caught:
        operation(backend)
    assert not caught.value.transient
    return str(caught.value)


@pytest.mark.parametrize(("verb", "operation"), OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize(
    ("status", "code", "detail", "headers"),
    [
        (301, "PermanentRedirect", "", {"x-amz-bucket-region": "eu-west-1"}),
        (301, "PermanentRedirect", "<Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint>", {}),
        (301, "PermanentRedirect", "<Endpoint>b.s3-eu-west-1.amazonaws.com</Endpoint>", {}),
        (307, "TemporaryRedirect", "", {"Location": "https://b.s3.eu-west-1.amazonaws.com/team"}),
        (400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>", {}),
        (400, "IllegalLocationConstraintException", "", {"x-amz-bucket-region": "eu-west-1"}),
    ],
)
def test_wrong_region(
    backend: S3Backend,
    requests_log: Server,
    verb: str,
    operation: Operation,
    status: int,
    code: str,
    detail: str,
    headers: dict[str, str],
) -> None:
    """A redirect to another region names that region, after two requests and not after hundreds."""
    for each in (verb, "HEAD"):
        requests_log.fail(Fault(each, ALWAYS, status=status, code=code, detail=detail, headers=headers))
    told = trouble(backend, operation)
    assert "the bucket is in eu-west-1" in told
    assert f"the endpoint {requests_log.endpoint} does not serve" in told
    assert len(requests_log.requests()) <= 2


def test_wrong_region_of_aws_itself(backend: S3Backend, requests_log: Server) -> None:
    """Where no endpoint is set, the region is all there is to correct, and the message has the command."""
    fault = Fault(
        "GET", ALWAYS, status=301, code="PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}
    )
    requests_log.fail(fault)
    backend._own_endpoint = lambda: None  # type: ignore[method-assign]
    told = trouble(backend, lambda each: each.read("objects/a"))
    assert "casstore config set remotes.NAME.region eu-west-1" in told


def test_region_is_followed(backend: S3Backend, bucket: Bucket, requests_log: Server) -> None:
    """Where the other region can be reached, the request is signed for it and sent again."""
    requests_log.put(bucket.name, "team/objects/a", b"content")
    fault = Fault("GET", status=301, code="PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"})
    requests_log.fail(fault)
    assert backend.read("objects/a") == b"content"
    assert requests_log.verbs() == {"GET": 2}


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirect_that_names_no_region(backend: S3Backend, requests_log: Server, status: int) -> None:
    """A redirect to any other place is not followed: the message names the place."""
    target = f"{requests_log.endpoint}/login"
    for verb in ("LIST", "HEAD"):
        requests_log.fail(Fault(verb, ALWAYS, status=status, code="Found", headers={"Location": target}))
    told = trouble(backend, lambda each: list(each.list("manifest")))
    assert target in told
    assert "endpoint" in told
    assert "/login" not in {request.path for request in requests_log.requests()}


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("list", "s3:ListBucket on {bucket}:"),
        ("write", "s3:PutObject on {bucket}/team/objects/a:"),
        ("delete", "s3:DeleteObject on {bucket}/team/objects/a:"),
    ],
)
def test_denied_permission_is_named(
    backend: S3Backend, bucket: Bucket, requests_log: Server, operation: str, permission: str
) -> None:
    """AccessDenied says which permission is lacking, and on what."""
    verb, run = OPERATIONS[operation]
    requests_log.fail(Fault(verb, status=403, code="AccessDenied"))
    assert f"these AWS credentials lack {permission.format(bucket=bucket.name)}" in trouble(backend, run)
    assert requests_log.verbs() == {verb: 1}


def test_denied_parts(
    backend: S3Backend, bucket: Bucket, requests_log: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload in parts needs the permission to write."""
    monkeypatch.setattr(S3Backend, "part_size", 1024)
    (tmp_path / "big").write_bytes(bytes(3000))
    requests_log.fail(Fault("POST", status=403, code="AccessDenied"))
    told = trouble(backend, lambda each: each.upload(tmp_path / "big", "packs/a"))
    assert f"lack s3:PutObject on {bucket.name}/team/packs/a:" in told


def test_denied_by_another_service(backend: S3Backend, requests_log: Server) -> None:
    """Where S3 names the denied action, it is that of the message: here, of the bucket's encryption key."""
    message = (
        "User: arn:aws:iam::1:user/me is not authorized to perform: kms:GenerateDataKey on this resource"
    )
    requests_log.fail(Fault("PUT", status=403, code="AccessDenied", detail=f"<Message>{message}</Message>"))
    assert "these AWS credentials lack kms:GenerateDataKey:" in trouble(
        backend, lambda each: each.write("objects/a", b"x")
    )


def test_denied_read_where_listing_is_allowed(
    backend: S3Backend, bucket: Bucket, requests_log: Server
) -> None:
    """With s3:ListBucket a missing object is a 404, so a 403 is a denied read."""
    requests_log.fail(Fault("GET", 2, status=403, code="AccessDenied"))
    told = trouble(backend, lambda each: each.read("objects/a"))
    assert f"these AWS credentials lack s3:GetObject on {bucket.name}/team/objects/a:" in told
    assert "missing" not in told
    trouble(backend, lambda each: each.read("objects/a"))
    assert requests_log.verbs() == {"GET": 2, "LIST": 1}, "what may be listed is asked once"


def test_denied_read_where_listing_is_denied(
    backend: S3Backend, bucket: Bucket, requests_log: Server
) -> None:
    """Without s3:ListBucket S3 answers 403 for what is missing, too: the message names both."""
    for verb in ("GET", "LIST"):
        requests_log.fail(Fault(verb, ALWAYS, status=403, code="AccessDenied"))
    told = trouble(backend, lambda each: each.read("objects/a"))
    assert (
        f"the object is missing, or these AWS credentials lack s3:GetObject on {bucket.name}/team/objects/a"
        in told
    )
    assert f"s3:ListBucket on {bucket.name}" in told


@pytest.mark.parametrize("operation", ["read", "read_range"])
def test_archived_object(backend: S3Backend, bucket: Bucket, requests_log: Server, operation: str) -> None:
    """An object in an archive class is not missing: the message has the command that restores it."""
    detail = "<StorageClass>GLACIER</StorageClass>"
    requests_log.fail(Fault("GET", status=403, code="InvalidObjectState", detail=detail))
    told = trouble(backend, OPERATIONS[operation][1])
    assert "the object is archived (GLACIER)" in told
    assert f"aws s3api restore-object --bucket {bucket.name} --key team/objects/a" in told


def test_unknown_answer(backend: S3Backend, requests_log: Server) -> None:
    """An answer with an unknown code quotes the server's own sentence."""
    requests_log.fail(Fault("GET", status=418, code="Teapot"))
    told = trouble(backend, lambda each: each.read("objects/a"))
    assert 'the server answers 418 Teapot and says "ordered by a test": check the remote' in told
