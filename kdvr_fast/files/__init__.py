"""Data in files, larger than memory: `open_data` and what it gives."""

from ._columns import Columns
from ._dataset import DataSet
from ._open import open_data

__all__ = ["Columns", "DataSet", "open_data"]
