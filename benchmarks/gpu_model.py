"""How long deformable convolution should take on a GPU, by counting: nothing here is measured.

    python -m benchmarks.gpu_model

For every kernel: the bytes that come from the second-level cache and from memory, the products on tensor cores, the
operations of lanes, and the atomic additions, each over its rate. `least` is the largest of them, as if all others hid
behind it; `most` is their sum, as if nothing did. Both are divided by the share of the last round of programs that is
busy. What is assumed, for want of a GPU to measure it on:

- the second-level cache gives 24 bytes a clock to each multiprocessor, at 1.7 GHz; nothing is found in the first level;
- one atomic addition of 16 bytes a clock for each of 80 slices of the cache of an H100, and in proportion elsewhere;
- a sampled value costs three operations for each of its four corners; tensor cores reach 0.7 of their rate;
- a multiprocessor holds as many programs as registers and shared memory allow, as the compiler has given them out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

CLOCK = 1.7e9
LANES = 128
CACHE_BYTES = 24
SLICES = 80 / 132
REACHED = 0.7


@dataclasses.dataclass(frozen=True)
class Device:
    """Multiprocessors, bytes of memory a second, and products of tensor cores a second in bfloat16."""

    multiprocessors: int
    bandwidth: float
    tensor: float


H100 = Device(132, 3.35e12, 989e12)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a kernel does, and how: bytes from cache and memory, FLOP, operations, additions of 16 bytes, programs."""

    cache: float = 0
    memory: float = 0
    flop: float = 0
    operations: float = 0
    atomics: float = 0
    programs: int = 0
    at_once: int = 1

    def seconds(self, device: Device) -> tuple[float, float]:
        """The least and the most that it takes."""
        cores = device.multiprocessors
        parts = (
            self.cache / (CACHE_BYTES * CLOCK * cores),
            self.memory / device.bandwidth,
            self.flop / (REACHED * device.tensor),
            self.operations / (LANES * CLOCK * cores),
            self.atomics / (SLICES * CLOCK * cores),
        )
        rounds = self.programs / (cores * self.at_once)
        busy = rounds / math.ceil(rounds) if rounds else 1.0
        return max(parts) / busy, sum(parts) / busy


@dataclasses.dataclass(frozen=True)
class Layer:
    """A 3x3 layer: output pixels, channels, features, bytes of a value."""

    pixels: int
    channels: int = 256
    features: int = 256
    taps: int = 9
    size: int = 2

    @property
    def corners(self) -> int:
        """Values that are read to sample once."""
        return self.pixels * self.taps * 4 * self.channels

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        return self.taps * self.channels * self.features * self.size

    @property
    def flop(self) -> int:
        """Of the product alone."""
        return 2 * self.pixels * self.taps * self.channels * self.features


def forward(layer: Layer, tile: int = 64, at_once: int = 1) -> Work:
    """Corners of every sample, and all weights for every tile of pixels."""
    tiles = math.ceil(layer.pixels / tile)
    return Work(
        cache=layer.corners * layer.size + tiles * layer.weights,
        memory=layer.pixels * (layer.channels + layer.features) * layer.size,
        flop=layer.flop,
        operations=3 * layer.corners,
        programs=tiles,
        at_once=at_once,
    )


def input_gradients(layer: Layer, tile: int = 64, at_once: int = 2) -> Work:
    """A program for each tile and tap: corners are read, and added to."""
    tiles = math.ceil(layer.pixels / tile)
    return Work(
        cache=layer.corners * layer.size
        + tiles * layer.weights
        + layer.taps * layer.pixels * layer.features * layer.size,
        memory=layer.pixels * layer.channels * (layer.size + 8),
        flop=layer.flop,
        operations=6 * layer.corners,
        atomics=layer.corners / 4,
        programs=tiles * layer.taps,
        at_once=at_once,
    )


def window_gradients(layer: Layer, tile: int = 64, channels: int = 64, window: int = 256, at_once: int = 1) -> Work:
    """A program for each tile and block of channels: a product adds to a window of pixels, which goes to memory once.

    Which pixel a corner is, is asked of each pixel of the window: three operations for each of four corners.
    """
    tiles, blocks = math.ceil(layer.pixels / tile), layer.channels // channels
    gradients = layer.taps * blocks * layer.pixels * layer.features
    return Work(
        cache=layer.size * (layer.corners + gradients) + tiles * layer.weights,
        memory=layer.pixels * (layer.channels * (layer.size + 8) + 2 * blocks * layer.taps * 2 * 4),
        flop=layer.flop + 2 * window * layer.pixels * layer.taps * layer.channels,
        operations=6 * layer.corners + 3 * 4 * window * layer.pixels * layer.taps * blocks,
        atomics=tiles * window * layer.channels / 4,
        programs=tiles * blocks,
        at_once=at_once,
    )


def weight_gradient(layer: Layer, channels: int = 64, shares: int = 15, at_once: int = 1) -> Work:
    """A program for each tap, block of channels and share of the pixels; gradients are read by each."""
    blocks = layer.channels // channels * layer.taps
    return Work(
        cache=layer.corners * layer.size + blocks * layer.pixels * layer.features * layer.size,
        memory=2 * shares * layer.weights / layer.size * 4,
        flop=layer.flop,
        operations=3 * layer.corners,
        programs=blocks * shares,
        at_once=at_once,
    )


def columns_and_product(layer: Layer) -> Work:
    """All samples are written to memory, and multiplied by a library: the usual way, forward."""
    columns = layer.pixels * layer.taps * layer.channels * layer.size
    return Work(
        cache=layer.corners * layer.size,
        memory=2 * columns + layer.pixels * (layer.channels + layer.features) * layer.size,
        flop=layer.flop,
        operations=3 * layer.corners,
    )


def table(device: Device, kernels: Mapping[str, Work]) -> str:
    """Lines of milliseconds, least to most, and their sums."""
    lines, least, most = [], 0.0, 0.0
    for name, work in kernels.items():
        low, high = (1e3 * seconds for seconds in work.seconds(device))
        least, most = least + low, most + high
        lines.append(f'{name:<32}{low:6.2f} to {high:5.2f} ms   {work.cache / 1e9:5.2f} GB from the cache')
    return '\n'.join([*lines, f'{"together":<32}{least:6.2f} to {most:5.2f} ms'])


def main() -> None:
    """Prints the figures of the first level, 200 x 336, in bfloat16 on an H100."""
    layer = Layer(200 * 336)
    first = {
        'forward': forward(layer),
        'input gradients': input_gradients(layer),
        'weight gradient': weight_gradient(layer),
    }
    now = {
        'forward, 128 pixels a tile': forward(layer, tile=128),
        'input gradients, a window': window_gradients(layer),
        'weight gradient, 128 channels': weight_gradient(layer, channels=128, shares=14),
    }
    for title, kernels in (
        ('As it was', first),
        ('As it is', now),
        ('Beside it', {'columns and a product, forward': columns_and_product(layer)}),
    ):
        print(f'{title}\n{table(H100, kernels)}\n')


if __name__ == '__main__':
    main()
