"""Builds a CUDA source into a library that the CPU runs, in three ways: plain, sanitized, and watched for races.

The source goes into an unnamed namespace unchanged, so that its `__shared__` arrays are local symbols, which the address
sanitizer guards. Only `extern __shared__`, which C++ cannot say, is rewritten.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_COMMON = ["-std=c++17", "-fPIC", "-g", "-fvisibility=hidden", "-ffp-contract=off", "-Wno-unknown-pragmas", f"-I{HERE}"]
FLAVOURS = {  # the sanitizers take much longer to build with -O1
    "plain": ["-O1"],
    "sanitized": ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "race": ["-O1"],
}
_WATCHED = ["-fsanitize=thread", "-Wno-tsan"]  # of the kernels alone: the functions it calls are those of detect.cpp
_RUNTIME = threading.Lock()  # one builds it, others wait
_DYNAMIC = re.compile(r"extern\s+__shared__\s+((?:__align__\(\d+\)\s+)?)([\w:]+(?:\s+[\w:]+)*?)\s+(\w+)\s*\[\s*\]\s*;")


class BuildError(Exception):
    """The compiler's messages."""


@dataclass(frozen=True)
class Patch:
    """A planted fault: `old`, which stands once in the file called `file`, becomes `new`. "" is the source itself."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        if text.count(self.old) != 1:
            where = self.file or "the source"
            raise BuildError(f"a planted fault no longer fits: {self.old!r} stands {text.count(self.old)} times in {where}")
        return text.replace(self.old, self.new)


def unavailable() -> str | None:
    """Why nothing can be built here, or None."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return (
            f"the CPU emulation of kernels is written for Linux on x86-64, this is {platform.system()} on {platform.machine()}"
        )
    missing = [tool for tool in ("g++", "nm") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    runtime = sanitizer_runtime()
    return None if Path(runtime).is_absolute() else f"g++ has no address sanitizer ({runtime}): install libasan"


def sanitizer_runtime() -> str:
    """The library that a sanitized process loads first; its bare name if g++ has none."""
    return _run(["g++", "-print-file-name=libasan.so"]).strip()


@dataclass(frozen=True)
class Compiler:
    """Builds into a folder, each source once."""

    folder: Path

    def build(self, code: str, options: Sequence[str], flavour: str = "plain", patches: Sequence[Patch] = ()) -> Path:
        """The library of a source, with the options that NVRTC would get (-I, -D). BuildError if it does not compile."""
        options, patches = tuple(options), tuple(patches)
        key = hashlib.sha256(repr((code, options, flavour, patches)).encode()).hexdigest()[:16]
        folder = self.folder / key
        library = folder / "kernels.so"
        if library.exists():
            return library
        folder.mkdir(parents=True, exist_ok=True)
        code, options = patched(code, options, patches, folder)
        flags = [*_COMMON, *FLAVOURS[flavour], *(o for o in options if o.startswith(("-I", "-D")))]
        code = _DYNAMIC.sub(r"\2* const \3 = static_cast<\2*>(shim::dynamic_shared());", code)
        (folder / "kernels.cpp").write_text(_wrap(code, _kernels(folder, code, flags)))
        watch = _WATCHED if flavour == "race" else []
        _run(["g++", *flags, *watch, "-c", str(folder / "kernels.cpp"), "-o", str(folder / "kernels.o")])
        link = ["-fsanitize=address,undefined"] if flavour == "sanitized" else []
        objects = [folder / "kernels.o", *self._runtime(flavour)]
        _run(["g++", "-shared", *link, "-o", f"{library}.part", *map(str, objects), "-ldl"])
        Path(f"{library}.part").rename(library)
        return library

    def _runtime(self, flavour: str) -> list[Path]:
        watcher = "detect.cpp" if flavour == "race" else "unwatched.cpp"
        objects = []
        with _RUNTIME:
            for source in (HERE / "runtime.cpp", HERE / watcher):
                out = self.folder / f"{source.stem}_{flavour}.o"
                if not out.exists():
                    _run(["g++", *_COMMON, *FLAVOURS[flavour], "-c", str(source), "-o", str(out)])
                objects.append(out)
        return objects


def _wrap(code: str, names: Sequence[str]) -> str:
    """The source and, for each kernel, a function that Python can call. Headers of C++ come first: they must not be nested."""
    inside = "".join(f"using namespace {name};\n" for name in dict.fromkeys(re.findall(r"^namespace ([\w:]+) \{", code, re.M)))
    exports = "".join(
        f"SHIM_PUBLIC const char* shim_run_{name}(void* const* arguments, const shim::Shape* shape) "
        f"{{ return shim::run({name}, arguments, *shape); }}\n"
        f"SHIM_PUBLIC int shim_slots_{name}(int* out) {{ return shim::slots({name}, out); }}\n"
        for name in names
    )
    return (
        '#include "runtime.hpp"\n#define SHIM_PUBLIC extern "C" __attribute__((visibility("default")))\n'
        f'namespace {{\n#line 1 "kernels.cu"\n{code}\n{inside}}}\n{exports}'
    )


def _kernels(folder: Path, code: str, flags: Sequence[str]) -> list[str]:
    """Names of the kernels that are left after the preprocessor: `__global__`, which it does not know, stays as it is."""
    source = folder / "names.cu"
    source.write_text(code)
    text = _run(["g++", *flags, "-E", "-P", "-x", "c++", str(source)])
    return re.findall(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(", text)


def patched(code: str, options: tuple[str, ...], patches: Sequence[Patch], folder: Path) -> tuple[str, tuple[str, ...]]:
    """A source with its planted faults, and options that name a copy of the headers in `folder` if one of them is changed."""
    for patch in patches:
        code = code if patch.file else patch.apply(code)
    if not any(patch.file for patch in patches):
        return code, options
    given = [Path(o[2:]) for o in options if o.startswith("-I")]
    root, copy = min(given, key=lambda path: len(path.parts)), folder / "headers"
    shutil.copytree(root, copy, ignore=lambda _, names: [n for n in names if "." in n and not n.endswith((".hpp", ".cuh"))])
    for patch in patches:
        found = list(copy.rglob(patch.file)) if patch.file else []
        if patch.file and len(found) != 1:
            raise BuildError(f"a planted fault no longer fits: {len(found)} files are called {patch.file}")
        for path in found:
            path.write_text(patch.apply(path.read_text()))
    return code, tuple(f"-I{copy / Path(o[2:]).relative_to(root)}" if o.startswith("-I") else o for o in options)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise BuildError(f"{' '.join(command)}\n{done.stderr[:4000]}")
    return done.stdout
