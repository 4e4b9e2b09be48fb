"""Read an export with the tool it is for, run by an interpreter that has it: `read_with_tools.py TOOL EXPORT MASKS`.

MASKS is a folder of the masks as PNGs, under the names that files of the export have. Ends with 0 where all agree.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.dom import minidom

import numpy as np
from PIL import Image

Named = Iterator[tuple[str, np.ndarray]]


def label_studio(folder: Path) -> Named:
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.label_interface import LabelInterface

    interface = (folder / "labels.xml").read_text()
    names = [label.getAttribute("value") for label in minidom.parseString(interface).getElementsByTagName("Label")]
    for task in json.loads((folder / "tasks/part-00000.json").read_text()):
        (prediction,) = task["predictions"]
        assert LabelInterface(interface).validate_prediction(prediction)
        first = prediction["result"][0]
        mask = np.full((first["original_height"], first["original_width"]), 255, np.uint8)
        for result in prediction["result"]:
            drawn = np.reshape(decode_rle(result["value"]["rle"]), (*mask.shape, 4))[:, :, 3]
            mask[drawn > 0] = names.index(result["value"]["brushlabels"][0])
        yield task["data"]["key"], mask


def fiftyone(folder: Path) -> Named:
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    from fiftyone.utils.data import ImageSegmentationDirectoryImporter

    with ImageSegmentationDirectoryImporter(dataset_dir=str(folder)) as importer:
        for path, _, label in importer:
            yield os.path.relpath(path, folder / "data").rpartition(".")[0], label.get_mask()


def cvat(folder: Path) -> Named:
    """Read with Datumaro, by which CVAT imports."""
    from datumaro import AnnotationType, Dataset

    dataset = Dataset.import_from(str(folder), "voc_segmentation")
    names = [label.name for label in dataset.categories()[AnnotationType.label].items]
    classes = [line.split(":")[0] for line in (folder / "labelmap.txt").read_text().splitlines()[1:]]
    for item in dataset:
        mask = np.full(item.annotations[0].image.shape, 255, np.uint8)
        for annotation in item.annotations:
            mask[np.asarray(annotation.image).astype(bool)] = classes.index(names[annotation.label])
        yield item.id, mask


def panoptic(folder: Path) -> Named:
    """Read with Datumaro, which looks for the folders of COCO's specification."""
    from datumaro import Dataset

    (folder / "images").mkdir()
    for item in Dataset.import_from(str(folder), "coco_panoptic"):
        mask = np.full(item.annotations[0].image.shape, 255, np.uint8)
        for annotation in item.annotations:
            mask[np.asarray(annotation.image).astype(bool)] = annotation.label
        yield item.id, mask


def huggingface(folder: Path) -> Named:
    """Read with a `datasets` that is older than the one of the other tests."""
    from datasets import load_dataset

    for one in load_dataset(str(folder), split="train", cache_dir=f"{folder}-cache"):
        yield one["key"], np.array(one["mask"])


def main(tool: str, folder: str, masks: str) -> int:
    expected = {str(path.relative_to(masks))[:-4]: path for path in Path(masks).rglob("*.png")}
    readers = {"label-studio": label_studio, "fiftyone": fiftyone, "png": cvat}
    readers |= {"coco-panoptic": panoptic, "huggingface": huggingface}
    for name, mask in readers[tool](Path(folder)):
        with Image.open(expected.pop(name)) as image:
            np.testing.assert_array_equal(mask, np.array(image))
    assert not expected, f"not read: {', '.join(expected)}"
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
