"""PTX text of one entry as data: parameters, registers, variables, instructions, labels.

Source: NVIDIA, Parallel Thread Execution ISA, chapters 4 (syntax) and 5 (state spaces, variables).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import PTXError

DTYPES = {
    name: np.dtype(code)
    for code, names in {
        "f2": "f16",
        "f4": "f32",
        "f8": "f64",
        "?": "pred",
        "u1": "u8 b8",
        "i1": "s8",
        "u2": "u16 b16",
        "i2": "s16",
        "u4": "u32 b32",
        "i4": "s32",
        "u8": "u64 b64",
        "i8": "s64",
    }.items()
    for name in names.split()
}

_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr[^,)]*?\s)?([\w$]+)(?:\[(\d+)\])?")
_VARIABLE = re.compile(r"(\.extern\s+)?\.(shared|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?$")
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)$", re.S)
_INSTRUCTION = re.compile(r"(?:@(!?)(%[\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)$", re.S)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*")


@dataclass(frozen=True)
class Instruction:
    """One instruction: `op` is its parts, "ld.global.f32" -> ("ld", "global", "f32"); `line` is "file:number" of the source."""

    op: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str | None = None
    negated: bool = False
    line: str = "?"

    def __str__(self) -> str:
        guard = "" if self.guard is None else f"@{'!' * self.negated}{self.guard} "
        return f"{guard}{'.'.join(self.op)} {', '.join(self.operands)}"


@dataclass(frozen=True)
class Parameter:
    """Where a parameter lies in the block of all parameters."""

    name: str
    type: str
    offset: int
    nbytes: int


@dataclass
class Space:
    """Variables of a state space with their offsets. `dynamic` is the array whose size the launch gives, after all others."""

    offsets: dict[str, int] = field(default_factory=dict)
    nbytes: int = 0
    dynamic: str | None = None

    def add(self, name: str, nbytes: int, align: int) -> None:
        self.nbytes = -(-self.nbytes // align) * align
        self.offsets[name] = self.nbytes
        self.nbytes += nbytes


@dataclass
class Entry:
    """A kernel."""

    name: str
    parameters: list[Parameter]
    registers: dict[str, str] = field(default_factory=dict)
    shared: Space = field(default_factory=Space)
    local: Space = field(default_factory=Space)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


def entries(text: str) -> list[str]:
    """Names of the kernels in a PTX module."""
    return re.findall(r"\.visible\s+\.entry\s+([\w$]+)\s*\(", text)


def parse(text: str, name: str) -> Entry:
    """The entry called `name`; PTXError if there is none, or if it needs what this interpreter does not have."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    head = re.search(rf"\.visible\s+\.entry\s+{re.escape(name)}\s*\(([^)]*)\)", text)
    if head is None:
        raise PTXError(f"no kernel {name!r} in this module; it has {', '.join(entries(text)) or 'none'}")
    entry = Entry(name, _parameters(head[1]))
    for match in re.finditer(r"^(?:\.extern )?\.shared\b[^;]*;", text, re.M):
        _declare(entry, match[0].rstrip(";"))
    files = {number: Path(name).name for number, name in re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', text, re.M)}
    reader = _Reader(entry, files)
    for statement, scope in _statements(_body(text, text.index("{", head.end()))):
        reader.take(statement, scope)
    unknown = [label for i in entry.instructions if i.op[0] == "bra" for label in i.operands if label not in entry.labels]
    if unknown:
        raise PTXError(f"kernel {name!r} jumps to {unknown[0]!r}, which is not in it")
    return entry


def _parameters(text: str) -> list[Parameter]:
    found, end = [], 0
    for align, kind, name, count in _PARAMETER.findall(text):
        size = DTYPES[kind].itemsize
        nbytes = size * int(count or 1)
        step = int(align or size)
        end = -(-end // step) * step
        found.append(Parameter(name, kind, end, nbytes))
        end += nbytes
    return found


def _body(text: str, start: int) -> str:
    """What stands between the brace at `start` and its partner."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + 1 : i]
    raise PTXError("the kernel's body does not end")


def _statements(body: str) -> list[tuple[str, int]]:
    """Statements and labels ("name:") with the number of their scope; a brace opens one only where a statement can begin."""
    body = re.sub(r"^\s*\.loc\s+(\d+\s+\d+)[^\n]*$", r".loc \1;", body, flags=re.M)
    found, current, scopes, count = list[tuple[str, int]](), "", [0], 0
    for piece in re.split(r"([;{}]|^\s*[\w$]+:(?!:))", body, flags=re.M):
        if piece == ";":
            found.append((current.strip(), scopes[-1]))
            current = ""
        elif piece == "{" and not current.strip():
            count += 1
            scopes.append(count)
        elif piece == "}" and not current.strip():
            scopes.pop()
        elif piece.endswith(":") and not current.strip():
            found.append((piece.strip(), scopes[-1]))
        else:
            current += piece
    return found


def _declare(entry: Entry, statement: str) -> None:
    match = _VARIABLE.match(statement)
    if match is None:
        raise PTXError(
            f"kernel {entry.name!r}: the interpreter does not know the declaration {' '.join(statement.split())[:80]!r}"
        )
    extern, space, align, kind, name, count = match.groups()
    variables = entry.shared if space == "shared" else entry.local
    if extern:
        variables.dynamic = name
    else:
        size = DTYPES[kind].itemsize
        variables.add(name, size * int(count or 1), int(align or size))


class _Reader:
    """Statements into an entry. A register declared in an inner scope gets a name of its own."""

    def __init__(self, entry: Entry, files: dict[str, str]) -> None:
        self.entry, self.files = entry, files
        self.line = "?"
        self.inner: dict[tuple[str, int], str] = {}

    def take(self, statement: str, scope: int) -> None:
        if statement.endswith(":"):
            self.entry.labels[statement[:-1]] = len(self.entry.instructions)
        elif statement.startswith(".loc "):
            file, number = statement.split()[1:]
            self.line = f"{self.files.get(file, file)}:{number}"
        elif (match := _REGISTERS.match(statement)) is not None:
            self._registers(match[1], match[2], scope)
        elif statement.startswith((".shared", ".local")):
            _declare(self.entry, statement)
        elif statement and not statement.startswith(".pragma"):
            self._instruction(statement, scope)

    def _registers(self, kind: str, names: str, scope: int) -> None:
        for name in (part.strip() for part in names.split(",")):
            many = re.fullmatch(r"(%[\w$]+)<(\d+)>", name)
            if many is not None:
                self.entry.registers.update({f"{many[1]}{i}": kind for i in range(int(many[2]))})
            elif scope:
                self.inner[name, scope] = f"{name}@{scope}"
                self.entry.registers[f"{name}@{scope}"] = kind
            else:
                self.entry.registers[name] = kind

    def _instruction(self, statement: str, scope: int) -> None:
        match = _INSTRUCTION.match(statement)
        if match is None:
            raise PTXError(f"kernel {self.entry.name!r}: not an instruction: {statement!r}")
        negated, guard, op, rest = match.groups()
        for (name, where), renamed in self.inner.items():
            if where == scope:
                rest = re.sub(re.escape(name) + r"(?![\w$])", renamed, rest)
        operands = tuple(part.strip() for part in _OPERAND.findall(rest))
        self.entry.instructions.append(Instruction(tuple(op.split(".")), operands, guard, bool(negated), self.line))
