"""Hand masks on to other tools: `deeplab-buckets export OUTPUT --to FORMAT --destination URI`.

Needs no Ray. The same command continues an export that was stopped. The last line of stdout is one JSON object. Exit
codes: 0 done; 2 arguments that cannot be used; 1 anything else, such as an output that cannot be read.
"""

from typing import Any

from pipeline.commands.command import OUTPUT, Command, takes
from pipeline.exports.export import Export, ExportConfig
from pipeline.exports.export import export as write


@takes(ExportConfig)
def export(**flags: Any) -> Export:
    """Write the masks of an output in a format that another tool reads.

    Returns:
        Where the export is, and how many images it has.

    Raises:
        PipelineError: something that was given cannot be used, or a storage does not answer; the same call goes on.
    """
    return command.run(flags)


command = Command(
    name="export",
    config=ExportConfig,
    prepare=lambda config: config,
    work=write,
    said=lambda _, made: made.to_json(),
    uses_ray=False,
    interrupted="interrupted; the same command continues from there",
    positional=OUTPUT,
    sections={
        "what": ("output", "to", "destination", "generation", "input"),
        "which images": ("classes", "min_confidence", "max_confidence", "keys"),
    },
)
