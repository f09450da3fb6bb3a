"""An array on the emulated device: NumPy's behaviour on memory that the host may not touch by accident, as CuPy's is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from .memory import Block, Memory


class DeviceArray(NDArrayOperatorsMixin):
    """`block` keeps the memory alive; `_host` is a NumPy array over it, or over a part of it."""

    __slots__ = ("__weakref__", "_host", "block", "memory", "number")

    def __init__(self, memory: Memory, block: Block, host: NDArray[Any]) -> None:
        self.memory, self.block, self._host = memory, block, host
        self.number = 0  # of the device that it says it lies on

    @classmethod
    def empty(cls, memory: Memory, shape: Any, dtype: Any = np.float64, order: str = "C") -> DeviceArray:
        """Not yet written: all numbers are NaN, all integers -1."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        block = memory.allocate(count * dtype.itemsize)
        return cls(memory, block, block.view(dtype)[:count].reshape(shape, order=order))

    @classmethod
    def copy_of(cls, memory: Memory, values: Any, dtype: Any = None, order: str = "C") -> DeviceArray:
        """A copy of a NumPy array or of anything that becomes one."""
        values = np.asarray(values, dtype)
        out = cls.empty(memory, values.shape, values.dtype, order)
        out._host[...] = values
        return out

    # -- what CuPy refuses -----------------------------------------------------------------------------------------------

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        )

    # -- what it has -----------------------------------------------------------------------------------------------------

    def get(self) -> NDArray[Any]:
        """A copy on the host."""
        return self._host.copy()

    def set(self, values: NDArray[Any]) -> None:
        """From the host; of the same shape and type."""
        if not isinstance(values, np.ndarray) or values.shape != self.shape or values.dtype != self.dtype:
            raise TypeError("set() takes a NumPy array of the same shape and type")
        self._host[...] = values

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = None if self._host.flags.c_contiguous else self._host.strides
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.pointer, False), "version": 3, "strides": strides}

    @property
    def pointer(self) -> int:
        return int(self._host.ctypes.data)

    @property
    def data(self) -> Any:
        return _Pointer(self.pointer)

    device = property(lambda self: SimpleNamespace(id=self.number))
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: DeviceArray(self.memory, self.block, self._host.T))

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> DeviceArray:
        """A view for slices, a copy for index arrays; one number is an array of no dimensions."""
        return self._wrap(self._host[_host(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("a NumPy array cannot be assigned to a device array: use asarray")
        self._host[_host(key)] = _host(value)

    def __float__(self) -> float:
        return float(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __bool__(self) -> bool:
        return bool(self._host)

    def __index__(self) -> int:
        return self._host.__index__()

    def item(self) -> Any:
        return self._host.item()

    def _wrap(self, value: Any) -> Any:
        """A result of NumPy: a view of this block, or numbers of its own, which go to memory of the device."""
        if isinstance(value, np.ndarray) and np.shares_memory(value, self.block.bytes):
            return DeviceArray(self.memory, self.block, value)
        return DeviceArray.copy_of(self.memory, value)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if any(isinstance(value, np.ndarray) and value.ndim for value in inputs):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        if out is not None:
            kwargs["out"] = tuple(_host(value) for value in out)
        result = getattr(ufunc, method)(*(_host(value) for value in inputs), **kwargs)
        return out[0] if out is not None else self._wrap(result)


def _forward(name: str) -> Any:
    def method(self: DeviceArray, *args: Any, out: DeviceArray | None = None, **kwargs: Any) -> Any:
        if out is not None:
            getattr(self._host, name)(*map(_host, args), out=out._host, **kwargs)
            return out
        return self._wrap(getattr(self._host, name)(*map(_host, args), **kwargs))

    method.__name__ = name
    return method


_FORWARDED = "astype copy ravel reshape sum mean max min any all dot argmin argmax transpose cumsum view"
for _name in _FORWARDED.split():
    setattr(DeviceArray, _name, _forward(_name))
DeviceArray.fill = lambda self, value: self._host.fill(value)  # type: ignore[attr-defined]


class _Pointer:
    def __init__(self, address: int) -> None:
        self.ptr = address


def _host(value: Any) -> Any:
    """NumPy's array of a device array, also within keys."""
    if isinstance(value, DeviceArray):
        return value._host
    return tuple(map(_host, value)) if isinstance(value, tuple) else value
