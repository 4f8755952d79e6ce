"""Arrow as this room uses it, typed loosely: its stubs know fewer calls than it has."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute

ArrowArray: TypeAlias = Any
compute: Any = pyarrow.compute


def array(values: Any, kind: Any = None, mask: Any = None) -> ArrowArray:
    """An Arrow array of `values`; null where `mask` is true."""
    return pa.array(values, kind, mask=mask)


def nulls(count: int, kind: Any) -> ArrowArray:
    """An Arrow array of nulls."""
    return pa.nulls(count, kind)


def packed(kind: pa.DataType, rows: Any) -> ArrowArray:
    """An array of a fixed-width type from the bytes of a numpy array, one row each."""
    held: Any = np.ascontiguousarray(rows)
    return pa.Array.from_buffers(kind, len(held), [None, pa.py_buffer(held)])
