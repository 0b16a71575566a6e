"""Products with a virtual backbone: the kernel's order of summation, and the operators."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

import lottapack
from lottapack import rng
from lottapack.errors import DeviceError, UnsupportedError
from lottapack.products import declared, layout, narrow, signs
from lottapack.products import product as products
from lottapack.products.adapted import generated_adapted_product
from lottapack.products.convolution import generated_convolution, generated_convolution_gradient
from lottapack.products.op import generated_product
from lottapack.products.product import Matrix
from lottapack.products.rows import generated_rows
from lottapack.products.weight_key import parsed, weight_key
from lottapack.rng import backends, reference
from lottapack.rng.kernels import calls, team

SEED, NAME = 2**63 + 42, "layers.0.weight"
SHAPES = [(37, 1000), (5, 4096), (100, 33), (9, 2816), (3, 1), (70, 1024), (40, 1056), (23, 3072)]


def source(table="sign1", scale=0.3, dtype="float32"):
    return rng.Source(SEED, NAME, rng.builtin(table), rng.binary32(scale), dtype)


def named(shape, table="sign1", dtype="float32"):
    return None, weight_key(source(table, dtype=dtype), shape)


def weight(shape, table="sign1", scale=0.3, dtype=torch.float32):
    return lottapack.draw(NAME, shape, seed=SEED, distribution=table, scale=rng.binary32(scale), dtype=dtype)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def in_stated_order(x, signs, scale):
    """What the documentation of the kernels says, in binary32: x, shape (n, terms); signs, shape (outputs, terms)."""
    terms = x[:, None, :] * signs[None, :, :]
    t = np.pad(terms, ((0, 0), (0, 0), (0, -terms.shape[-1] % 4))).reshape(*terms.shape[:2], -1, 4)
    fours = (t[..., 0] + t[..., 1]) + (t[..., 2] + t[..., 3])
    out = np.zeros(terms.shape[:2], np.float32)
    for first in range(0, fours.shape[-1], 128):
        part = np.zeros_like(out)
        for four in np.moveaxis(fours[..., first : first + 128], -1, 0):
            part += four
        out += part
    return out * np.float32(scale)


def same_bits(one, other):
    return np.array_equal(np.asarray(one).view(np.uint32), np.asarray(other).view(np.uint32))


compiled = pytest.mark.skipif(not backends.numba_works(), reason="no numba")


def many_parts(patch, shared):
    """More pieces, and more threads: torch's, or those of a pool."""
    patch.setattr(team, "is_ready", lambda: shared)
    for name in ("_LEAST", "_LEAST_OF_TEAM"):
        patch.setattr(signs, name, 64)
    patch.setattr(signs, "_BLOCKS", 1)
    for module in (signs, calls):
        patch.setattr(module, "default", lambda: 3)


@compiled
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 15])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_kernels_add_in_the_stated_order(transposed, n, shape, monkeypatch):
    x, of_one = drawn(n, shape[0] if transposed else shape[1]), weight(shape, scale=1.0).numpy()
    due = in_stated_order(x.numpy(), of_one.T if transposed else of_one, rng.binary32(0.3))
    assert signs.fits(x, source(), shape, transposed, None)
    assert same_bits(products.product(x, Matrix(source(), shape), transposed=transposed), due)
    for shared in {False, team.available()}:
        many_parts(monkeypatch, shared)
        assert same_bits(products.product(x, Matrix(source(), shape), transposed=transposed), due)


@compiled
@pytest.mark.parametrize("transposed", [False, True])
def test_each_input_is_summed_alone(transposed, monkeypatch):
    """However many there are, and however much is generated at once."""
    shape, inputs = (1100, 700), layout.SLAB + 3
    matrix, x = Matrix(source(), shape), drawn(inputs, shape[0] if transposed else shape[1])
    together = products.product(x, matrix, transposed=transposed)
    for i in (0, 1, layout.SLAB, inputs - 1):
        assert torch.equal(products.product(x[[i]], matrix, transposed=transposed), together[[i]])
    least = 4 * signs._bits_of(layout.TERMS, shape[1])
    assert signs.fits(x, source(), shape, transposed, least)
    assert signs.fits(x, source(), shape, transposed, least - 1) != transposed
    assert torch.equal(products.product(x, matrix, transposed=transposed, max_bytes=least), together)
    monkeypatch.setattr(signs, "SLAB", 5)
    assert torch.equal(products.product(x, matrix, transposed=transposed), together)


@compiled
@pytest.mark.parametrize("dtype", products.NARROW)
@pytest.mark.parametrize("transposed", [False, True])
def test_narrow_inputs_are_summed_in_float32_and_rounded_once(transposed, dtype):
    x, matrix = drawn(6, 600).to(dtype), Matrix(source(), (600, 600))
    wide = signs.product(x.float(), matrix.source, products.magnitude(matrix, dtype), (600, 600), transposed)
    assert torch.equal(products.product(x, matrix, transposed=transposed), wide.to(dtype))


@compiled
@pytest.mark.parametrize("special", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("transposed", [False, True])
def test_what_is_not_finite_stays_with_its_input(transposed, special):
    x = drawn(3, 70)
    x[1, 5] = special
    y = products.product(x, Matrix(source(), (70, 70)), transposed=transposed)
    w = weight((70, 70))
    due = x @ (w if transposed else w.T)
    assert torch.allclose(y, due, rtol=1e-4, atol=1e-4, equal_nan=True)
    assert y[[0, 2]].isfinite().all()


def bound(x, w):
    """Of a sum of n terms in binary32, in any order: gamma(n) times the sum of their sizes (Higham 2002, 4.2)."""
    unit = 2.0**-24
    n = x.shape[-1] + 1
    return (n * unit / (1 - n * unit)) * (x.double().abs() @ w.double().abs().T)


@pytest.mark.parametrize("table", [table for table in rng.BUILTIN if table != "hadamard"])
@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 30)], ids=str)
def test_a_product_is_that_with_the_weights_within_the_error_of_a_sum(table, batch):
    w, x = weight((60, 300), table), drawn(*batch, 300)
    y = generated_product(x, *named((60, 300), table), False, 4000)
    assert y.shape == (*batch, 60)
    assert bool(((y.double() - x.double() @ w.double().T).abs() <= bound(x, w)).all())
    g = drawn(*batch, 60)
    back = generated_product(g, *named((60, 300), table), True, 4000)
    assert bool(((back.double() - g.double() @ w.double()).abs() <= bound(g, w.T)).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("recorded", ["float32", "bfloat16"])
@pytest.mark.parametrize("n", [1, 40])
def test_weights_are_converted_to_the_dtype_of_the_input(dtype, recorded, n):
    w = weight((60, 300), dtype=getattr(torch, recorded)).to(dtype)
    x = drawn(n, 300).to(dtype)
    y = generated_product(x, *named((60, 300), dtype=recorded), False, 0)
    assert y.dtype == dtype
    due = x.double() @ w.double().T
    rounding = torch.finfo(dtype).eps
    assert bool(((y.double() - due).abs() <= bound(x, w) + rounding * due.abs()).all())


@pytest.mark.parametrize("shape", [(3, 4), (8, 3, 3, 2)], ids=str)
def test_a_key_names_all_of_a_weight(shape):
    one = rng.Source(SEED, "a b.ü x", rng.builtin("uniform16"), rng.binary32(0.1), "bfloat16")
    assert parsed(weight_key(one, shape)) == ("uniform16", SEED, one.scale, "bfloat16", (), shape, one.name)
    through = torch.float16, torch.bfloat16
    assert parsed(weight_key(one, shape, through))[3:5] == ("bfloat16", ("float16", "bfloat16"))


def test_empty_inputs_have_empty_products():
    assert generated_product(torch.ones(0, 30), *named((20, 30)), False, 0).shape == (0, 20)
    assert generated_product(torch.ones(0, 20), *named((20, 30)), True, 0).shape == (0, 30)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_block_is_no_larger_than_allowed(transposed, monkeypatch):
    made = []
    fill = rng.fill_
    path = "lottapack.products.product.rng.fill_"
    monkeypatch.setattr(path, lambda t, *rest: made.append(t.nbytes) or fill(t, *rest))
    x = drawn(40, 20 if transposed else 300)
    products.product(x, Matrix(source("normal16"), (20, 300)), transposed=transposed, max_bytes=5000)
    assert sum(made) == 20 * 300 * 4
    assert max(made) == 4 * 1200


QUICK = ("test_schema", "test_faketensor", "test_autograd_registration")
"""The checks of torch.library.opcheck() that compile nothing."""
TABLE = torch.tensor([1.0, -2.0, 3.0, 0.5])


@pytest.mark.parametrize("table", ["sign1", "normal4", None], ids=["sign1", "normal4", "own"])
def test_the_product_is_an_operator_that_torch_can_differentiate(table):
    own = rng.Source(SEED, NAME, rng.custom("mine", TABLE.numpy()), 0.25, "float32")

    def names(*shape):
        return named(shape, table) if table else (TABLE, weight_key(own, shape))

    def function(x):
        return generated_product(x, *names(4, 9), False, 0)

    x = drawn(2, 9).double().requires_grad_()
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
    torch.library.opcheck(generated_product, (drawn(3, 30), *names(7, 30), False, 0), test_utils=QUICK)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # read by torch 2.14's own check
def test_the_product_is_an_operator_in_all_that_torch_checks():
    torch.library.opcheck(generated_product, (drawn(3, 30).requires_grad_(), *named((7, 30)), False, 0))


CONVOLUTIONS = {
    "plain": ((8, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "strided": ((9, 4, 3, 2), (2, 1), (0, 2), (1, 2), 1),
    "groups": ((12, 2, 3, 3), (1, 1), (1, 1), (1, 1), 3),
    "depthwise": ((6, 1, 3, 3), (1, 1), (0, 0), (1, 1), 6),
    "one dimension": ((10, 5, 4), (2,), (1,), (1,), 1),
}


@pytest.mark.parametrize("layer", ["linear", "adapted", "convolution"])
def test_a_derivative_in_forward_mode_is_refused_and_never_zero(layer):
    """torch takes that of an operator without a formula for zero."""
    operators = {
        "linear": lambda x: generated_product(x, *named((6, 5)), False, 0),
        "adapted": lambda x: generated_adapted_product(
            x, drawn(2, 5), drawn(6, 2), None, 1.0, *named((6, 5)), False, 0
        ),
        "convolution": lambda x: generated_convolution(x[None, None], *named((2, 1, 3)), [1], [0], [1], 1, 0),
    }
    x = drawn(5) if layer == "convolution" else drawn(3, 5)
    with pytest.raises(UnsupportedError, match="in forward mode"):
        torch.func.jvp(operators[layer], (x,), (torch.ones_like(x),))
    y = operators[layer](x.requires_grad_())
    assert torch.autograd.grad(y.sum(), x)[0].abs().sum() > 0


@pytest.mark.parametrize("max_bytes", [0, 1, 600])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_is_that_with_the_kernel_and_so_is_its_gradient(case, max_bytes):
    shape, stride, padding, dilation, groups = CONVOLUTIONS[case]
    x = drawn(2, shape[1] * groups, *[9] * len(stride)).double().requires_grad_()
    kernel = weight(shape, "normal16").double()
    rest = (*named(shape, "normal16"), stride, padding, dilation, groups, max_bytes)
    y = generated_convolution(x, *rest)
    due = (F.conv1d if len(stride) == 1 else F.conv2d)(x, kernel, None, stride, padding, dilation, groups)
    assert torch.allclose(y, due, rtol=1e-12, atol=1e-12)
    g = drawn(*y.shape).double()
    assert torch.allclose(*(torch.autograd.grad(one, x, g)[0] for one in (y, due)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_bytes", [0, 600])
def test_a_second_derivative_of_a_convolution_is_refused_and_never_zero(max_bytes):
    """Its gradient is an operator without one; where the first does not depend on the input, torch says so."""
    shape, *rest = CONVOLUTIONS["groups"]

    def function(x):
        return generated_convolution(x, *named(shape), *rest, max_bytes)

    x = drawn(1, 6, 3, 3).requires_grad_()
    (g,) = torch.autograd.grad(function(x).pow(3).sum(), x, create_graph=True)
    for of in (g.sum(), g.pow(2).sum()):
        with pytest.raises(RuntimeError, match=r"generated_convolution_gradient.* no autograd formula"):
            torch.autograd.grad(of, x, retain_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.functional.hvp(lambda x: function(x).pow(3).sum(), x.detach(), torch.ones_like(x))
    (g,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(g.sum(), x)


def test_the_convolution_is_an_operator():
    shape, *rest = CONVOLUTIONS["groups"]
    x = drawn(1, 6, 3, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: generated_convolution(x, *named(shape), *rest, 300), x, fast_mode=True)
    torch.library.opcheck(generated_convolution, (x.detach(), *named(shape), *rest, 0), test_utils=QUICK)
    given = (drawn(1, 12, 3, 3), [1, 6, 3, 3], *named(shape), *rest, 0)
    torch.library.opcheck(generated_convolution_gradient, given, test_utils=QUICK)


@pytest.mark.parametrize("rows", [0, 1, 5], ids=["whole", "by channel", "in parts"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("way", ["contiguous", "channels last"])
def test_a_convolution_in_parts_has_the_strides_that_compilers_expect(way, groups, rows):
    shape, x = (12, 4 // groups, 3, 3), drawn(2, 4, 6, 5)
    x = x.contiguous(memory_format=torch.channels_last) if way == "channels last" else x
    rest = ([1, 1], [1, 1], [1, 1], groups, 4 * 9 * shape[1] * rows)
    torch.library.opcheck(generated_convolution, (x, *named(shape), *rest), test_utils=("test_faketensor",))
    found = generated_convolution(x, *named(shape), *rest)
    assert found.stride() == F.conv2d(x, weight(shape), padding=1, groups=groups).stride()


def test_rows_are_those_of_the_matrix():
    w, like = weight((50, 12), "normal16"), torch.empty(0)
    indices = torch.tensor([[3, 49, 3], [0, 4, 3]])
    rows = generated_rows(indices, like, *named((50, 12), "normal16"))
    assert same_bits(rows, w[indices])
    assert generated_rows(indices[:0], like, *named((50, 12))).shape == (0, 3, 12)
    torch.library.opcheck(generated_rows, (indices, like.bfloat16(), *named((50, 12))), test_utils=QUICK)
    for outside in (-1, 50):
        with pytest.raises(IndexError, match="for 50 rows"):
            generated_rows(torch.tensor([0, outside]), like, *named((50, 12)))


def test_compilers_and_export_see_one_operator():
    names = named((20, 30))

    def function(x):
        return generated_product(x, *names, False, 0).relu()

    x = drawn(2, 30)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), function(x))

    class Module(torch.nn.Module):
        forward = staticmethod(function)

    exported = torch.export.export(Module(), (x,))
    called = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert called == ["lottapack.generated_product.default", "aten.relu.default"]
    assert torch.equal(exported.module()(x), function(x))


def relative(found, due):
    return float((found.double() - due).norm() / due.norm())


@pytest.mark.parametrize("recorded", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", products.NARROW)
@pytest.mark.parametrize("table", ["sign1", "normal16"])
def test_a_sum_over_blocks_is_rounded_once(table, dtype, recorded):
    """Its error is that of one rounding, 2**-9 or 2**-12 at most for each output, however small the blocks."""
    w = weight((300, 70), table, dtype=getattr(torch, recorded)).to(dtype).double()
    g = drawn(40, 300).to(dtype)
    for max_bytes in (0, 100_000, 10_000, 1):
        matrix = Matrix(source(table, dtype=recorded), (300, 70))
        back = products.product(g, matrix, transposed=True, max_bytes=max_bytes or None)
        assert back.dtype == dtype
        due = g.double() @ w
        assert bool(((back.double() - due).abs() <= torch.finfo(dtype).eps / 2 * due.abs() + bound(g, w.T)).all())


dots = pytest.mark.skipif(
    not narrow.fits(torch.empty(1, 1, dtype=torch.bfloat16)), reason="no dot products of bfloat16"
)


@dots
@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (256, 64), (257, 65), (700, 200), (1025, 129)], ids=str)
@pytest.mark.parametrize("n", [1, 6, 8, 13])
def test_blocks_in_bfloat16_are_added_to_sums_in_float32(n, shape, monkeypatch):
    """Within the error of a sum in binary32: products of two numbers of 8 bits are exact there."""
    x, w = drawn(n, shape[0] + 5).bfloat16(), drawn(*shape, seed=1).bfloat16()
    part = x[:, 3 : shape[0] + 3]
    due, most = part.double() @ w.double(), 2 * bound(part, w.T)

    def twice():
        out = torch.full((n, shape[1]), math.nan)
        for times in (1, 2):
            narrow.add_product_(out, x, 3, w, fresh=times == 1)
            assert bool(((out - times * due).abs() <= times * most).all())
        return out

    out = twice()
    monkeypatch.setattr(narrow, "_PIECE", 1)
    monkeypatch.setattr(narrow, "default", lambda: 3)
    assert same_bits(twice(), out)


@dots
@pytest.mark.parametrize("special", [0.0, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("size", [(64, 96), (4001, 24)], ids=str)
def test_dot_products_in_bfloat16_are_products_in_float32(special, size, monkeypatch):
    g, found = drawn(16, size[0]).bfloat16(), []
    g[3, 5] = special
    for fast in (True, False):
        monkeypatch.setattr(narrow, "_has_dots", lambda fast=fast: fast)
        found.append(products.product(g, Matrix(source("normal16"), size), transposed=True, max_bytes=size[0] * 16))
    one, other = (each.double() for each in found)
    assert torch.equal(one.isnan(), other.isnan())
    assert torch.equal(one[3].isfinite(), torch.full((size[1],), math.isfinite(special)))
    one, other = (each.nan_to_num(posinf=1, neginf=-1) for each in (one, other))
    sizes = g.double().abs().nan_to_num(0, 0, 0).sum(1, keepdim=True)
    assert bool(((one - other).abs() <= 2**-8 * other.abs() + 2**-18 * sizes).all())


@pytest.mark.parametrize("dtype", products.NARROW)
@pytest.mark.parametrize("scale", [0.3, 30_000.0])
@pytest.mark.parametrize("table", [table for table in rng.BUILTIN if table != "hadamard"])
def test_a_tile_is_generated_in_the_dtype_of_the_input_if_a_source_may_have_its_elements(table, scale, dtype):
    """With the larger scale, tables have elements that are infinite in float16, which no source may have."""
    matrix, like = Matrix(source(table, scale), (40, 300)), torch.empty(0, dtype=dtype)
    due = weight((40, 300), table, scale).to(dtype)
    found = torch.cat([tile.clone() for tile in matrix.tiles([(0, 17), (17, 40)], like)])
    assert torch.equal(found.view(torch.int16), due.view(torch.int16))
    infinite = rng.scale_fault(rng.builtin(table), rng.binary32(scale), str(dtype).removeprefix("torch."))
    assert len(set(matrix._dtypes(like, False))) == (2 if infinite else 1)
    assert bool(infinite) == (scale > 1 and dtype == torch.float16 and table in ("normal16", "normal8"))


@pytest.mark.parametrize("dtype", products.NARROW)
@pytest.mark.parametrize("groups", [1, 3])
def test_a_gradient_of_a_convolution_is_rounded_once(groups, dtype):
    shape = (60, 12 // groups, 3)
    kernel, g, x = weight(shape, "normal16").to(dtype), drawn(2, 60, 20).to(dtype), drawn(2, 12, 20).to(dtype)
    rest = None, [1], [1], [1], False, [0], groups, [True, False, False]
    due = torch.ops.aten.convolution_backward(g.double(), x.double(), kernel.double(), *rest)[0]
    whole = torch.ops.aten.convolution_backward(g, x, kernel, *rest)[0]
    for max_bytes in (0, 6000, 600, 1):
        given = [1], [1], [1], groups, max_bytes
        found = generated_convolution_gradient(g, list(x.shape), *named(shape, "normal16"), *given)
        assert relative(found, due) <= 1.1 * relative(whole, due)


@pytest.mark.parametrize("batched", ["x", "adapters"])
def test_vmap_gives_what_a_loop_gives(batched):
    x, a, b = drawn(4, 3, 30), drawn(4, 2, 30, seed=1), drawn(4, 7, 2, seed=2)

    def function(x, a, b):
        return generated_adapted_product(x, a, b, None, 0.5, *named((7, 30)), False, 0)

    dims = (0, None, None) if batched == "x" else (None, 0, 0)
    given = (x, a[0], b[0]) if batched == "x" else (x[0], a, b)
    found = torch.func.vmap(function, in_dims=dims)(*given)
    each = [function(*(v if d is None else v[i] for v, d in zip(given, dims, strict=True))) for i in range(4)]
    assert torch.allclose(found, torch.stack(each), rtol=1e-5, atol=1e-5)
    shape, *rest = CONVOLUTIONS["one dimension"]
    images = drawn(3, 2, 5, 9)
    found = torch.func.vmap(lambda x: generated_convolution(x, *named(shape), *rest, 0))(images)
    assert torch.allclose(found, torch.stack([generated_convolution(x, *named(shape), *rest, 0) for x in images]))
    indices = torch.tensor([[1, 2], [0, 3]])
    found = torch.func.vmap(lambda i: generated_rows(i, torch.empty(0), *named((5, 4))))(indices)
    assert same_bits(found, generated_rows(indices, torch.empty(0), *named((5, 4))))


@compiled
@pytest.mark.parametrize("kernel", ["PRODUCT", "TRANSPOSED"])
def test_a_kernel_that_gives_a_wrong_answer_is_not_used(kernel, monkeypatch):
    right = getattr(declared, kernel)

    def wrong(out, *rest):
        right(out, *rest)
        out.owner[0] += 1
        return 0

    monkeypatch.setattr(declared, kernel, wrong)
    signs._require_right_answers.cache_clear()
    x = drawn(2, 70)
    with pytest.raises(DeviceError, match=r"sign1 compute a wrong (transposed )?product of 1 inputs"):
        products.product(x, Matrix(source(), (70, 70)))
    monkeypatch.undo()
    assert products.product(x, Matrix(source(), (70, 70))).shape == (2, 70)


@dots
def test_dot_products_that_give_a_wrong_answer_are_not_used(monkeypatch):
    monkeypatch.setattr(declared, "DOTS", lambda out, *_: 0 * len(out.owner.fill_(1)))
    narrow._require_right_answers.cache_clear()
    out, x, block = torch.empty(1, 64), torch.ones(1, 2).bfloat16(), torch.ones(2, 64).bfloat16()
    with pytest.raises(DeviceError, match="bfloat16 dot products compute a wrong product of 1 inputs"):
        narrow.add_product_(out, x, 0, block, fresh=True)
    monkeypatch.undo()
    narrow.add_product_(out, x, 0, block, fresh=True)
    assert torch.equal(out, torch.full((1, 64), 2.0))


@compiled
@pytest.mark.parametrize("block", [0, 2**24 - 1, 2**31 + 5, 2**47 - 1])
def test_bits_are_those_of_the_stream_where_the_counter_passes_32_bits(block):
    bits = np.empty(2 * layout.BLOCK // 32, np.uint32)
    declared.SIGNS(bits, block, *source().halves)
    elements = reference.elements(source(), block * layout.BLOCK, 2 * layout.BLOCK).view(np.float32)
    assert np.array_equal(bits, np.packbits(elements > 0, bitorder="little").view(np.uint32))
