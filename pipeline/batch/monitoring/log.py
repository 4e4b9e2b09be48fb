"""One JSON object a line on stderr, which Ray keeps in its logs, for an operator to search later."""

import json
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime


def log(event: str, *, run_id: str, **fields: object) -> None:
    """Write down `event` of a run with this host's name; an image's fields include its key."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "event": event, "run_id": run_id, "host": socket.gethostname()} | fields
    with suppress(OSError):  # a full disk behind the log ends no worker
        print(json.dumps(line), file=sys.stderr, flush=True)
