"""List the networks: `deeplab-buckets models` as a script, for `ray job submit`."""

import sys

from pipeline.commands.models import command

if __name__ == "__main__":
    sys.exit(command.main())
