"""
Compiled core of kdvr_fast: sessions on float32 and float64 rows; see kdvr_fast.backends.base for the contract.
"""
from __future__ import annotations
import numpy
import numpy.typing
import typing
__all__: list[str] = ['SessionFloat32', 'SessionFloat64', 'csr_sound', 'isa', 'isa_available', 'measure_fma_peak', 'measure_read_bandwidth', 'shuffled']
class SessionFloat32:
    """
    A problem with float32 rows.
    """
    def __init__(self, X: numpy.ndarray | tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, typing.SupportsInt | typing.SupportsIndex] | tuple[numpy.ndarray, numpy.ndarray | None, numpy.ndarray | None] | tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, str, numpy.ndarray], y: numpy.ndarray | tuple[numpy.ndarray, numpy.ndarray, typing.SupportsFloat | typing.SupportsIndex], loss: str, n_outputs: typing.SupportsInt | typing.SupportsIndex, weights: numpy.ndarray | None, fit_intercept: bool, n_threads: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def anchor_at(self, coef: numpy.ndarray, intercept: numpy.ndarray, *, cached: bool, mean: bool) -> tuple[tuple[float, float, float, float, float, float, float, float, float], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64] | None, numpy.typing.NDArray[numpy.float64] | None] | None:
        ...
    def anchor_table(self, values: numpy.ndarray, *, mean: bool) -> tuple[tuple[float, float, float, float, float, float, float, float, float], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64] | None, numpy.typing.NDArray[numpy.float64] | None] | None:
        ...
    def average(self) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        ...
    def combine(self, numbers: numpy.ndarray) -> numpy.typing.NDArray[numpy.float32]:
        ...
    def epoch(self, order: numpy.ndarray, learning_rates: numpy.ndarray, *, refresh_at: numpy.ndarray, loss_limit: typing.SupportsFloat | typing.SupportsIndex, batch_size: typing.SupportsInt | typing.SupportsIndex, l2: typing.SupportsFloat | typing.SupportsIndex, l1: typing.SupportsFloat | typing.SupportsIndex, momentum: typing.SupportsFloat | typing.SupportsIndex, nesterov: bool, average: bool, statistics: bool, pairs_every: typing.SupportsInt | typing.SupportsIndex, compression: tuple[str, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, numpy.ndarray | None, typing.SupportsInt | typing.SupportsIndex] | None, lam: typing.SupportsFloat | typing.SupportsIndex, source: str, use_mean: bool, update_table: bool, temperature: typing.SupportsFloat | typing.SupportsIndex | None) -> tuple[tuple[float, float, float, float, float, float, float, float, float], int, list[tuple[tuple[float, float, float, float, float, float, float, float, float], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64] | None, numpy.typing.NDArray[numpy.float64] | None]], bool]:
        ...
    def evaluate(self, coef: numpy.ndarray, intercept: numpy.ndarray, *, lam: typing.SupportsFloat | typing.SupportsIndex, source: str, use_mean: bool, update_table: bool, temperature: typing.SupportsFloat | typing.SupportsIndex | None) -> tuple[tuple[float, float, float, float, float, float, float, float, float], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64] | None, numpy.typing.NDArray[numpy.float64] | None]:
        ...
    def gram(self, rows: numpy.ndarray, weights: numpy.ndarray) -> numpy.typing.NDArray[numpy.float64]:
        ...
    def images(self, numbers: numpy.ndarray) -> numpy.typing.NDArray[numpy.float32]:
        ...
    def logits(self, coef: numpy.ndarray, intercept: numpy.ndarray) -> numpy.typing.NDArray[numpy.float32]:
        ...
    def set_mean(self, mean: numpy.ndarray, mean_intercept: numpy.ndarray) -> None:
        ...
    def set_weights(self, coef: numpy.ndarray, intercept: numpy.ndarray) -> None:
        ...
    def weights(self) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        ...
class SessionFloat64:
    """
    A problem with float64 rows.
    """
    def __init__(self, X: numpy.ndarray | tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, typing.SupportsInt | typing.SupportsIndex] | tuple[numpy.ndarray, numpy.ndarray | None, numpy.ndarray | None] | tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, str, numpy.ndarray], y: numpy.ndarray | tuple[numpy.ndarray, numpy.ndarray, typing.SupportsFloat | typing.SupportsIndex], loss: str, n_outputs: typing.SupportsInt | typing.SupportsIndex, weights: numpy.ndarray | None, fit_intercept: bool, n_threads: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def anchor_at(self, coef: numpy.ndarray, intercept: numpy.ndarray, *, cached: bool, mean: bool) -> tuple[tuple[float, float, float, float, float, float, float, float, float], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64] | None, numpy.typing.NDArray[numpy.float64] | None] | None:
        ...
    def anchor_table(self, values: numpy.ndarray, *, mean: bool) -> tuple[tuple[float, float, float, float, float, float, float, float, float], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64] | None, numpy.typing.NDArray[numpy.float64] | None] | None:
        ...
    def average(self) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64]]:
        ...
    def combine(self, numbers: numpy.ndarray) -> numpy.typing.NDArray[numpy.float64]:
        ...
    def epoch(self, order: numpy.ndarray, learning_rates: numpy.ndarray, *, refresh_at: numpy.ndarray, loss_limit: typing.SupportsFloat | typing.SupportsIndex, batch_size: typing.SupportsInt | typing.SupportsIndex, l2: typing.SupportsFloat | typing.SupportsIndex, l1: typing.SupportsFloat | typing.SupportsIndex, momentum: typing.SupportsFloat | typing.SupportsIndex, nesterov: bool, average: bool, statistics: bool, pairs_every: typing.SupportsInt | typing.SupportsIndex, compression: tuple[str, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, numpy.ndarray | None, typing.SupportsInt | typing.SupportsIndex] | None, lam: typing.SupportsFloat | typing.SupportsIndex, source: str, use_mean: bool, update_table: bool, temperature: typing.SupportsFloat | typing.SupportsIndex | None) -> tuple[tuple[float, float, float, float, float, float, float, float, float], int, list[tuple[tuple[float, float, float, float, float, float, float, float, float], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64] | None, numpy.typing.NDArray[numpy.float64] | None]], bool]:
        ...
    def evaluate(self, coef: numpy.ndarray, intercept: numpy.ndarray, *, lam: typing.SupportsFloat | typing.SupportsIndex, source: str, use_mean: bool, update_table: bool, temperature: typing.SupportsFloat | typing.SupportsIndex | None) -> tuple[tuple[float, float, float, float, float, float, float, float, float], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64] | None, numpy.typing.NDArray[numpy.float64] | None]:
        ...
    def gram(self, rows: numpy.ndarray, weights: numpy.ndarray) -> numpy.typing.NDArray[numpy.float64]:
        ...
    def images(self, numbers: numpy.ndarray) -> numpy.typing.NDArray[numpy.float64]:
        ...
    def logits(self, coef: numpy.ndarray, intercept: numpy.ndarray) -> numpy.typing.NDArray[numpy.float64]:
        ...
    def set_mean(self, mean: numpy.ndarray, mean_intercept: numpy.ndarray) -> None:
        ...
    def set_weights(self, coef: numpy.ndarray, intercept: numpy.ndarray) -> None:
        ...
    def weights(self) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64]]:
        ...
def csr_sound(X: tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, typing.SupportsInt | typing.SupportsIndex], finite: bool) -> bool:
    """
    Whether features rise within each row and, if asked, all values are finite. Raises ValueError where features or offsets are out of range.
    """
def isa() -> str:
    """
    Instruction set in use; KDVR_ISA in the environment forces one.
    """
def isa_available() -> list[str]:
    """
    Instruction sets compiled in and supported by this processor, slowest first.
    """
def measure_fma_peak(dtype: str, seconds: typing.SupportsFloat | typing.SupportsIndex = 0.2, n_threads: typing.SupportsInt | typing.SupportsIndex = 1) -> float:
    """
    Multiply-adds a second of this machine, best of the trials that fit into `seconds`.
    """
def measure_read_bandwidth(bytes: typing.SupportsInt | typing.SupportsIndex, seconds: typing.SupportsFloat | typing.SupportsIndex = 0.5, n_threads: typing.SupportsInt | typing.SupportsIndex = 1) -> float:
    """
    Bytes a second that this machine reads in order from so much memory, best of the trials.
    """
def shuffled(words: numpy.ndarray) -> numpy.typing.NDArray[numpy.int64]:
    """
    The order that kdvr_fast/_order.py makes of random 64-bit words.
    """
