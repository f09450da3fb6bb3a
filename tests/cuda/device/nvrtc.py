"""NVRTC through its C interface: CUDA C++ to PTX, without a driver or a device.

Source: NVIDIA, NVRTC, "Basic usage".
"""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

_CUPYS = ("-ftz=true",)  # what CuPy adds to the options of a RawModule
INSTALL = "pip install 'nvidia-cuda-nvrtc==13.0.*'"


class CompileError(Exception):
    """NVRTC's log."""


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The library, or why there is none. It looks for its builtins by name alone, so these are loaded first."""
    folders = [Path(entry) / "nvidia" / part / "lib" for entry in sys.path for part in ("cu13", "cuda_nvrtc")]
    folders += [Path("/usr/local/cuda/lib64")]
    for folder in folders:
        for library in sorted(folder.glob("libnvrtc.so.*")):
            if not re.fullmatch(r"libnvrtc\.so\.\d+", library.name):
                continue
            for builtins in folder.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(library))
    return f"NVRTC is not installed: {INSTALL}"


def unavailable() -> str | None:
    """Why nothing can be compiled here, or None."""
    found = _library()
    return found if isinstance(found, str) else None


@functools.lru_cache(maxsize=64)
def compile_ptx(code: str, options: Sequence[str], architecture: str = "compute_80") -> str:
    """PTX of a translation unit, with the lines of its source. CompileError with the log if it does not compile."""
    return _compile(code, [f"--gpu-architecture={architecture}", "-lineinfo", *_CUPYS, *options])[0]


def compile_log(code: str, options: Sequence[str], architecture: str) -> str:
    """What the assembler says of the machine code for a device such as "sm_90": registers, shared memory, spills."""
    verbose = [f"--ptxas-options={option}" for option in ("-v", "-warn-spills")]
    return _compile(code, [f"--gpu-architecture={architecture}", *verbose, *_CUPYS, *options])[1]


def _compile(code: str, options: Sequence[str]) -> tuple[str, str]:
    """PTX and log."""
    library = _library()
    if isinstance(library, str):
        raise CompileError(library)
    program = ctypes.c_void_p()
    encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None))
    try:
        if library.nvrtcCompileProgram(program, len(options), encoded):
            raise CompileError(_text(library, program, "ProgramLog"))
        return _text(library, program, "PTX"), _text(library, program, "ProgramLog")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise CompileError(library.nvrtcGetErrorString(status).decode())


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.value.decode()
