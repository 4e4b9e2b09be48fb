"""Write a report of an output: `deeplab-buckets report` as a script, for `ray job submit`."""

import sys

from pipeline.commands.report import command

if __name__ == "__main__":
    sys.exit(command.main())
