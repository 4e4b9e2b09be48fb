"""Compare the masks of two outputs: `deeplab-buckets compare` as a script, for `ray job submit`."""

import sys

from pipeline.commands.compare import command

if __name__ == "__main__":
    sys.exit(command.main())
