"""What the clients of S3 and of web servers raise, by name: loading a client takes long, and few processes need one."""

import sys


def client_errors(*names: str) -> tuple[type[Exception], ...]:
    """Return those of the classes `module.Class` whose module is loaded: no other can have been raised."""
    parts = (name.rpartition(".") for name in names)
    return tuple(getattr(sys.modules[module], kind) for module, _, kind in parts if module in sys.modules)


def http_status(error: BaseException) -> int | None:
    """Return the status with which a web server has answered, if that is the error."""
    if isinstance(error, client_errors("aiohttp.ClientResponseError")):
        return int(error.status)  # type: ignore[attr-defined]
    return None
