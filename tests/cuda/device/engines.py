"""What runs a kernel: an engine has the kernels of a source, their parameters, and a way to launch one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from ptx import Entry, Program, Traffic, parse
from ptx.parser import DTYPES
from shim.build import Compiler, Patch, patched
from shim.library import Library

from .launch import Call, Slot
from .memory import Memory
from .nvrtc import compile_ptx


class Module(Protocol):
    """A compiled source."""

    def slots(self, name: str) -> list[Slot]:
        """The parameters of a kernel; KeyError or PTXError if there is none of that name."""

    def launch(self, call: Call) -> None:
        """Runs it to the end."""


class Engine(Protocol):
    """Compiles sources for a device's memory."""

    def compile(self, code: str, options: Sequence[str], memory: Memory) -> Module: ...


class PtxEngine:
    """NVRTC's PTX in the interpreter.

    traffic: counts the bytes of all launches by the labels of buffers. labels: of a kernel's first arguments, if it has more.
    planted: faults, and a folder for the headers that they change.
    """

    def __init__(
        self, traffic: Traffic | None = None, labels: Sequence[str] = (), planted: tuple[Sequence[Patch], Path] | None = None
    ) -> None:
        self.traffic, self.labels, self.planted = traffic, labels, planted

    def compile(self, code: str, options: Sequence[str], memory: Memory) -> Module:
        given = tuple(options)
        if self.planted is not None:
            code, given = patched(code, given, *self.planted)
        return _PtxModule(self, compile_ptx(code, given), memory)


class _PtxModule:
    def __init__(self, engine: PtxEngine, text: str, memory: Memory) -> None:
        self.engine, self.text, self.memory = engine, text, memory
        self.entries = dict[str, Entry]()
        self.programs: dict[tuple[str, int, int, int], Program] = {}

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            self.entries[name] = parse(self.text, name)
        return self.entries[name]

    def slots(self, name: str) -> list[Slot]:
        return [Slot(p.nbytes, "f" if DTYPES[p.type].kind == "f" else "i") for p in self._entry(name).parameters]

    def launch(self, call: Call) -> None:
        key = call.name, call.blocks, call.threads, call.shared
        if key not in self.programs:
            self.programs[key] = Program(self._entry(call.name), call.blocks, call.threads, self.memory, call.shared)
        if len(call.arguments) > len(self.engine.labels):
            for label, address in zip(self.engine.labels, call.arguments, strict=False):
                block = self.memory.at(int(address))
                if block is not None:
                    block.label = label
        self.programs[key].run(call.arguments, self.engine.traffic)


class ShimEngine:
    """The source itself, compiled by g++ and run on the CPU. `flavour`: "plain", or "race" to be watched."""

    def __init__(self, compiler: Compiler, flavour: str = "plain", seed: int = 0, patches: Sequence[Patch] = ()) -> None:
        self.compiler, self.flavour, self.seed, self.patches = compiler, flavour, seed, patches

    def compile(self, code: str, options: Sequence[str], memory: Memory) -> Module:
        library = Library(self.compiler.build(code, options, self.flavour, self.patches), self.seed)
        return _ShimModule(library, memory)


class _ShimModule:
    def __init__(self, library: Library, memory: Memory) -> None:
        self.library, self.memory = library, memory

    def slots(self, name: str) -> list[Slot]:
        return self.library.slots(name)

    def launch(self, call: Call) -> None:
        blocks = {self.memory.at(int(value)) for value in call.arguments if value.dtype == np.uint64} - {None}
        self.library.launch(call, [(block.address, block.nbytes) for block in blocks if block is not None])
