"""Hand masks on to other tools: `deeplab-buckets export` as a script, for `ray job submit`."""

import sys

from pipeline.commands.export import command

if __name__ == "__main__":
    sys.exit(command.main())
