"""What the clients of storages raise, by name: loading a client takes long, and few processes need one."""

import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any

CLIENT_ERRORS = (
    *("botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError", "aiohttp.ClientError"),
    *("azure.core.exceptions.AzureError", "gcsfs.retry.HttpError", "google.auth.exceptions.GoogleAuthError"),
)
"""What they raise that is no OSError."""

NO_ANSWERS = (
    *("botocore.exceptions.ConnectionError", "botocore.exceptions.HTTPClientError", "aiohttp.ClientError"),
    *("azure.core.exceptions.ServiceRequestError", "azure.core.exceptions.ServiceResponseError"),
    *("requests.exceptions.ConnectionError", "requests.exceptions.Timeout", "google.auth.exceptions.TransportError"),
)
"""What they raise where no server has answered, of all that has no status; gcsfs uses requests for some."""

_OF_CREDENTIALS = (
    *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"),
    *("SignatureDoesNotMatch", "RequestTimeTooSkewed"),
)
"""Codes by which S3 refuses what would be any object."""

_BOTO_LOGINS = (
    *("NoCredentialsError", "PartialCredentialsError", "UnknownCredentialError", "ProfileNotFound", "NoAuthTokenError"),
    *("CredentialRetrievalError", "MetadataRetrievalError", "TokenRetrievalError", "SSOError", "LoginError"),
)
_NO_CREDENTIALS = (
    *(f"botocore.exceptions.{name}" for name in _BOTO_LOGINS),
    *("google.auth.exceptions.GoogleAuthError", "azure.core.exceptions.ClientAuthenticationError"),
)
"""What clients raise where they find no credentials, or cannot get any."""

_STATUSES: dict[str, Callable[[Any], Any]] = {
    "aiohttp.ClientResponseError": attrgetter("status"),
    "azure.core.exceptions.HttpResponseError": attrgetter("status_code"),
    "gcsfs.retry.HttpError": attrgetter("code"),
    "botocore.exceptions.ClientError": lambda error: error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"),
}
"""How an error tells the status of the server's answer, by its class."""


def client_errors(*names: str) -> tuple[type[Exception], ...]:
    """Return those of the classes `module.Class` whose module is loaded: no other can have been raised.

    Another thread may be loading a module, which has no such class yet.
    """
    parts = (name.rpartition(".") for name in names)
    found = (getattr(sys.modules.get(module), kind, None) for module, _, kind in parts)
    return tuple(kind for kind in found if kind is not None)


def http_status(error: BaseException | None) -> int | None:
    """Return the status with which a server has answered, if that is the error."""
    status = next((of(error) for name, of in _STATUSES.items() if isinstance(error, client_errors(name))), None)
    return None if status is None else int(status)


def s3_code(error: BaseException | None) -> str:
    """Return the code by which S3 says what is wrong, such as NoSuchKey, of an error of s3fs; empty for any other."""
    answer: Any = error.__cause__ if isinstance(error, OSError) else error
    is_of_s3 = isinstance(answer, client_errors("botocore.exceptions.ClientError"))
    return str(answer.response["Error"].get("Code", "")) if is_of_s3 else ""


def refuses_all(error: BaseException | None) -> bool:
    """Tell whether a client has no credentials, or S3 refuses them with an error of s3fs, and so any object."""
    has_none = isinstance(error, client_errors(*_NO_CREDENTIALS)) and http_status(error) is None
    return has_none or s3_code(error) in _OF_CREDENTIALS
