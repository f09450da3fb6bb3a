"""Parquet, Arrow IPC (Feather) and CSV files as record batches, few rows at a time, by pyarrow.

Source: https://arrow.apache.org/docs/python
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._idx import opened

_BLOCK_BYTES = 1 << 20  # of a file read at once
_BATCH_NUMBERS = 1 << 20  # of a batch


def require_arrow(path: Path) -> None:
    """Raise ImportError, with what to install, where pyarrow is not."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{path} is read by pyarrow: pip install 'kdvr_fast[arrow]'") from error


@dataclass(frozen=True)
class TableFiles:
    """Files of one format, "parquet", "arrow" or "csv", read one after the other as one table."""

    paths: Sequence[Path]
    kind: str

    def names(self) -> list[str]:
        """Names of the columns of the first file."""
        return list(self._schema(self.paths[0]).names)

    def batches(self, columns: Sequence[str], width: int) -> Iterator[Any]:
        """All rows of some columns; width: numbers that a row becomes, about."""
        rows = max(1024, min(65536, _BATCH_NUMBERS // max(width, 1)))
        for path in self.paths:
            there = self._schema(path).names
            absent = [name for name in columns if name not in there]
            if absent:
                raise ValueError(f"{path}: there is no column {absent[0]!r}, which {self.paths[0].name} has")
            for batch in self._read(path, list(columns), rows):
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)

    def _schema(self, path: Path) -> Any:
        if self.kind == "parquet":
            import pyarrow.parquet as pq

            return pq.read_schema(path)
        if self.kind == "arrow":
            import pyarrow as pa

            with pa.OSFile(str(path)) as file:
                return pa.ipc.open_file(file).schema
        with _csv(path, None) as reader:
            return reader.schema

    def _read(self, path: Path, columns: list[str], rows: int) -> Iterator[Any]:
        if self.kind == "parquet":
            import pyarrow.parquet as pq

            # a buffer, and no reading ahead: a column chunk may hold all rows of the file
            with pq.ParquetFile(path, memory_map=False, buffer_size=_BLOCK_BYTES, pre_buffer=False) as file:
                yield from file.iter_batches(batch_size=rows, columns=columns, use_threads=False)
        elif self.kind == "arrow":
            import pyarrow as pa

            with pa.OSFile(str(path)) as file:
                reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(use_threads=False))
                for i in range(reader.num_record_batches):
                    yield reader.get_batch(i).select(columns)
        else:
            yield from self._csv_batches(path, columns)

    def _csv_batches(self, path: Path, columns: list[str]) -> Iterator[Any]:
        """Types are those of the first block, but whole numbers may become others further on."""
        import pyarrow as pa

        whole = pa.types.is_integer, pa.types.is_null
        types = {f.name: pa.float64() for f in self._schema(path) if any(test(f.type) for test in whole)}
        try:
            with _csv(path, columns, types) as reader:
                yield from reader
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path}: {error}") from error


def _csv(path: Path, columns: list[str] | None, types: dict[str, Any] | None = None) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    tabs = ".tsv" in path.suffixes
    with opened(path):  # so that what is missing is told by Python's own error
        pass
    stream = pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None)
    try:
        return csv.open_csv(
            stream,
            read_options=csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=csv.ParseOptions(delimiter="\t" if tabs else ","),
            convert_options=csv.ConvertOptions(include_columns=columns, column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}") from error
