"""Choose the images most worth labelling: `deeplab-buckets select` as a script, for `ray job submit`."""

import sys

from pipeline.commands.select import command

if __name__ == "__main__":
    sys.exit(command.main())
