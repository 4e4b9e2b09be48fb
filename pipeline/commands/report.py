"""Write a report of an output to look at: `deeplab-buckets report OUTPUT`.

One HTML file with everything in it, at OUTPUT/report.html or where --to says; needs no Ray. The last line of stdout is
one JSON object, with the report's place. Exit codes: 0 done; 2 arguments that cannot be used; 1 anything else, such as
an output that cannot be read.
"""

from typing import Any

from pipeline.commands.command import OUTPUT, Command, takes
from pipeline.reports.report import Report, ReportConfig
from pipeline.reports.report import report as write


@takes(ReportConfig)
def report(**flags: Any) -> Report:
    """Write a report of an output: one HTML file that opens from disk.

    Returns:
        Where it is, and what it was made of.

    Raises:
        PipelineError: something that was given cannot be used, or a storage does not answer.
    """
    return command.run(flags)


command = Command(
    name="report",
    config=ReportConfig,
    prepare=lambda config: config,
    work=write,
    said=lambda _, made: made.to_json(),
    uses_ray=False,
    interrupted="interrupted; nothing was written",
    positional=OUTPUT,
)
