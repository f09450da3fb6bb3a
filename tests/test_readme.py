"""README against the code: its Python blocks print what is shown below them, and the files it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_examples import needs_native, needs_numba, run_python

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n((?:(?!```).)*)```\s+```text\n(.*?)```", README, flags=re.DOTALL)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
RELATIVE = 0.01  # the seed fixes the rows; the last digits move with the instruction set's order of summation


@needs_native
@pytest.mark.parametrize(
    "number", [pytest.param(i, marks=needs_numba if "numba" in shown else ()) for i, (_, shown) in enumerate(BLOCKS)]
)
def test_a_python_block_prints_what_is_shown(number: int, tmp_path: Path) -> None:
    code, shown = BLOCKS[number]
    printed = run_python("-c", code, cwd=tmp_path)
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    for got, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        assert float(got) == pytest.approx(float(expected), rel=RELATIVE), printed


def test_only_blocks_that_need_a_gpu_show_no_output() -> None:
    run = {code for code, _ in BLOCKS}
    silent = [code for code in re.findall(r"```python\n((?:(?!```).)*)```", README, flags=re.DOTALL) if code not in run]
    assert len(BLOCKS) >= 4 and all('device="cuda"' in code for code in silent)


def test_files_named_in_the_readme_exist() -> None:
    table = README.split("## Where things are")[1].split("## Limits")[0]
    folder, missing = ROOT, []
    for name in re.findall(r"`([\w./]+(?:/|\.\w+))`", table):
        if "/" in name and (ROOT / name).parent != ROOT:
            folder = (ROOT / name).parent if not name.endswith("/") else ROOT / name
        if not any((base / name).exists() for base in (ROOT, folder)):
            missing.append(name)
    assert not missing
