"""Train a network: `deeplab-buckets train` as a script, for `ray job submit`."""

import sys

from pipeline.commands.train import command

if __name__ == "__main__":
    sys.exit(command.main())
