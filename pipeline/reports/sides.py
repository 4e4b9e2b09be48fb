"""A and B, the two sides of a comparison: which files of an output each is, and what these say of all images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline import masks
from pipeline.errors import ConfigError
from pipeline.masks import CommittedFile, DatasetInfo, MaskRows
from pipeline.masks.choosing import Highest, chances
from pipeline.reports.shortlist import Chosen
from pipeline.reports.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class Side:
    """A or B: its files, what they say of all images, and a random sample of these."""

    files: Sequence[CommittedFile]
    statistics: Statistics
    sample: Mapping[str, Chosen]

    @classmethod
    def read(cls, files: Sequence[CommittedFile], sampled: int) -> "Side":
        """Read the rows of files of one generation, newest first, and sample so many. Raises StorageError."""
        statistics, sample = Statistics(files[0].info.classes), Highest[Chosen](sampled)
        for rows in masks.newest_rows(files):
            if isinstance(rows, MaskRows):
                statistics.add(rows)
                sample.offer(chances(rows.keys), partial(Chosen.of, rows))
            else:
                statistics.add_failure(rows)
        return cls(files=files, statistics=statistics, sample={image.key: image for image in sample})

    @property
    def info(self) -> DatasetInfo:
        """Give the note of the newest file."""
        return self.files[0].info

    def images(self, keys: Sequence[str]) -> list[Chosen]:
        """Find the images of `keys`, most of which are in the sample. Raises StorageError."""
        missing = {key for key in keys if key not in self.sample}
        found = dict(self.sample)
        for rows in masks.newest_rows(self.files) if missing else ():
            if isinstance(rows, MaskRows):
                found |= {key: Chosen.of(rows, index) for index, key in enumerate(rows.keys) if key in missing}
        return [found[key] for key in dict.fromkeys(keys) if key in found]


def of_run(files: list[CommittedFile], run: str | None) -> list[CommittedFile]:
    """Choose the files that a run has written; all without one. Raises ConfigError where it has written no masks."""
    own = [file for file in files if run is None or file.info.run_id == run]
    if not any(not file.failed for file in own):
        runs = ", ".join(dict.fromkeys(file.info.run_id for file in files if not file.failed))
        raise ConfigError(f"no masks of run {run}; there are masks of {runs}")
    return own


def newest_days(output: str) -> tuple[list[CommittedFile], list[CommittedFile]]:
    """Find the files of the last day with masks before the newest, none where there is no such day, and of the newest.

    Newest first. Those of the newest day are of errors/ alone where every image failed. Raises StorageError.
    """
    every = masks.committed_files(output) or masks.generation_files(output)
    newest = day_of(every[0])
    before = next((day_of(file) for file in every if day_of(file) != newest and not file.failed), None)
    return _of_day(every, before) if before else [], _of_day(every, newest)


def _of_day(files: Sequence[CommittedFile], day: str) -> list[CommittedFile]:
    """Choose the files that the runs of a day have written; where these are of several generations, of the newest."""
    own = [file for file in files if day_of(file) == day]
    generation = next((file.info.generation for file in own if not file.failed), None)
    return [file for file in own if generation in (None, file.info.generation)]


def day_of(file: CommittedFile) -> str:
    """Give the day, in UTC, on which the run of a file began; a night may have taken several runs."""
    return file.info.run_id.partition("T")[0]
