"""An object with the names of CuPy that the CUDA backend uses, over the emulated device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np

from .array import DeviceArray
from .engines import Engine
from .launch import check_call
from .memory import Memory


class Stream:
    """Work is done when it is asked for, so there is nothing to wait for."""

    null: Stream
    ptr = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def synchronize(self) -> None: ...

    def use(self) -> Stream:
        return self


Stream.null = Stream()


class EmulatedCupy:
    """Stands in for the module `cupy`. `engine` runs the kernels, `multiprocessors` is what the device says of itself."""

    ndarray = DeviceArray
    float16, float32, float64, int32, int64, uint8, uint64 = (
        np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, np.uint64,
    )  # fmt: skip

    def __init__(self, engine: Engine, multiprocessors: int = 3) -> None:
        self.engine, self.memory = engine, Memory()
        self.launched: list[str] = []  # names of kernels, in their order
        device = SimpleNamespace(attributes={"MultiProcessorCount": multiprocessors}, id=0, compute_capability="80")
        device.synchronize = lambda: None
        self.cuda = SimpleNamespace(
            Stream=Stream,
            get_current_stream=lambda: Stream.null,
            Device=lambda index=0: device,
            runtime=SimpleNamespace(
                getDeviceCount=lambda: 1,
                CUDARuntimeError=RuntimeError,
                getDeviceProperties=lambda index: {"name": b"an emulated GPU", "multiProcessorCount": multiprocessors},
            ),
            is_available=lambda: True,
        )

    # -- arrays ----------------------------------------------------------------------------------------------------------

    def empty(self, shape: Any, dtype: Any = np.float64, order: str = "C") -> DeviceArray:
        return DeviceArray.empty(self.memory, shape, dtype, order)

    def full(self, shape: Any, value: Any, dtype: Any = None, order: str = "C") -> DeviceArray:
        out = self.empty(shape, np.asarray(value).dtype if dtype is None else dtype, order)
        out.fill(value)
        return out

    def zeros(self, shape: Any, dtype: Any = np.float64, order: str = "C") -> DeviceArray:
        return self.full(shape, 0, dtype, order)

    def ones(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        return self.full(shape, 1, dtype)

    def empty_like(self, like: DeviceArray, dtype: Any = None) -> DeviceArray:
        return self.empty(like.shape, like.dtype if dtype is None else dtype)

    def zeros_like(self, like: DeviceArray, dtype: Any = None) -> DeviceArray:
        return self.zeros(like.shape, like.dtype if dtype is None else dtype)

    def arange(self, *args: Any, dtype: Any = None) -> DeviceArray:
        return DeviceArray.copy_of(self.memory, np.arange(*args, dtype=dtype))

    def asarray(self, values: Any, dtype: Any = None, order: str = "C") -> DeviceArray:
        """No copy of a device array that is as wanted, and none of what another library holds on the device."""
        if not isinstance(values, DeviceArray) and hasattr(values, "__cuda_array_interface__"):
            values = self._foreign(values)
        if isinstance(values, DeviceArray):
            same = dtype is None or values.dtype == np.dtype(dtype)
            return values if same else values.astype(dtype)
        return DeviceArray.copy_of(self.memory, values, dtype, order)

    array = asarray

    def _foreign(self, values: Any) -> DeviceArray:
        interface = values.__cuda_array_interface__
        address = int(interface["data"][0])
        block = self.memory.at(address)
        if block is None:
            raise ValueError(f"__cuda_array_interface__ names memory that is not the emulated device's: {address:#x}")
        host = np.ndarray(
            interface["shape"], interface["typestr"], block.bytes, address - block.address, interface.get("strides")
        )
        return DeviceArray(self.memory, block, host)

    def from_dlpack(self, values: Any) -> DeviceArray:
        """CuPy's side of the protocol: where the array lies, then a capsule for the current stream (1 is the default one)."""
        kind, _ = values.__dlpack_device__()
        if kind != 2:
            raise TypeError(f"the emulated device takes DLPack arrays of CUDA (2), not of device type {kind}")
        try:
            capsule = values.__dlpack__(stream=1, max_version=(1, 0), dl_device=None, copy=None)
        except TypeError:  # a producer of the protocol's first version
            capsule = values.__dlpack__(stream=1)
        host = np.from_dlpack(_Capsule(capsule))
        block = self.memory.at(host.ctypes.data)
        if block is None:
            raise ValueError(f"a DLPack capsule names memory that is not the emulated device's: {host.ctypes.data:#x}")
        return DeviceArray(self.memory, block, host)

    def ascontiguousarray(self, values: Any, dtype: Any = None) -> DeviceArray:
        values = self.asarray(values, dtype)
        return values if values.flags.c_contiguous else values.copy()

    def asnumpy(self, values: Any) -> Any:
        return values.get() if isinstance(values, DeviceArray) else np.asarray(values)

    def matmul(self, a: DeviceArray, b: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
        return np.matmul(a, b) if out is None else np.matmul(a, b, out=out)

    def dot(self, a: DeviceArray, b: DeviceArray) -> DeviceArray:
        return self.matmul(a, b)

    def concatenate(self, arrays: Sequence[DeviceArray], axis: int = 0) -> DeviceArray:
        return DeviceArray.copy_of(self.memory, np.concatenate([a._host for a in arrays], axis))

    def __getattr__(self, name: str) -> Any:
        """Element by element CuPy has NumPy's functions."""
        function = getattr(np, name, None)
        if isinstance(function, np.ufunc):
            return function
        raise AttributeError(f"the emulated CuPy has no {name!r}; add it to tests/cuda/device/cupy.py")

    # -- kernels ---------------------------------------------------------------------------------------------------------

    def RawModule(self, *, code: str, options: Sequence[str] = (), backend: str = "nvrtc", **kwargs: Any) -> RawModule:
        if backend != "nvrtc" or kwargs.pop("name_expressions", None) or kwargs:
            raise TypeError(
                f"the emulated RawModule takes code, options and backend='nvrtc', not {backend!r}, {sorted(kwargs)}"
            )
        return RawModule(self, code, tuple(options))


class _Capsule:
    """A capsule that NumPy reads as one of the host, where emulated memory is."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class RawModule:
    """Compiles beside the work that goes on; a function that is asked for waits for it, and gets its error, as with CuPy."""

    _compilers = ThreadPoolExecutor(2)

    def __init__(self, device: EmulatedCupy, code: str, options: tuple[str, ...]) -> None:
        self.device = device
        self.module = self._compilers.submit(device.engine.compile, code, options, device.memory)

    def get_function(self, name: str) -> Function:
        return Function(self.device, self.module.result(), name)


class Function:
    """A kernel: call it with (grid, block, arguments, shared_mem=0, stream=None)."""

    def __init__(self, device: EmulatedCupy, module: Any, name: str) -> None:
        self.device, self.module, self.name, self.slots = device, module, name, module.slots(name)

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0, stream: Any = None) -> None:
        self.device.launched.append(self.name)
        self.module.launch(check_call(self.name, grid, block, args, shared_mem, self.slots))
