"""What of a URI is written down: no secret, in whatever form; and in keys all that tells images apart."""

import pytest

from pipeline import storage
from pipeline.storage.uri import scrubbed


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("s3://AKIA:ab/cd+e@bucket/x", "s3://***@bucket/x"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/p/a@b.jpg", "s3://arn:aws:s3:eu-west-1:1:accesspoint/p/a@b.jpg"),
        ("abfs://key:secret@account.dfs.core.windows.net/x", "abfs://***@account.dfs.core.windows.net/x"),
        ("abfss://photos@account.dfs.core.windows.net/x", "abfss://photos@account.dfs.core.windows.net/x"),
        ("oci://bucket@namespace/x", "oci://bucket@namespace/x"),
        ("sftp://user@h/x", "sftp://***@h/x"),
        ("https://user:pass@h:8080/x", "https://***@h:8080/x"),
        ("https://h/x?X-Amz-Signature=abc&t=1", "https://h/x?X-Amz-Signature=***&t=***"),
        ("https://h/x?abc", "https://h/x?***"),
        ("https://h/x?abc&1700&a=1", "https://h/x?***&1700&a=***"),
        ("https://h/x#access_token=abc", "https://h/x#***"),
        ("https://h/x?a=1#?abc", "https://h/x?a=***#***"),
        ("https://h/x.jpg;jsessionid=abc?a=1", "https://h/x.jpg;jsessionid=***?a=***"),
        ("https://h/x;v=2/y", "https://h/x;v=2/y"),
        ("https://user:pass/secret@h/x", "https://***@h/x"),
        ("https://h:8080/x@2x.jpg", "https://h:8080/x@2x.jpg"),
        ("http://[::1]/x@2x.jpg", "http://[::1]/x@2x.jpg"),
        (
            "abfs://photos@account.dfs.core.windows.net/x?sig=abc",
            "abfs://photos@account.dfs.core.windows.net/x?sig=***",
        ),
        ("s3://b/x.jpg?a=1&X-Amz-Signature=abc&b=2", "s3://b/x.jpg?a=1&X-Amz-Signature=***&b=2"),
        ("simplecache::https://h/x?sig=abc", "simplecache::https://h/x?sig=***"),
        ("zip://a.jpg::ftp://user:pass@h/x.zip", "zip://a.jpg::ftp://***@h/x.zip"),
        ("s3://bucket/a#b?c=d", "s3://bucket/a#b?c=d"),
        ("/plain/path@home", "/plain/path@home"),
    ],
)
def test_redaction(uri: str, shown: str) -> None:
    assert storage.redact(uri) == shown
    assert all(secret not in scrubbed(f"403 of {uri}", uri) for secret in ("secret", "ab/cd+e", "pass", "abc"))


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("https://user:pass@h/get?id=1&w=640", "https://***@h/get?id=1&w=640"),
        ("https://h/get?id=1&access_token=abc", "https://h/get?id=1&access_token=***"),
        ("https://h/get?id=1;token=abc", "https://h/get?id=***"),
        ("https://h/get?X%2DApi%2DKey=abc&design=1&author=2", "https://h/get?X%2DApi%2DKey=***&design=1&author=2"),
        ("https://h/get?url=http%3A%2F%2Fh%2Fx%3Ftoken%3Dabc&id=1", "https://h/get?url=***&id=1"),
        (
            "https://h/x?X-Amz-Date=2&X-Amz-Signature=abc&x-id=Get",
            "https://h/x?X-Amz-Date=***&X-Amz-Signature=***&x-id=***",
        ),
        ("https://h/x?sv=2022-11-02&se=2026&sr=b&sig=abc", "https://h/x?sv=***&se=***&sr=***&sig=***"),
        ("https://h/x?Expires=1&Key-Pair-Id=2&Signature=abc", "https://h/x?Expires=***&Key-Pair-Id=***&Signature=***"),
        ("https://h/x?ex=1&is=2&hm=abc", "https://h/x?ex=***&is=***&hm=***"),
        ("https://h/get?abc", "https://h/get?***"),
        ("s3://bucket/get?key=1.jpg", "s3://bucket/get?key=1.jpg"),
        ("abfs://photos@account/x?sig=abc", "abfs://photos@account/x?sig=***"),
        ("/plain/get?token=abc", "/plain/get?token=abc"),
    ],
)
def test_what_of_a_uri_may_be_a_key(uri: str, key: str) -> None:
    """What changes with each signing is left out, and what tells images apart is not."""
    assert storage.redact_secrets(uri) == key


def test_a_long_address_is_redacted_as_quickly_as_a_short_one() -> None:
    for part in (":", "token", ";a", "x-amz-", "&sig", "@"):
        assert "***" in storage.redact(f"https://h/get?{part * 100_000}&token=abc")
