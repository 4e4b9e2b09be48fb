"""Train the built-in model: `deeplab-buckets train-scenes` as a script, for `ray job submit`."""

import sys

from pipeline.commands.train_scenes import command

if __name__ == "__main__":
    sys.exit(command.main())
