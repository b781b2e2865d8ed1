"""The demo's models, outside Serve."""

from __future__ import annotations

import onnxruntime
import pytest

from demo.app.ocr import Detector, Recogniser


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is CUDA here")
@pytest.mark.parametrize("deployment", [Detector, Recogniser])
def test_a_model_configured_for_a_gpu_does_not_start_on_the_cpu(deployment):
    model = deployment.func_or_class()
    with pytest.raises(RuntimeError, match="cannot use the GPU"):
        model.reconfigure({"cuda": True})
    with pytest.raises(RuntimeError, match="not loaded"):
        model.check_health()
    model.reconfigure({"cuda": False})
    model.check_health()
