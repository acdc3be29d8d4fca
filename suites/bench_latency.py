"""Forward latency of dense and compressed models, side by side in one run.

    pytest suites/bench_latency.py --benchmark-group-by=param:model

Compare within one run only: another machine, or the same one an hour later, is another number. Pruned weights are zeros in dense
matrices and run no faster; int8 runs the real kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from pytest_kick.catalog import catalog
from pytest_kick.plugin import SESSION
from pytest_kick.spec import Case, CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

BATCH, LENGTH = 8, 32
COMPRESSIONS = {
    "dense-float32": ((), "float32"),
    "dense-bfloat16": ((), "bfloat16"),
    "l1_global-s0.5-float32": ((CompressionStep(method="l1_global", scope="overall", level=0.5),), "float32"),
    "dynamic_int8-float32": ((CompressionStep(method="dynamic_int8", scope="overall", level=8),), "float32"),
    "dynamic_int8-bfloat16": ((CompressionStep(method="dynamic_int8", scope="overall", level=8),), "bfloat16"),
    "quantize_dynamic-float32": ((CompressionStep(method="quantize_dynamic", scope="overall", level=8),), "float32"),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("model", ["smollm2-135m", "tiny-encoder", "tiny-encoder-decoder", "tiny-decoder"])
def test_forward(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, model: str, compression: str) -> None:
    """Time one forward pass of a batch of token sequences."""
    steps, dtype = COMPRESSIONS[compression]
    case = Case(suite="bench", model=catalog()[model], compression=CompressionSpec(steps=steps), probes=("facts",))
    loaded, _ = request.config.stash[SESSION].runner.prepare(case, dtype)
    tokens = torch.randint(8, loaded.module.config.vocab_size, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": tokens.to(loaded.device)}
    if loaded.family == "encoder-decoder":
        inputs["decoder_input_ids"] = inputs["input_ids"]
    with torch.inference_mode():
        benchmark(lambda: loaded.module(**inputs))
