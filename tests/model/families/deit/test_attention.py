"""Packed sequences through one call give what each sequence gives alone."""

import pytest
import torch

from tests.closeness import assert_close
from tests.model.flash import Flash
from tests.model.offdevice import META, Operations, meta_batch, meta_model
from vimserve.loadtests.gpu_check.recipe import make_weights
from vimserve.model.batch import PackedBatch
from vimserve.model.families.deit import attention
from vimserve.model.families.deit.attention import has_packed_attention, which_attention
from vimserve.model.families.deit.config import DeiTConfig
from vimserve.model.families.deit.model import DeiT

NANO = DeiTConfig(width=64, depth=2, heads=2, num_classes=10, grid=(4, 4))
SIZES = [(64, 64), (16, 16), (48, 112), (64, 64), (16, 32), (224, 224)]
CUDA = torch.device("cuda")


def test_packed_attention_is_attention_of_each_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DeiT(NANO)
    model.load_state_dict(make_weights(model))
    torch.manual_seed(0)
    mixed = PackedBatch.from_images([torch.randn(3, *size) for size in SIZES])
    equal = PackedBatch.from_images([torch.randn(3, 64, 64) for _ in range(3)])
    expected = model(mixed), model(equal)

    flash = Flash(monkeypatch)

    assert_close("mixed", model(mixed), expected[0], atol=1e-5)
    assert flash.calls == NANO.depth
    assert_close("equal", model(equal), expected[1], atol=1e-6)
    assert flash.calls == NANO.depth  # one call that need not be packed


def test_scores_that_are_written_out_are_never_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    flash = Flash(monkeypatch)
    model = DeiT(DeiTConfig(width=64, depth=1, heads=2, num_classes=10, attention="eager"))
    model(PackedBatch.from_images([torch.randn(3, *size) for size in SIZES]))
    assert not flash.calls


def test_pytorchs_own_takes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "has_packed_attention", lambda *_: True)
    model = meta_model(NANO, torch.bfloat16)
    grids = [(4, 4), (1, 2), (30, 7)]
    with Operations() as operations:
        scores = model(meta_batch(NANO, grids))
    assert scores.shape == (3, 10)
    assert operations.names.count("torch_attn._varlen_attn") == NANO.depth
    assert not operations.to_host
    assert not {"aten.stack", "aten.split_with_sizes"} & set(operations.names)


@pytest.mark.parametrize(
    ("device", "dtype", "head", "packs"),
    [
        (CUDA, torch.bfloat16, 64, True),
        (CUDA, torch.float16, 256, True),
        (CUDA, torch.float32, 64, False),
        (CUDA, torch.bfloat16, 264, False),
        (CUDA, torch.bfloat16, 20, False),
        (torch.device("cpu"), torch.bfloat16, 64, False),
        (META, torch.bfloat16, 64, False),
    ],
)
def test_flash_attention_has_limits(
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    dtype: torch.dtype,
    head: int,
    packs: bool,
) -> None:
    monkeypatch.setattr(attention, "_has_flash", lambda _: True)
    assert has_packed_attention(device, dtype, head) is packs


@pytest.mark.parametrize(
    ("capability", "built", "has"),
    [((7, 5), True, False), ((8, 0), True, True), ((9, 0), True, True), ((9, 0), False, False)],
)
def test_flash_attention_needs_an_ampere_and_a_pytorch_that_has_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built: bool, has: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: built)
    assert attention._has_flash.__wrapped__(CUDA) is has


PRODUCT = "nvjet_hsh_128x128_64x6_2x1_v_bz_bias_TNT"
GELU = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl("
    "at::TensorIteratorBase&, at::native::GeluType)::{lambda()#2}::operator()() const"
)


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_"
         "cga1x1x1_kernel0_0", "cudnn"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false, "
         "false, cutlass::bfloat16_t, Flash_kernel_traits<64, 128, 128, 4, cutlass::bfloat16_t> >"
         ", false, false, false>(pytorch_flash::Flash_fwd_params)", "flash"),
        ("void pytorch_flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<64, 64, 256, 4> >",
         "flash"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<"
         "cutlass::bfloat16_t, cutlass::arch::Sm80, true, 64, 64, 64, true, true>::Params)",
         "efficient"),
        ("void (anonymous namespace)::softmax_warp_forward<c10::BFloat16, float, 8, false, false>",
         "eager"),
        ("void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float, float, float>",
         "eager"),
    ],
)  # fmt: skip
def test_a_kernels_name_tells_the_implementation(name: str, which: str) -> None:
    assert which_attention([PRODUCT, name, GELU]) == {which}


def test_a_trace_without_attention_has_none() -> None:
    assert which_attention([PRODUCT, GELU]) == set()
