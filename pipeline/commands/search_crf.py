"""Search the dense CRF's parameters: `deeplab-buckets search-crf --data URI --data-format voc --model M --output URI`.

OUTPUT/crf.yaml is for --config of the other commands; OUTPUT/crf.png shows what was tried. The last line of stdout is
the summary, one JSON object, scores in percent. Exit codes: 0 done; 2 arguments, data, weights or storage that cannot
be used; 1 anything else.
"""

import json
from typing import TYPE_CHECKING, Any

from pipeline.commands.command import Command, takes
from pipeline.evaluation.search_config import SearchConfig

if TYPE_CHECKING:
    from pipeline.evaluation.crf_search import SearchInputs


@takes(SearchConfig)
def search_crf(**flags: Any) -> dict[str, Any]:
    """Search the dense CRF's parameters for a model, coarse to fine, on labelled pictures.

    Returns:
        The summary: the best parameters, scores in percent, and where the files are.

    Raises:
        PipelineError: something that was given cannot be used, or a picture cannot be scored.
    """
    return command.run(flags)


def _prepare(config: SearchConfig) -> "SearchInputs":
    from pipeline.evaluation.crf_search import prepare

    return prepare(config)


def _work(ready: "SearchInputs") -> dict[str, Any]:
    from pipeline.evaluation.crf_search import search

    return search(ready)


command = Command(
    name="search-crf",
    config=SearchConfig,
    prepare=_prepare,
    work=_work,
    said=lambda _, summary: json.dumps(summary),
    uses_ray=True,
    sections={
        "what": ("data", "data_format", "split", "images", "model", "classes", "output"),
        "where it searches": (
            "bilateral_weight",
            "bilateral_xy",
            "bilateral_rgb",
            "gaussian_weight",
            "gaussian_xy",
            "label_costs",
        ),
    },
)
