import pytest
import torch

from tests.closeness import assert_close
from vimserve.kernels.openmp import Kernel, floats, task_loop
from vimserve.kernels.simd_product import multiply, pack_weight


@task_loop
def _multiply(a):
    x, weight, out = floats(a[3]), floats(a[5]), floats(a[8])  # type: ignore[call-arg, var-annotated]
    multiply(a[2], x, a[4], weight, a[6], a[7], out, a[9])


@pytest.mark.parametrize("rows", [1, 5, 8, 19])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (12, 16), (33, 44), (64, 160), (20, 81)])
def test_matches_pytorch(rows: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(outputs)
    a, weight = torch.randn(rows, inputs + 3), torch.randn(outputs, inputs)
    padded = -(-outputs // 16) * 16
    out = torch.full((rows + 1, padded + 2), torch.nan)

    Kernel(_multiply)(
        1, rows, a, a.stride(0), pack_weight(weight), inputs, outputs, out, out.stride(0)
    )

    assert_close("product", out[:rows, :outputs], a[:, :inputs] @ weight.T, atol=1e-4)
    assert not out[:rows, outputs:padded].any()
    assert out[:rows, padded:].isnan().all()
    assert out[rows].isnan().all()
