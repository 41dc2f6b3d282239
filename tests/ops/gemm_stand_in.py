"""The extension's products for BatchNorm on host memory: what the addresses and sizes say, by the references."""

import ctypes

import torch

from deeplab_fast.ops.conv import gemm


class StandIn:
    """Has the functions that ``gemm.py`` calls."""

    def at(self, address, type_, *shape):
        """The tensor that lies there, shared."""
        dtype, count = getattr(torch, type_), 1
        for size in shape:
            count *= size
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
        return torch.frombuffer(memory, dtype=dtype).view(shape)

    def gemm_missing(self):
        return ""

    def conv1x1_cuda(self, type_, a, weight, y, parts, rows, c, k, stream):
        self._product(type_, a, self.at(weight, type_, k, c), y, parts, rows, c, k)

    def conv3x3_cuda(self, type_, a, weight, y, parts, window, is_pixel_major, c, k, stream):
        window = gemm.Window(*window, is_pixel_major)
        rows = window.images * window.height * window.width
        self._product(type_, a, self.at(weight, type_, k, 3, 3, c), y, parts, rows, c, k, window)

    def _product(self, type_, a, weight, y, parts, rows, c, k, *window):
        found = gemm.product_reference(self.at(a, type_, rows, c), weight, *window)
        self.at(y, type_, rows, k).copy_(found[0])
        self.at(parts, "float32", gemm.parts_of(rows), 3, k).copy_(found[1])

    def conv1x1_gradient_cuda(self, type_, dy, weight, x, norm, eps, added, activation, dz, parts, rows, c, k, stream):
        others = [self.at(address, type_, rows, c) for address in (added, activation) if address]
        self._gradient(type_, dy, self.at(weight, type_, k, c), x, norm, eps, others, dz, parts, rows, c, k)

    def conv3x3_gradient_cuda(self, type_, dy, weight, x, norm, eps, dz, parts, window, is_pixel_major, c, k, stream):
        window = gemm.Window(*window, is_pixel_major)
        rows = window.images * window.height * window.width
        weight = self.at(weight, type_, k, 3, 3, c)
        self._gradient(type_, dy, weight, x, norm, eps, (None, None, window), dz, parts, rows, c, k)

    def _gradient(self, type_, dy, weight, x, norm, eps, others, dz, parts, rows, c, k):
        vectors = [self.at(address, "float32", c) for address in norm]
        norm = gemm.NormInput(self.at(x, type_, rows, c), *vectors, eps)
        found = gemm.norm_gradient_reference(self.at(dy, type_, rows, k), weight, norm, *others)
        self.at(dz, type_, rows, c).copy_(found[0])
        self.at(parts, "float32", gemm.parts_of(rows), 2, c).copy_(found[1])


def put_in_place(monkeypatch):
    """Let ``gemm.py`` call a stand-in, with tensors of the CPU; returns it."""
    module = StandIn()
    monkeypatch.setattr(gemm, "_is_native", lambda t: True)
    monkeypatch.setattr(gemm, "_stream", lambda device: 0)
    monkeypatch.setattr(gemm.extension, "gemm", lambda: (module, ""))
    return module
