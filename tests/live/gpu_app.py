"""A deployment that holds a share of a GPU, and fills its memory or keeps it busy, through CUDA's driver alone."""

from __future__ import annotations

import asyncio
import ctypes
import time
from typing import Any

from ray import serve
from starlette.requests import Request

CHUNK_BYTES = 1 << 30
# Runs for so many of the GPU's clocks.
SPIN = b"""
.version 6.4
.target sm_75
.address_size 64
.visible .entry spin(.param .u64 clocks)
{
    .reg .u64 %r<4>;
    .reg .pred %again;
    ld.param.u64 %r1, [clocks];
    mov.u64 %r2, %clock64;
wait:
    mov.u64 %r3, %clock64;
    sub.u64 %r3, %r3, %r2;
    setp.lt.u64 %again, %r3, %r1;
    @%again bra wait;
    ret;
}
"""
SPIN_CLOCKS = 50_000_000  # some 30 ms


class Gpu:
    """The first GPU that this process may see."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._taken: list[ctypes.c_uint64] = []
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def _call(self, name: str, *args: Any) -> None:
        code = getattr(self._cuda, name)(*args)
        if code:
            raise RuntimeError(f"{name}: error {code} of CUDA's driver")

    def fill(self, share: float) -> None:
        """Take memory until this share of it is in use by all processes; release what was taken before."""
        self._call("cuCtxSetCurrent", self._context)
        while self._taken:
            self._call("cuMemFree_v2", self._taken.pop())
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        wanted = int(share * total.value) - (total.value - free.value)
        while wanted > 0:
            taken = ctypes.c_uint64()
            self._call("cuMemAlloc_v2", ctypes.byref(taken), ctypes.c_size_t(min(wanted, CHUNK_BYTES)))
            self._taken.append(taken)
            wanted -= CHUNK_BYTES

    def work(self, seconds: float) -> None:
        """Run a kernel for that time."""
        self._call("cuCtxSetCurrent", self._context)
        module, kernel, clocks = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64(SPIN_CLOCKS)
        self._call("cuModuleLoadData", ctypes.byref(module), SPIN)
        self._call("cuModuleGetFunction", ctypes.byref(kernel), module, b"spin")
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(clocks))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._call("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, None, parameters, None)
            self._call("cuCtxSynchronize")
        self._call("cuModuleUnload", module)


@serve.deployment
class Holder:
    """`?fill=0.9` fills the memory to that share, `?work=10` keeps the GPU busy for so many seconds."""

    def __init__(self) -> None:
        self._gpu = Gpu()

    async def __call__(self, request: Request) -> str:
        """Answer when it is done."""
        for name, value in request.query_params.items():
            await asyncio.to_thread({"fill": self._gpu.fill, "work": self._gpu.work}[name], float(value))
        return "done"


app = Holder.bind()  # type: ignore[attr-defined]
