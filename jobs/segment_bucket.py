"""Segment every image of a bucket: `deeplab-buckets segment` as a script, for `ray job submit`."""

import sys

from pipeline.commands.segment import command

if __name__ == "__main__":
    sys.exit(command.main())
