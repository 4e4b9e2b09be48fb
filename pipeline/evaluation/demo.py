"""The main job on generated scenes, with the truth beside them: without and with the dense CRF."""

import io
import posixpath
import tarfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline import images, masks, storage
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.run import segment
from pipeline.evaluation.demo_config import DemoConfig
from pipeline.metrics import SegmentationScore
from pipeline.refine import RefineConfig
from pipeline.reports.contact_sheet import Row, contact_sheet
from pipeline.reports.report import ReportConfig, report
from pipeline.runtime.progress import say
from pipeline.scenes import CLASSES, PALETTE, write_shards
from pipeline.storage import Uri

ROWS_SHOWN = 8

Masks = dict[str, NDArray[np.uint8]]


def demo(config: DemoConfig) -> str:
    """Run the demo; returns the scores and where the masks are."""
    output = storage.normalize(config.output)
    scenes = storage.join(output, "scenes")
    say(f"generating {config.scenes} scenes")
    write_shards(scenes, config.scenes, config.seed, per_shard=20)
    runs = {"network": RefineConfig(backend="none"), "refined": RefineConfig()}
    for name, refine in runs.items():
        say(f"segmenting them, {'with' if name == 'refined' else 'without'} the dense CRF")
        source = storage.join(scenes, "images")
        place = Uri(storage.join(output, name))
        segment(check(RunConfig(input=Uri(source), output=place, model=Uri("scenes"), refine=refine)))
    truth = dict(masks.read(storage.join(scenes, "truth")))
    predicted = {name: dict(masks.read(storage.join(output, name))) for name in runs}
    before, after = (100 * score(truth, predicted[name]).mean_iou for name in ("network", "refined"))
    sheet = storage.join(output, "contact_sheet.png")
    rows = list(_rows(scenes, truth, predicted["network"], predicted["refined"]))
    storage.put_whole(sheet, contact_sheet(rows, np.array(PALETTE, np.uint8), CLASSES))
    page = storage.join(output, "report.html")
    network, refined = (Uri(storage.join(output, name)) for name in runs)
    report(ReportConfig(output=refined, network=network, to=Uri(page)))
    return (
        f"scenes: {len(truth)}, classes: {len(CLASSES)}\n"
        f"mean IoU, network alone: {before:.2f}\n"
        f"mean IoU, with the dense CRF: {after:.2f}\n"
        f"contact sheet: {sheet}\n"
        f"report: {page}\n"
        f"masks: {storage.join(output, 'refined', masks.MASKS_FOLDER)}"
    )


def score(truth: Masks, predicted: Masks) -> SegmentationScore:
    """Pool the score over all scenes."""
    total = SegmentationScore(len(CLASSES))
    for key, mask in truth.items():
        total.update(mask, predicted[key])
    return total


def _rows(scenes: str, truth: Masks, network: Masks, refined: Masks) -> Iterator[Row]:
    for key, image in _first_images(storage.join(scenes, "images"), ROWS_SHOWN):
        before, after = (100 * score({key: truth[key]}, predicted).mean_iou for predicted in (network, refined))
        yield Row(
            key=key,
            image=image,
            truth=truth[key],
            network=network[key],
            refined=refined[key],
            note=f"mean IoU {before:.1f} -> {after:.1f}",
        )


def _first_images(uri: str, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    shard = min(entry.uri for entry in storage.list_files(uri))
    with tarfile.open(fileobj=io.BytesIO(storage.read_bytes(shard))) as archive:
        for member in archive.getmembers()[:count]:
            stream = archive.extractfile(member)
            if stream is not None:
                yield f"{posixpath.basename(shard)}/{member.name.removesuffix('.jpg')}", images.decode(stream.read())
