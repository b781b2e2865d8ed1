"""The demo application: reads the text in an image. Ingress -> Detector -> back -> Recogniser (batched).

RapidOCR's wheel includes its models, so nothing is downloaded. CPU by default; with `cuda: true` in a deployment's
user_config, `num_gpus` in its ray_actor_options, and the CUDA build of ONNX Runtime, the models run on the GPU.
"""

# No `from __future__ import annotations`: FastAPI reads the types of the ingress' parameters, and Serve ships the class
# without the module that defines their names.
import asyncio
import copy
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from rapidocr import RapidOCR
from rapidocr.utils.process_img import get_rotate_crop_image
from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from servescope.tracing import instrument_fastapi, trace_batch

if TYPE_CHECKING:
    from rapidocr.utils.output import RapidOCROutput

Image = np.ndarray  # height x width x 3, uint8, BGR

MAX_BYTES = 4 << 20
MAX_DELAY_S = 30.0
BLANK: Image = np.full((48, 320, 3), 255, np.uint8)

web = instrument_fastapi(FastAPI())


@web.exception_handler(BackPressureError)
async def full(request: Request, error: BackPressureError) -> JSONResponse:
    """Back-pressure of a downstream deployment reaches the client with its configured status code, 503 or 429."""
    retry = getattr(error, "retry_after_s", None)
    headers = {"Retry-After": str(int(retry))} if retry else {}
    # Before Ray 2.60 the code is not configurable.
    return JSONResponse({"detail": str(error)}, getattr(error, "status_code", 503), headers)


def decode(body: bytes) -> Image:
    """The image in a request.

    Raises:
        HTTPException: 400 when the body is not an image, 413 when it is too large.
    """
    if len(body) > MAX_BYTES:
        raise HTTPException(413, f"more than {MAX_BYTES} bytes")
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) if body else None
    if image is None:
        raise HTTPException(400, "the body is not a readable image")
    return image


def engine(cuda: bool, side: int = 320) -> RapidOCR:
    """RapidOCR on one thread per replica: Serve provides the parallelism."""
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": side,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "EngineConfig.onnxruntime.use_cuda": cuda,
        }
    )


def find_lines(ocr: RapidOCR, image: Image) -> list[Image]:
    """The parts of an image with a line of text each, from the top down."""
    # All outputs of detection alone have boxes.
    found = cast("RapidOCROutput", ocr(image, use_det=True, use_cls=False, use_rec=False))
    if found.boxes is None:
        return []
    boxes = sorted((np.asarray(box, np.float32) for box in found.boxes), key=lambda box: float(box[:, 1].min()))
    return [get_rotate_crop_image(image, copy.deepcopy(box)) for box in boxes]


def read_lines(ocr: RapidOCR, lines: list[Image]) -> list[str]:
    """The text of each line, all of them in one run of the model."""
    if not lines:
        return []
    texts = ocr.recognize_txt(lines).txts
    assert texts is not None
    return list(texts)


class Model:
    """The base of both model deployments: one engine, loaded before the first request, and a health check."""

    warm_up: Any  # a function of the engine that loads the model by using it
    session: Any  # a function of the engine: the model's session of ONNX Runtime

    def __init__(self) -> None:
        self._ocr: RapidOCR | None = None
        self._lock = asyncio.Lock()

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Load the models; Serve calls this before the first request and after each change of user_config."""
        ocr = engine(bool(config.get("cuda", False)), int(config.get("side", 320)))
        type(self).warm_up(ocr)
        if config.get("cuda", False) and "CUDAExecutionProvider" not in self.session(ocr).get_providers():
            # Else the models would run on the CPU and leave a reserved GPU idle.
            raise RuntimeError("ONNX Runtime cannot use the GPU: see its warnings in this replica's log")
        self._ocr = ocr

    async def run(self, function: Any, *args: Any) -> Any:
        """Run a model off the event loop, one call at a time: concurrent calls would only share the thread."""
        async with self._lock:
            return await asyncio.to_thread(function, self._ocr, *args)

    def check_health(self) -> None:
        """Unhealthy until the models are loaded."""
        if self._ocr is None:
            raise RuntimeError("the models are not loaded")


@serve.deployment
class Detector(Model):
    """Finds the lines of text in an image."""

    warm_up = staticmethod(lambda ocr: find_lines(ocr, BLANK))
    session = staticmethod(lambda ocr: ocr.text_det.session.session)

    async def __call__(self, image: Image) -> list[Image]:
        """Parts of the image, one for each line."""
        lines: list[Image] = await self.run(find_lines, image)
        return lines


@serve.deployment
class Recogniser(Model):
    """Reads lines; those of concurrent requests are batched."""

    warm_up = staticmethod(lambda ocr: read_lines(ocr, [BLANK]))
    session = staticmethod(lambda ocr: ocr.text_rec.session.session)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.02)
    async def read(self, requests: list[list[Image]]) -> list[list[str]]:
        """The text of each line of each request."""
        with trace_batch("read"):
            texts = iter(await self.run(read_lines, [line for request in requests for line in request]))
        return [[next(texts) for _ in request] for request in requests]

    async def __call__(self, lines: list[Image]) -> list[str]:
        """The text of each line."""
        texts: list[str] = await self.read(lines)
        return texts


@serve.deployment
@serve.ingress(web)
class Ingress:
    """The HTTP ingress."""

    def __init__(self, detector: "DeploymentHandle[Any]", recogniser: "DeploymentHandle[Any]") -> None:
        self._detector = detector
        self._recogniser = recogniser

    @web.post("/read")
    async def read(self, request: Request, fault: str = "", delay_s: float = 0) -> dict[str, list[str]]:
        """The lines of text in the image of the body (PNG or JPEG).

        `fault=error` raises an exception, `delay_s` waits first: for the demo's load and for fault injection.
        """
        image = decode(await request.body())
        if fault == "error":
            raise RuntimeError("failure requested")
        if delay_s:
            await asyncio.sleep(max(0.0, min(delay_s, MAX_DELAY_S)))
        lines = await self._detector.remote(image)
        return {"lines": await self._recogniser.remote(lines)}

    def check_health(self) -> None:
        """Always healthy: the ingress has no state that could fail."""


# mypy ignores what a decorator makes of a class.
app = Ingress.bind(Detector.bind(), Recogniser.bind())  # type: ignore[attr-defined]
