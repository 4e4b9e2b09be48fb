"""The flags that choose columns of tables, for the configurations of all jobs that read some."""

from dataclasses import dataclass

from pipeline.data.formats.format import ColumnNames


@dataclass(frozen=True, kw_only=True)
class ColumnFlags:
    """Choose the columns of tables. What is not chosen is decided by the rule in columns.py.

    Args:
        image_column: of tables (Parquet): the column of pictures; without, chosen by names and types.
        key_column: of tables: the column that names the pictures; without, chosen by names.
    """

    image_column: str | None = None
    key_column: str | None = None

    @property
    def columns(self) -> ColumnNames:
        """Give the columns that are chosen."""
        return ColumnNames(image=self.image_column, key=self.key_column)


@dataclass(frozen=True, kw_only=True)
class LabelledColumnFlags(ColumnFlags):
    """Choose the columns of tables of labelled pictures.

    Args:
        mask_column: of tables: the column of masks; without, chosen by names.
    """

    mask_column: str | None = None

    @property
    def columns(self) -> ColumnNames:
        """Give the columns that are chosen."""
        return ColumnNames(image=self.image_column, key=self.key_column, mask=self.mask_column)
