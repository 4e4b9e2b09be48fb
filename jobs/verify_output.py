"""Recount an output: `deeplab-buckets verify` as a script, for `ray job submit`."""

import sys

from pipeline.commands.verify import command

if __name__ == "__main__":
    sys.exit(command.main())
