"""Score a model: `deeplab-buckets evaluate` as a script, for `ray job submit`."""

import sys

from pipeline.commands.evaluate import command

if __name__ == "__main__":
    sys.exit(command.main())
