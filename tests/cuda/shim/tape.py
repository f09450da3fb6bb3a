"""Launches on tape: recorded once from a real run, then played on other builds, schedules and planted faults.

A tape holds of each launch the memory before and after it. To play it means to give the memory before, and to compare after.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from device.launch import Call, Slot
from device.memory import Memory

from .build import sanitizer_runtime
from .library import Library, ShimError

_HERE = Path(__file__).parent


@dataclass
class Launch:
    """`arguments`: numbers, or (buffer, offset) of an address. before, after: the bytes of each buffer."""

    name: str
    blocks: int
    threads: int
    shared: int
    arguments: list[Any]
    before: list[bytes]
    after: list[bytes] = field(default_factory=list)


Tape = list[Launch]


class Recorder:
    """An engine that writes what another runs on a tape."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.tape = engine, Tape()

    def compile(self, code: str, options: Sequence[str], memory: Memory) -> Any:
        self.code, self.options = code, tuple(options)
        return _Recording(self, self.engine.compile(code, options, memory), memory)


class _Recording:
    def __init__(self, recorder: Recorder, module: Any, memory: Memory) -> None:
        self.recorder, self.module, self.memory = recorder, module, memory

    def slots(self, name: str) -> list[Slot]:
        slots: list[Slot] = self.module.slots(name)
        return slots

    def launch(self, call: Call) -> None:
        blocks, arguments = list[Any](), list[Any]()
        for value in call.arguments:
            block = self.memory.at(int(value)) if value.dtype == np.uint64 else None
            if block is None:
                arguments.append(value)
                continue
            if block not in blocks:
                blocks.append(block)
            arguments.append((blocks.index(block), int(value) - block.address))
        launch = Launch(call.name, call.blocks, call.threads, call.shared, arguments, [b.bytes.tobytes() for b in blocks])
        self.module.launch(call)
        launch.after = [b.bytes.tobytes() for b in blocks]
        self.recorder.tape.append(launch)


def replay(library: Path, tape: Tape, seed: int = 0) -> list[str]:
    """Plays a tape: what was refused or seen, and where memory differs afterwards in any bit; [] if all is as it was."""
    loaded, findings = Library(library, seed), list[str]()
    for number, launch in enumerate(tape):
        memory = Memory()
        blocks = [memory.allocate(len(content)) for content in launch.before]
        for block, content in zip(blocks, launch.before, strict=True):
            block.bytes[:] = np.frombuffer(content, np.uint8)
        arguments = [np.uint64(blocks[a[0]].address + a[1]) if isinstance(a, tuple) else a for a in launch.arguments]
        call = Call(launch.name, launch.blocks, launch.threads, launch.shared, tuple(arguments))
        try:
            loaded.launch(call, [(block.address, block.nbytes) for block in blocks])
        except ShimError as error:
            findings.append(f"launch {number}: {error}")
        changed = [
            i for i, (block, after) in enumerate(zip(blocks, launch.after, strict=True)) if block.bytes.tobytes() != after
        ]
        if changed:
            findings.append(f"launch {number}: {launch.name} leaves other bits in buffers {changed}")
    return findings


def replay_sanitized(library: Path, tape: Tape, folder: Path, seed: int = 0) -> list[str]:
    """The same in a process of its own, under the address and undefined-behaviour sanitizers: their report is a finding."""
    stored = folder / f"tape_{os.getpid()}_{id(tape)}.pickle"
    stored.write_bytes(pickle.dumps(tape))
    environment = {
        **os.environ,
        "LD_PRELOAD": sanitizer_runtime(),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join([str(_HERE.parent), *sys.path]),
        "PYTHONMALLOC": "malloc",
    }
    command = [sys.executable, "-m", "shim.tape", str(library), str(stored), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        return done.stdout.splitlines()
    return [(done.stderr.strip() or f"the process ended with {done.returncode}")[:4000]]


if __name__ == "__main__":
    with open(sys.argv[2], "rb") as stored:
        found = replay(Path(sys.argv[1]), pickle.load(stored), int(sys.argv[3]))
    sys.stdout.write("".join(f"{line}\n" for line in found))
