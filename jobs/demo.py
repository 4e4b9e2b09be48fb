"""Segment generated scenes: `deeplab-buckets demo` as a script, for `ray job submit`."""

import sys

from pipeline.commands.demo import command

if __name__ == "__main__":
    sys.exit(command.main())
