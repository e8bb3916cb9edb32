"""Compiling for NVIDIA GPUs that need not exist: XLA goes all the way to machine code, Triton's kernels included.

Import this before anything that uses JAX, in an environment that has the CUDA plugin and its compiler (`make
test-gpu-compile` makes one). Nothing runs; every figure is the compiler's.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

_DUMP = pathlib.Path(tempfile.mkdtemp(prefix='gpu_compiler_'))
os.environ['JAX_PLATFORMS'] = 'cpu'  # without a driver, CUDA's own platform does not start
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '0'
os.environ['TF_CPP_VMODULE'] = 'subprocess_compilation=3'  # what ptxas says
# Triton's matrix products cannot be tuned without the device.
os.environ['XLA_FLAGS'] = f'--xla_gpu_enable_triton_gemm=false --xla_dump_to={_DUMP} --xla_dump_hlo_module_re=.*'

import jax  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding  # noqa: E402

from sognet_jax.kernels.choice import Target, traced_for  # noqa: E402

OURS = ('deform_conv2d', 'roi_align', 'panoptic_fusion')
"""How the names of this package's kernels begin."""

GUESSED_ROUNDS = 8
"""Of a loop whose number of iterations the compiler does not know: suppression takes 4 to 7 rounds."""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU, from its makers' figures.

    Attributes:
        kind: as JAX calls it.
        capability: its compute capability.
        multiprocessors: how many it has.
        shared_memory: bytes of it that a program may have.
        bandwidth: of its memory, bytes a second.
        l2: bytes of its second-level cache.
        memory: bytes.
    """

    kind: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_memory: int
    bandwidth: float
    l2: int
    memory: int

    def target_config(self) -> str:
        """XLA's `GpuTargetConfigProto` as text."""
        major, minor = self.capability
        threads = 2048 if self.capability in ((8, 0), (9, 0), (10, 0)) else 1536
        return f"""gpu_device_info {{ threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
            shared_memory_per_core: {self.shared_memory + 1024} threads_per_core_limit: {threads}
            core_count: {self.multiprocessors} fpus_per_core: 128 block_dim_limit_x: 2147483647
            block_dim_limit_y: 65535
            block_dim_limit_z: 65535 memory_bandwidth: {int(self.bandwidth)} l2_cache_size: {self.l2}
            clock_rate_ghz: 1.7
            device_memory_size: {self.memory} shared_memory_per_block_optin: {self.shared_memory}
            cuda_compute_capability {{ major: {major} minor: {minor} }} registers_per_core_limit: 65536
            registers_per_block_limit: 65536 }} platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }}
            runtime_version {{ major: 13 minor: 0 }} device_description_str: "{self.kind}" """

    @property
    def target(self) -> Target:
        """What operators ask of it."""
        return Target('gpu', self.kind, self.capability, self.multiprocessors, self.shared_memory)


MIB, GIB = 2**20, 2**30
GPUS = {
    'T4': Gpu('Tesla T4', (7, 5), 40, 65_536, 0.32e12, 4 * MIB, 16 * GIB),
    'A100': Gpu('NVIDIA A100-SXM4-80GB', (8, 0), 108, 166_912, 2.04e12, 40 * MIB, 80 * GIB),
    'L4': Gpu('NVIDIA L4', (8, 9), 58, 101_376, 0.30e12, 48 * MIB, 24 * GIB),
    'H100': Gpu('NVIDIA H100 80GB HBM3', (9, 0), 132, 232_448, 3.35e12, 50 * MIB, 80 * GIB),
    'B200': Gpu('NVIDIA B200', (10, 0), 148, 232_448, 7.9e12, 126 * MIB, 180 * GIB),
    'RTX PRO 6000': Gpu(
        'NVIDIA RTX PRO 6000 Blackwell Server Edition', (12, 0), 188, 101_376, 1.79e12, 128 * MIB, 96 * GIB
    ),
}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One of our kernels in a compiled program.

    Attributes:
        name: of the kernel.
        programs, threads, shared_memory: of a launch: blocks, threads and bytes of a block.
        registers, stack, spills, barriers: of a thread: how many, bytes, bytes stored, and how many there are.
    """

    name: str
    programs: int
    threads: int
    shared_memory: int
    registers: int
    stack: int
    spills: int
    barriers: int


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of a program.

    Attributes:
        kernels: ours, one for each launch.
        launches: of kernels, copies and products, iterations of loops counted, but for convolutions.
        convolutions: calls of cuDNN.
        iterations: of loops.
        unknown_loops: how many of the loops have an unknown length, counted as `GUESSED_ROUNDS`.
        arguments, temporaries: bytes.
    """

    kernels: tuple[Kernel, ...]
    launches: int
    convolutions: int
    iterations: int
    unknown_loops: int
    arguments: int
    temporaries: int


def compile_for(gpu: Gpu, function: Callable[..., Any], shapes: tuple, donated: tuple[int, ...] = ()) -> Compiled:
    """Compiles a function of arrays of these shapes.

    Raises:
        jax.errors.JaxRuntimeError: the compiler refuses it.
    """
    device = topologies.get_topology_desc(
        platform='cuda', target_config=gpu.target_config(), topology='1x1x1'
    ).devices[0]  # fmt: skip
    sharding = SingleDeviceSharding(device)
    placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
    mesh = AbstractMesh((1,), ('x',), abstract_device=AbstractDevice(gpu.kind, None, 'gpu'))
    for file in _DUMP.iterdir():
        file.unlink()
    with traced_for(gpu.target), jax.sharding.use_abstract_mesh(mesh), _Listening() as listening:
        traced = jax.jit(function, donate_argnums=donated).trace(*placed)
        compiled = traced.lower(lowering_platforms=('cuda',)).compile()
    plan, memory = _Plan.read(compiled.as_text()), compiled.memory_analysis()
    resources = _resources(listening.heard)
    return Compiled(
        kernels=tuple(Kernel(name, *sizes, *resources[name]) for name, *sizes in plan.ours),
        launches=plan.launches,
        convolutions=plan.convolutions,
        iterations=plan.iterations,
        unknown_loops=plan.unknown_loops,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
    )


def clean() -> None:
    """Removes what the compiler has left."""
    shutil.rmtree(_DUMP, ignore_errors=True)


class _Listening:
    """Keeps what libraries write to the standard error."""

    heard = ''

    def __enter__(self) -> _Listening:
        sys.stderr.flush()
        self._before, self._file = os.dup(2), tempfile.TemporaryFile()
        os.dup2(self._file.fileno(), 2)
        return self

    def __exit__(self, *raised: object) -> None:
        os.dup2(self._before, 2)
        os.close(self._before)
        self._file.seek(0)
        self.heard = self._file.read().decode(errors='replace')
        self._file.close()


def _resources(text: str) -> dict[str, tuple[int, int, int, int]]:
    """Registers, stack, spills and barriers by kernel, from what ptxas says."""
    pattern = re.compile(
        r'Function properties for (\w+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, \d+ bytes spill loads\s+'
        r'ptxas info\s+: Used (\d+) registers(?:, used (\d+) barriers)?'
    )
    found = {}
    for name, stack, spills, registers, barriers in pattern.findall(text):
        found[name] = (int(registers), int(stack), int(spills), int(barriers or 0))
    return found


@dataclasses.dataclass
class _Plan:
    """The launches of a program, from XLA's list of thunks and its loops' lengths."""

    ours: list[tuple[str, int, int, int]] = dataclasses.field(default_factory=list)
    launches: int = 0
    convolutions: int = 0
    iterations: int = 0
    unknown_loops: int = 0

    LINE = re.compile(r'( *)(\d+): k(\w+) +\[[^]]*\] *(.*)')
    KERNEL = re.compile(r'(\w+) grid: \[(\d+), (\d+), (\d+)\] threads: \[(\d+), (\d+), (\d+)\] +shared_memory: (\d+)')
    GROUPS = ('While', 'Conditional', 'Sequential', 'DynamicSliceFusion', 'CommandBuffer')

    @classmethod
    def read(cls, program: str) -> _Plan:
        """Of the program that was compiled last; its text says how long its loops are."""
        plan = cls()
        (thunks,) = _DUMP.glob('*thunk_sequence.txt')
        lengths = dict(_loop_lengths(program, thunks.with_name(thunks.name.replace('sequence', 'metadata'))))
        around: list[tuple[int, int]] = []
        for indent, number, kind, rest in cls.LINE.findall(thunks.read_text()):
            while around and around[-1][0] >= len(indent):
                around.pop()
            times = around[-1][1] if around else 1
            if kind in cls.GROUPS:
                if kind == 'While':
                    plan.unknown_loops += int(number) not in lengths
                    times *= lengths.get(int(number), GUESSED_ROUNDS)
                    plan.iterations += times
                around.append((len(indent), times))
            elif kind == 'Convolution':
                plan.convolutions += times
            else:
                plan.launches += times
            if (kernel := cls.KERNEL.match(rest)) and kernel[1].startswith(OURS):
                name, *sizes = kernel.groups()
                x, y, z, width, height, depth, shared = map(int, sizes)
                plan.ours.append((name, x * y * z, width * height * depth, shared))
        return plan


def _loop_lengths(program: str, metadata: pathlib.Path) -> Iterator[tuple[int, int]]:
    """The number of a loop among the thunks, and how often it is gone through, where that is known."""
    known = {
        name: int(length)
        for name, length in re.findall(r'%(while[\w.-]*) = .*? while\(.*?"known_trip_count":\{"n":"(\d+)"\}', program)
    }
    for block in metadata.read_text().split('thunk_metadata {')[1:]:
        name, number = re.search(r'profile_annotation: "([^"]*)"', block), re.search(r'thunk_id: (\d+)', block)
        if name and number and name[1] in known:
            yield int(number[1]), known[name[1]]
