"""Choose the images most worth labelling: `deeplab-buckets select OUTPUT --count N --by RULE --to LIST.csv`.

Needs no Ray. --keys of export and --only-keys of segment take the list. The last line of stdout is one JSON object.
Exit codes: 0 done; 2 arguments that cannot be used; 1 anything else, such as an output that cannot be read.
"""

from typing import Any

from pipeline.commands.command import OUTPUT, Command, takes
from pipeline.exports.selection import SelectConfig, Selection
from pipeline.exports.selection import select as choose


@takes(SelectConfig)
def select(**flags: Any) -> Selection:
    """Choose the images of an output that are most worth labelling, and write the list of their keys.

    Returns:
        Where the list is, and how many keys it has.

    Raises:
        PipelineError: something that was given cannot be used, or a storage does not answer.
    """
    return command.run(flags)


command = Command(
    name="select",
    config=SelectConfig,
    prepare=lambda config: config,
    work=choose,
    said=lambda _, chosen: chosen.to_json(),
    uses_ray=False,
    interrupted="interrupted; nothing was written",
    positional=OUTPUT,
)
