"""Search the dense CRF's parameters: `deeplab-buckets search-crf` as a script, for `ray job submit`."""

import sys

from pipeline.commands.search_crf import command

if __name__ == "__main__":
    sys.exit(command.main())
