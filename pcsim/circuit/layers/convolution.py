"""Convolutions over feature maps `[channel, y, x]`: `conv` and `conv_transpose`, in torch's conventions.

Measured for the 64-pixel generative model of Zahid et al. (2024), batch 64, float32, two CPU threads:
feature maps in channels-last layout make transposed convolutions 2 to 4 times faster; message and weight
gradient in two calls that treat a transposed convolution as the convolution whose transpose it is take 0.8
of one call for all of `convolution_backward`; an input of one pixel is a matrix product (6 times faster in
all), and a transposed convolution onto few channels is a plain one onto sub-pixels (2.5 times faster).
"""

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Generator, Tensor

from pcsim.circuit.layers.base import Pullback, Shape
from pcsim.circuit.layers.common import (
    Affine,
    NonNegative,
    Positive,
    check_bias,
    initial_bias,
    refuse,
    uniform,
)

Kernels = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]
FEW_CHANNELS = 8
_backward = torch.ops.aten.convolution_backward


def _kernel_axes(weight: Kernels) -> tuple[int, ...]:
    """The shape of kernels that were given outright; `ValueError` when they are ragged."""
    sizes: list[int] = []
    level: tuple[object, ...] = (weight,)
    for _ in range(4):
        lengths = {len(item) for item in level if isinstance(item, tuple)}
        if len(lengths) != 1:
            raise ValueError("weight must be four nested lists, each level of one length")
        sizes.append(lengths.pop())
        level = tuple(part for item in level if isinstance(item, tuple) for part in item)
    return tuple(sizes)


def _drawn_or_given(
    weight: Kernels | None, shape: tuple[int, ...], fan_in: int, generator: Generator
) -> Tensor:
    if weight is None:
        return uniform(shape, fan_in, generator)
    return torch.tensor(weight, dtype=torch.float64)


def _maps(x: Tensor) -> Tensor:
    """x in the layout that its device's convolutions like: channels last on a CPU, unchanged elsewhere."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def _check_maps(name: str, shape: Shape, weight_channels: int | None) -> None:
    """Raise `CircuitError` unless the input is `[channel, y, x]` with the channels of an outright weight."""
    if len(shape) != 3:
        raise refuse(name, "feature maps [channel, y, x]", shape, "put a reshape before it")
    if weight_channels not in (None, shape[0]):
        wanted = f"[{weight_channels}, y, x]"
        raise refuse(name, wanted, shape, "its weight is outright and has that many input channels")


class Conv(Affine):
    """y = w ⋆ x + b, cross-correlation on `[row, channel, y, x]`; w is `[channels, in, kernel, kernel]`."""

    shorthand: ClassVar[str | None] = None

    channels: Positive
    kernel: Positive
    stride: Positive = 1
    padding: NonNegative = 0
    weight: Kernels | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_bias(self.bias, self.channels)
        if self.weight is not None:
            axes = _kernel_axes(self.weight)
            if (axes[0], *axes[2:]) != (self.channels, self.kernel, self.kernel):
                raise ValueError(
                    f"weight is {list(axes)}, expected [{self.channels}, in, {self.kernel}, {self.kernel}]"
                )
        return self

    def output_shape(self, shape: Shape) -> Shape:
        """`[channels, y', x']`, y' = ⌊(y + 2 padding − kernel)/stride⌋ + 1; `CircuitError` if that is < 1."""
        _check_maps("conv", shape, None if self.weight is None else len(self.weight[0]))
        sizes = [(n + 2 * self.padding - self.kernel) // self.stride + 1 for n in shape[1:]]
        if min(sizes) < 1:
            wanted = f"feature maps of at least {self.kernel - 2 * self.padding} pixels a side"
            hint = (
                f"its output would have shape {[self.channels, *sizes]}; use a smaller kernel or more padding"
            )
            raise refuse("conv", wanted, shape, hint)
        return (self.channels, *sizes)

    def parameters(self, shape: Shape, generator: Generator) -> dict[str, Tensor]:
        """`weight` `[channels, in, kernel, kernel]`, `bias` `[channels]`: U(±1/√(in kernel²))."""
        self.output_shape(shape)
        fan_in = shape[0] * self.kernel**2
        axes = (self.channels, shape[0], self.kernel, self.kernel)
        weight = _drawn_or_given(self.weight, axes, fan_in, generator)
        return {"weight": weight, **initial_bias(self.bias, self.channels, fan_in, generator)}

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """(w ⋆ x + b, x)."""
        x = _maps(x)
        return F.conv2d(x, params["weight"], params.get("bias"), self.stride, self.padding), x

    def pullback(
        self, params: Mapping[str, Tensor], saved: Tensor, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        """Message: the transposed convolution of ε; gradient: the correlation of ε and x."""
        if not (message or learn):
            return Pullback(None, {})
        stride, padding = [self.stride] * 2, [self.padding] * 2
        error, biased = _maps(error), learn and "bias" in params
        sizes = [self.channels] if biased else None
        back, weight, bias = _backward(
            error, saved, params["weight"], sizes, stride, padding, [1, 1], False, [0, 0], 1,
            [message, learn, biased],
        )  # fmt: skip
        gradient = {"weight": weight} if learn else {}
        if biased:
            gradient["bias"] = bias
        return Pullback(back, gradient)


class ConvTranspose(Affine):
    """y = wᵀ ⋆ x + b, the transpose of a convolution in x; w is `[in, channels, kernel, kernel]`."""

    shorthand: ClassVar[str | None] = None

    channels: Positive
    kernel: Positive
    stride: Positive = 1
    padding: NonNegative = 0
    output_padding: NonNegative = 0
    weight: Kernels | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_bias(self.bias, self.channels)
        if self.output_padding >= self.stride:
            raise ValueError(f"output_padding {self.output_padding} must be less than stride {self.stride}")
        if self.weight is not None:
            axes = _kernel_axes(self.weight)
            if axes[1:] != (self.channels, self.kernel, self.kernel):
                raise ValueError(
                    f"weight is {list(axes)}, expected [in, {self.channels}, {self.kernel}, {self.kernel}]"
                )
        return self

    def output_shape(self, shape: Shape) -> Shape:
        """`[channels, y', x']`, y' = (y − 1) stride − 2 padding + kernel + output_padding."""
        _check_maps("conv_transpose", shape, None if self.weight is None else len(self.weight))
        grow = self.kernel - 2 * self.padding + self.output_padding
        sizes = [(n - 1) * self.stride + grow for n in shape[1:]]
        if min(sizes) < 1:
            hint = f"its output would have shape {[self.channels, *sizes]}; use less padding"
            raise refuse("conv_transpose", "larger feature maps", shape, hint)
        return (self.channels, *sizes)

    def parameters(self, shape: Shape, generator: Generator) -> dict[str, Tensor]:
        """`weight` `[in, channels, kernel, kernel]`, `bias` `[channels]`: U(±1/√(channels kernel²)).

        torch.nn.ConvTranspose2d counts the fan-in on axis 1, which is the output here; kept as it is there.
        """
        self.output_shape(shape)
        fan_in = self.channels * self.kernel**2
        axes = (shape[0], self.channels, self.kernel, self.kernel)
        weight = _drawn_or_given(self.weight, axes, fan_in, generator)
        return {"weight": weight, **initial_bias(self.bias, self.channels, fan_in, generator)}

    def forward(self, params: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """(wᵀ ⋆ x + b, x)."""
        weight, bias = params["weight"], params.get("bias")
        if self._one_pixel(x):
            y = torch.mm(x.reshape(x.shape[0], -1), weight.reshape(weight.shape[0], -1))
            y = y.view(x.shape[0], self.channels, self.kernel, self.kernel)
            return (y if bias is None else y.add_(bias.view(-1, 1, 1))), x
        x = _maps(x)
        if self._few_channels(x):
            return _subpixels(x, weight, bias, self.stride, self.padding), x
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding, self.output_padding), x

    def pullback(
        self, params: Mapping[str, Tensor], saved: Tensor, error: Tensor, *, message: bool, learn: bool
    ) -> Pullback:
        """Message: the convolution of ε; gradient: the correlation of x and ε."""
        weight = params["weight"]
        gradient: dict[str, Tensor] = {}
        if learn and "bias" in params:
            gradient["bias"] = error.sum((0, 2, 3))
        if self._one_pixel(saved):
            flat = error.reshape(error.shape[0], -1)
            if learn:
                gradient["weight"] = torch.mm(saved.reshape(saved.shape[0], -1).t(), flat).view_as(weight)
            back = torch.mm(flat, weight.reshape(weight.shape[0], -1).t()) if message else None
            return Pullback(None if back is None else back.view_as(saved), gradient)
        error = _maps(error)
        if learn:
            # As a convolution of ε with the same kernels, whose output gradient is x: 0.8 of the cost of the
            # transposed convolution's own backward pass.
            stride, padding = [self.stride] * 2, [self.padding] * 2
            gradient["weight"] = _backward(
                saved, error, weight, None, stride, padding, [1, 1], False, [0, 0], 1, [False, True, False]
            )[1]
        return Pullback(
            F.conv2d(error, weight, None, self.stride, self.padding) if message else None, gradient
        )

    def _one_pixel(self, x: Tensor) -> bool:
        """Whether every output is one product: the layer is a linear one and costs a matrix product."""
        return x.shape[2] == x.shape[3] == 1 and self.padding == self.output_padding == 0

    def _few_channels(self, x: Tensor) -> bool:
        """Whether the CPU's transposed convolution, slow onto few channels, is worth going around."""
        tiles = self.kernel % self.stride == 0 and self.output_padding == 0 and self.stride > 1
        return tiles and self.channels <= FEW_CHANNELS and x.device.type == "cpu"


def _subpixels(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """A transposed convolution whose kernel is m strides wide, as a convolution with m × m kernels onto
    stride² sub-pixels per channel, which are then interleaved and cropped by the padding (Shi et al., 2016).
    """
    rows, m = x.shape[0], weight.shape[2] // stride
    inputs, channels = weight.shape[:2]
    parts = weight.reshape(inputs, channels, m, stride, m, stride).flip(2, 4)
    kernels = parts.permute(3, 5, 1, 0, 2, 4).reshape(stride * stride * channels, inputs, m, m)
    fine = F.conv2d(x, kernels, None if bias is None else bias.repeat(stride * stride), 1, m - 1)
    high, wide = fine.shape[2:]
    fine = fine.reshape(rows, stride, stride, channels, high, wide).permute(0, 3, 4, 1, 5, 2)
    fine = fine.reshape(rows, channels, high * stride, wide * stride)
    edge = slice(padding, -padding or None)
    return fine[:, :, edge, edge].contiguous()
