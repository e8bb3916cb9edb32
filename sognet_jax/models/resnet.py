"""ResNet backbones (He et al. 2016) in the Caffe style of the published code, or in torchvision's.

`basic` blocks and small widths make the networks for tests and for training from scratch on a CPU.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from sognet_jax.choices import require_choice
from sognet_jax.models.layers import DeformableConv, conv, conv1x1, make_norm
from sognet_jax.ops.extent import reduced, zero_outside

BLOCKS = ('basic', 'bottleneck')
STRIDED_CONVS = ('conv1', 'conv2')
STAGE_NAMES = ('res2', 'res3', 'res4', 'res5')


class BottleneckBlock(nn.Module):
    """1x1 - 3x3 - 1x1 with a residual connection; the output has 4 x `width` channels."""

    width: int  # channels of the 3x3 convolution
    stride: int  # of the block
    norm: str
    dtype: jnp.dtype
    strided_conv: str = 'conv1'  # the convolution that has the stride, `conv1` (Caffe) or `conv2` (torchvision)
    deformable: bool = False  # the 3x3 convolution is deformable

    @nn.compact
    def __call__(self, x: jax.Array, extent: jax.Array | None = None) -> jax.Array:
        """`[B, H, W, C]` -> `[B, H / stride, W / stride, 4 width]`; the extent is that of x, see `ops.extent`."""
        features = 4 * self.width
        y, stride = x, self.stride
        x = x[:, ::stride, ::stride]
        if self.strided_conv == 'conv1':
            y, stride, extent = x, 1, reduced(extent, stride)
        y = conv1x1(self.width, self.dtype, use_bias=False, name='conv1')(y)
        y = zero_outside(nn.relu(make_norm(self.norm, self.width, self.dtype, name='norm1')(y)), extent)
        convolve: nn.Module
        if self.deformable:
            convolve = DeformableConv(self.width, stride, use_bias=False, dtype=self.dtype, name='conv2')
        else:
            convolve = conv(self.width, self.dtype, stride=stride, use_bias=False, name='conv2')
        y = nn.relu(make_norm(self.norm, self.width, self.dtype, name='norm2')(convolve(y)))
        y = conv1x1(features, self.dtype, use_bias=False, name='conv3')(y)
        y = make_norm(self.norm, features, self.dtype, name='norm3')(y)
        if x.shape[-1] != features or self.stride > 1:
            x = conv1x1(features, self.dtype, use_bias=False, name='downsample')(x)
            x = make_norm(self.norm, features, self.dtype, name='downsample_norm')(x)
        return nn.relu(x + y)


class BasicBlock(nn.Module):
    """3x3 (stride) - 3x3 with a residual connection; the output has `width` channels."""

    width: int
    stride: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, extent: jax.Array | None = None) -> jax.Array:
        """`[B, H, W, C]` -> `[B, H / stride, W / stride, width]`; the extent is that of x, see `ops.extent`."""
        x = zero_outside(x, extent)
        y = conv(self.width, self.dtype, stride=self.stride, use_bias=False, name='conv1')(x)
        y = nn.relu(make_norm(self.norm, self.width, self.dtype, name='norm1')(y))
        y = zero_outside(y, reduced(extent, self.stride))
        y = conv(self.width, self.dtype, use_bias=False, name='conv2')(y)
        y = make_norm(self.norm, self.width, self.dtype, name='norm2')(y)
        if y.shape != x.shape:
            x = x[:, :: self.stride, :: self.stride]
            x = conv1x1(self.width, self.dtype, use_bias=False, name='downsample')(x)
            x = make_norm(self.norm, self.width, self.dtype, name='downsample_norm')(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """The backbone: stem and four stages at 1/4, 1/8, 1/16 and 1/32 of the image."""

    # blocks in each stage: (3, 4, 6, 3) is ResNet-50, (3, 4, 23, 3) ResNet-101
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    block: str = 'bottleneck'  # `bottleneck` or `basic`
    width: int = 64  # channels of the stem and of the first stage's 3x3 convolutions; doubled at each stage
    norm: str = 'frozen_batch'  # `frozen_batch` or `group`
    strided_conv: str = 'conv1'  # which convolution of a bottleneck has its stride, `conv1` or `conv2`
    deformable_stages: Sequence[str] = ()  # those of `STAGE_NAMES` whose bottlenecks have deformable 3x3 convolutions
    frozen_stages: int = 2  # how many of (stem, res2, ..., res5) get no gradient; the paper's line of work freezes 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, extent: jax.Array | None = None) -> list[jax.Array]:
        """Normalised `[B, H, W, 3]` -> the outputs of res2 .. res5, finest first.

        With frozen batch normalisation they do not depend on what lies outside the `[B, 2]` extent (`ops.extent`);
        group normalisation takes its statistics from the padding too.

        Raises:
            ValueError: a field has a value that is not one of its choices.
        """
        self._check()
        x = conv(self.width, self.dtype, size=7, stride=2, use_bias=False, name='conv1')(image)
        x = nn.relu(make_norm(self.norm, self.width, self.dtype, name='norm1')(x))
        x = zero_outside(x, reduced(extent, 2))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        if self.frozen_stages > 0:
            x = jax.lax.stop_gradient(x)
        outputs = []
        total_stride = 4
        for stage, (name, size) in enumerate(zip(STAGE_NAMES, self.stage_sizes, strict=True)):
            for index in range(size):
                stride = 2 if stage > 0 and index == 0 else 1
                block = self._block(name, index, self.width * 2**stage, stride)
                x = block(x, reduced(extent, total_stride))
                total_stride *= stride
            if self.frozen_stages > stage + 1:
                x = jax.lax.stop_gradient(x)
            outputs.append(x)
        return outputs

    def _block(self, stage: str, index: int, width: int, stride: int) -> nn.Module:
        name = f'{stage}_{index}'
        if self.block == 'basic':
            return BasicBlock(width, stride, self.norm, self.dtype, name=name)
        deformable = stage in self.deformable_stages
        return BottleneckBlock(width, stride, self.norm, self.dtype, self.strided_conv, deformable, name=name)

    def _check(self) -> None:
        require_choice('model.backbone.block', self.block, BLOCKS)
        require_choice('model.backbone.strided_conv', self.strided_conv, STRIDED_CONVS)
        for stage in self.deformable_stages:
            if stage not in STAGE_NAMES:
                raise ValueError(f'model.backbone.deformable_stages has {stage!r}, which is none of {STAGE_NAMES}')
        if self.block == 'basic' and (self.deformable_stages or self.strided_conv != 'conv1'):
            raise ValueError("model.backbone.deformable_stages and strided_conv need block = 'bottleneck'")


def is_frozen(path: Sequence[str], frozen_stages: int) -> bool:
    """Whether a backbone parameter, for example `('res2_0', 'conv1', 'kernel')`, is in the first so many stages of
    (stem, res2, ..., res5).
    """
    stages = ('conv1', *STAGE_NAMES)
    prefixes = stages[:frozen_stages] + (('norm1',) if frozen_stages else ())
    return path[0].split('_')[0] in prefixes
