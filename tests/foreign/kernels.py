"""Pallas TPU kernels as an independent check of the emulator.

    python3 kernels.py OUT_DIR

Lowers each kernel to Mosaic text for a TPU, runs it in JAX's own TPU interpret mode on the CPU, and writes text,
inputs, expected results and a manifest to OUT_DIR. Needs jax and jaxlib, no TPU.
"""
import base64, functools, json, os, re, sys

os.environ["JAX_PLATFORMS"] = "cpu"
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax._src.interpreters import mlir as jmlir
from jax._src.mesh import AbstractDevice, AbstractMesh
from jaxlib.mlir import ir
from jaxlib.mlir.passmanager import PassManager
import jaxlib.mosaic.python.tpu as tpu_dialect

F32, BF16, I32, I8 = jnp.float32, jnp.bfloat16, jnp.int32, jnp.int8
DEVICE = AbstractDevice(device_kind="TPU v6 lite", num_cores=1, platform="tpu")
MESH = AbstractMesh((1,), ("x",), abstract_device=DEVICE)
VMEM, SMEM, ANY = pltpu.VMEM, pltpu.SMEM, pl.ANY
rng = np.random.default_rng(0)


def normal(*shape, dtype=F32):
    return jnp.asarray(rng.standard_normal(shape), dtype)


def attention_inputs(*shape):
    """Queries, small enough that no key takes all the weight, keys and values."""
    return normal(*shape) * 0.3, normal(*shape), normal(*shape)


def integers(low, high, *shape, dtype=I32):
    return jnp.asarray(rng.integers(low, high, shape), dtype)


def mosaic_text(stablehlo):
    """The decoded body of the only tpu_custom_call in a StableHLO module."""
    found = re.findall(r'@tpu_custom_call.*?backend_config = "((?:[^"\\]|\\.)*)"', stablehlo, re.S)
    assert len(found) == 1, f"{len(found)} custom calls"
    raw = re.sub(r"\\([0-9A-Fa-f]{2})", lambda h: chr(int(h.group(1), 16)), found[0]).replace("\\\\", "\\")
    context = jmlir.make_ir_context()
    tpu_dialect.register_dialect(context)
    with context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(base64.b64decode(json.loads(raw)["custom_call_config"]["body"]))
        PassManager.parse("builtin.module(mosaic-serde{serialize=false})").run(module.operation)
        return module.operation.get_asm(enable_debug_info=False)


CASES = []


def case(name, *args, tolerance=1e-5, aliases=(), faults=(), reference=None):
    """Registers a function of arrays that makes exactly one pallas_call. `reference` gives the expected result where
    JAX's interpreter cannot run the kernel, `faults` what the emulator finds in it."""

    def register(function):
        options = dict(tolerance=tolerance, aliases=aliases, faults=faults, reference=reference)
        CASES.append(dict(name=name, function=function, args=args, **options))
        return function

    return register


def recorded(function, args, reference):
    """Operands and results of the pallas_call that `function` makes, run in interpret mode or by the reference."""
    seen = []
    original = pl.pallas_call

    def pallas_call(kernel, *rest, **options):
        options["interpret"] = pltpu.InterpretParams()
        call = original(kernel, *rest, **options)
        grid = options.get("grid", getattr(options.get("grid_spec"), "grid", ()))

        def record(*operands):
            results = reference(*args) if reference else call(*operands)
            seen.append((jax.tree.leaves(operands), jax.tree.leaves(results), grid))
            return results

        return record

    pl.pallas_call = pallas_call
    try:
        with jax.disable_jit():
            function(*args)
    finally:
        pl.pallas_call = original
    assert len(seen) == 1, f"{len(seen)} pallas_calls"
    return seen[0]


def write(case, out):
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in case["args"]]
    with jax.sharding.use_abstract_mesh(MESH):
        lowered = jax.jit(case["function"]).trace(*shapes).lower(lowering_platforms=("tpu",))
    text = mosaic_text(lowered.as_text())
    inputs, outputs, grid = recorded(case["function"], case["args"], case["reference"])
    name = case["name"]
    with open(os.path.join(out, name + ".mlir"), "w") as f:
        f.write(text)
    grid = [int(g) for g in (grid if isinstance(grid, tuple) else (grid,))]
    entry = dict(name=name, tolerance=case["tolerance"], aliases=case["aliases"], faults=case["faults"], grid=grid)
    for kind, arrays in [("inputs", inputs), ("outputs", outputs)]:
        entry[kind] = []
        for i, a in enumerate(arrays):
            a = np.asarray(a)
            file = f"{name}.{kind}.{i}"
            a.tofile(os.path.join(out, file))
            dtype = {"float32": "f32", "bfloat16": "bf16", "int32": "i32", "int8": "i8"}[a.dtype.name]
            entry[kind].append(dict(file=file, dtype=dtype, shape=a.shape))
    return entry


def out(shape, dtype=F32):
    return jax.ShapeDtypeStruct(shape, dtype)


# ---- matrix products


@case("matmul_grid", normal(256, 512, dtype=BF16), normal(512, 384, dtype=BF16), tolerance=1e-2)
def matmul_grid(x, y):
    def kernel(x_ref, y_ref, o_ref, acc):
        @pl.when(pl.program_id(2) == 0)
        def _():
            acc[...] = jnp.zeros_like(acc)

        acc[...] += jnp.dot(x_ref[...], y_ref[...], preferred_element_type=F32)

        @pl.when(pl.program_id(2) == pl.num_programs(2) - 1)
        def _():
            o_ref[...] = acc[...].astype(BF16)

    return pl.pallas_call(
        kernel,
        grid=(2, 3, 4),
        in_specs=[pl.BlockSpec((128, 128), lambda i, j, k: (i, k)), pl.BlockSpec((128, 128), lambda i, j, k: (k, j))],
        out_specs=pl.BlockSpec((128, 128), lambda i, j, k: (i, j)),
        out_shape=out((256, 384), BF16),
        scratch_shapes=[VMEM((128, 128), F32)],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
    )(x, y)


@case("matmul_forms", normal(64, 128), normal(128, 96), normal(96, 128), normal(2, 16, 32), normal(2, 32, 24))
def matmul_forms(a, b, c, d, e):
    def kernel(a_ref, b_ref, c_ref, d_ref, e_ref, nn, nt, tn, batch):
        dot = functools.partial(jax.lax.dot_general, preferred_element_type=F32, precision=jax.lax.Precision.HIGHEST)
        nn[...] = dot(a_ref[...], b_ref[...], (((1,), (0,)), ((), ())))
        nt[...] = dot(a_ref[...], c_ref[...], (((1,), (1,)), ((), ())))
        tn[...] = dot(b_ref[...], a_ref[...].T, (((0,), (0,)), ((), ())))
        batch[...] = dot(d_ref[...], e_ref[...], (((2,), (1,)), ((0,), (0,))))

    shapes = (out((64, 96)), out((64, 96)), out((96, 64)), out((2, 16, 24)))
    return pl.pallas_call(kernel, out_shape=shapes)(a, b, c, d, e)


# ---- attention


@case("flash_attention", normal(2, 256, 128), normal(2, 384, 128), normal(2, 384, 128))
def flash_attention(q, k, v):
    """Causal, keys start 128 before the queries; blocks beyond the diagonal are skipped."""

    def kernel(q_ref, k_ref, v_ref, o_ref, m, l, acc):
        i, j = pl.program_id(1), pl.program_id(2)

        @pl.when(j == 0)
        def _():
            m[...] = jnp.full_like(m, -1e30)
            l[...] = jnp.zeros_like(l)
            acc[...] = jnp.zeros_like(acc)

        @pl.when(j <= i + 1)
        def _():
            s = jax.lax.dot_general(q_ref[0], k_ref[0], (((1,), (1,)), ((), ())), preferred_element_type=F32) * 0.088
            rows = jax.lax.broadcasted_iota(I32, s.shape, 0) + i * 128 + 128
            columns = jax.lax.broadcasted_iota(I32, s.shape, 1) + j * 128
            s = jnp.where(columns <= rows, s, -1e30)
            top = jnp.maximum(m[...], jnp.max(s, axis=1, keepdims=True))
            p = jnp.exp(s - top[:, :1])
            scale = jnp.exp(m[...] - top)
            l[...] = l[...] * scale + jnp.sum(p, axis=1, keepdims=True)
            acc[...] = acc[...] * scale + jnp.dot(p, v_ref[0], preferred_element_type=F32)
            m[...] = top

        @pl.when(j == pl.num_programs(2) - 1)
        def _():
            o_ref[0] = acc[...] / l[...]

    spec = lambda f: pl.BlockSpec((1, 128, 128), f)
    return pl.pallas_call(
        kernel,
        grid=(2, 2, 3),
        in_specs=[spec(lambda h, i, j: (h, i, 0)), spec(lambda h, i, j: (h, j, 0)), spec(lambda h, i, j: (h, j, 0))],
        out_specs=spec(lambda h, i, j: (h, i, 0)),
        out_shape=out((2, 256, 128)),
        scratch_shapes=[VMEM((128, 128), F32)] * 3,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
    )(q, k, v)


# ---- DMA


@case("dma_gather", jnp.asarray([5, 0, 7, 7, 2, 3], I32), jnp.asarray([6], I32), normal(8, 16, 128))
def dma_gather(table, length, pages):
    """Pages by table, double-buffered, summed with the weight of their place."""

    def kernel(table_ref, length_ref, pages_ref, o_ref, buffer, sems):
        def copy(i, slot):
            return pltpu.make_async_copy(pages_ref.at[table_ref[i]], buffer.at[slot], sems.at[slot])

        copy(0, 0).start()
        o_ref[...] = jnp.zeros_like(o_ref)

        def body(i, _):
            slot = jax.lax.rem(i, 2)

            @pl.when(i + 1 < length_ref[0])
            def _():
                copy(i + 1, 1 - slot).start()

            copy(i, slot).wait()
            o_ref[...] += buffer[slot] * (i + 1).astype(F32)
            return 0

        jax.lax.fori_loop(0, length_ref[0], body, 0)

    spec = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=2,
        grid=(1,),
        in_specs=[pl.BlockSpec(memory_space=ANY)],
        out_specs=pl.BlockSpec((16, 128), lambda i, *_: (0, 0)),
        scratch_shapes=[VMEM((2, 16, 128), F32), pltpu.SemaphoreType.DMA((2,))],
    )
    return pl.pallas_call(kernel, grid_spec=spec, out_shape=out((16, 128)))(table, length, pages)


@case("dma_scatter", jnp.asarray([3, 1], I32), normal(2, 8, 128), normal(4, 8, 256), aliases=[(2, 0)], tolerance=0)
def dma_scatter(slots, rows, cache):
    """Rows into half of the lanes of cache slots, in place; both copies share one semaphore."""

    def kernel(slots_ref, rows_ref, cache_in, cache, sem):
        copies = [
            pltpu.make_async_copy(rows_ref.at[i], cache.at[slots_ref[i], :, pl.ds(128, 128)], sem) for i in range(2)
        ]
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.wait()

    spec = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(1,),
        in_specs=[pl.BlockSpec(memory_space=ANY)] * 2,
        out_specs=pl.BlockSpec(memory_space=ANY),
        scratch_shapes=[pltpu.SemaphoreType.DMA],
    )
    call = pl.pallas_call(kernel, grid_spec=spec, out_shape=out((4, 8, 256)), input_output_aliases={2: 0})
    return call(slots, rows, cache)


@case("prefetch_windows", jnp.asarray([2, 0, 2, 1], I32), normal(24, 128), tolerance=0)
def prefetch_windows(order, x):
    """Blocks picked by a prefetched table; each result block doubles what it is given."""

    def kernel(order_ref, x_ref, o_ref):
        o_ref[...] = x_ref[...] * (order_ref[pl.program_id(0)] + 1).astype(F32)

    spec = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(4,),
        in_specs=[pl.BlockSpec((8, 128), lambda i, order: (order[i], 0))],
        out_specs=pl.BlockSpec((8, 128), lambda i, order: (i, 0)),
    )
    return pl.pallas_call(kernel, grid_spec=spec, out_shape=out((32, 128)))(order, x)


# ---- vectors


@case("softmax_rows", normal(40, 384) * 5)
def softmax_rows(x):
    """The last block hangs over the edge."""

    def kernel(x_ref, o_ref):
        x = x_ref[...]
        e = jnp.exp(x - jnp.max(x, axis=1, keepdims=True))
        o_ref[...] = e / jnp.sum(e, axis=1, keepdims=True)

    spec = pl.BlockSpec((16, 384), lambda i: (i, 0))
    return pl.pallas_call(kernel, grid=(3,), in_specs=[spec], out_specs=spec, out_shape=out((40, 384)))(x)


@case("reductions", normal(4, 16, 128), integers(-50, 50, 16, 128))
def reductions(x, i):
    def kernel(x_ref, i_ref, total, rows, middle, index, ints):
        x = x_ref[...]
        total[...] = jnp.full((8, 128), jnp.sum(x)) + jnp.min(x)
        rows[...] = jnp.sum(x, axis=2) + jnp.max(x, axis=2)
        middle[...] = jnp.sum(x, axis=1) * jnp.min(x, axis=0)[:4]
        index[...] = jnp.argmax(x[0], axis=1, keepdims=True) + jnp.argmin(x[1], axis=1, keepdims=True) * 1000
        ints[...] = jnp.broadcast_to(jnp.max(i_ref[...], axis=0, keepdims=True), (8, 128))

    shapes = (out((8, 128)), out((4, 16)), out((4, 128)), out((16, 1), I32), out((8, 128), I32))
    return pl.pallas_call(kernel, out_shape=shapes)(x, i)


@case("masked_select", normal(32, 256), jnp.asarray([[7], [100]], I32))
def masked_select(x, limits):
    def kernel(limits_ref, x_ref, o_ref, stored):
        x = x_ref[...]
        column = jax.lax.broadcasted_iota(I32, x.shape, 1)
        row = jax.lax.broadcasted_iota(I32, x.shape, 0)
        inside = (column >= limits_ref[0, 0]) & (column < limits_ref[1, 0]) | (row % 5 == 2)
        o_ref[...] = jnp.where(inside & ~(x < -1.0), x, row.astype(F32)) + inside.astype(F32)
        stored[...] = jnp.zeros_like(stored)
        pltpu.store(stored, x, mask=inside)

    return pl.pallas_call(
        kernel,
        in_specs=[pl.BlockSpec(memory_space=SMEM), pl.BlockSpec(memory_space=VMEM)],
        out_shape=(out((32, 256)), out((32, 256))),
    )(limits, x)


@case("shapes", normal(16, 256), normal(8, 128), integers(0, 128, 8, 128), jnp.asarray([37], I32), tolerance=0)
def shapes(x, y, index, shift):
    def kernel(shift_ref, x_ref, y_ref, index_ref, joined, turned, rolled, picked, strided):
        x = x_ref[...]
        joined[...] = jnp.concatenate([x[:8, 128:], x[8:, :128], y_ref[...]], axis=0)
        turned[...] = x.T.reshape(2, 128, 16)
        rolled[...] = pltpu.roll(x, 5, 0) + pltpu.roll(x, shift_ref[0], 1)
        picked[...] = jnp.take_along_axis(y_ref[...], index_ref[...], axis=1)
        strided[...] = jnp.zeros_like(strided)
        strided[pl.ds(1, 4, stride=2), :] = y_ref[pl.ds(0, 4, stride=2), :]
        strided[pl.ds(0, 1), :] = y_ref[pl.ds(shift_ref[0] % 8, 1), :]

    return pl.pallas_call(
        kernel,
        in_specs=[pl.BlockSpec(memory_space=SMEM)] + [pl.BlockSpec(memory_space=VMEM)] * 3,
        out_shape=(out((24, 128)), out((2, 128, 16)), out((16, 256)), out((8, 128)), out((8, 128))),
    )(shift, x, y, index)


@case("math", normal(16, 128) * 3, tolerance=3e-6)
def math(x):
    def kernel(x_ref, a, b, c):
        x = x_ref[...]
        p = jnp.abs(x) + 0.5
        a[...] = jnp.exp(x) + jnp.exp2(x) * jnp.tanh(x) + jnp.log(p) + jnp.log1p(p) + jnp.sqrt(p) * jax.lax.rsqrt(p)
        b[...] = jnp.sin(x) + jnp.cos(x) + jax.lax.erf(x) + jax.nn.sigmoid(x) + jnp.floor(x) - jnp.ceil(x) + jnp.round(x)
        c[...] = jnp.power(p, 2.5) + pl.reciprocal(p) + jnp.sign(x) + jnp.clip(x, -1.0, 2.0) + x % 1.5

    return pl.pallas_call(kernel, out_shape=(out((16, 128)),) * 3)(x)


@case("bf16_steps", normal(32, 256, dtype=BF16), normal(32, 256, dtype=BF16), tolerance=0)
def bf16_steps(x, y):
    """Every bf16 result is rounded."""

    def kernel(x_ref, y_ref, o_ref, wide):
        x, y = x_ref[...], y_ref[...]
        o_ref[...] = jnp.maximum(x * y + x, y - x) * x
        wide[...] = x.astype(F32) * y.astype(F32)

    return pl.pallas_call(kernel, out_shape=(out((32, 256), BF16), out((32, 256))))(x, y)


@case("integers", integers(-1000, 1000, 16, 128), integers(1, 9, 16, 128), tolerance=0)
def integer_ops(x, y):
    def kernel(x_ref, y_ref, a, b):
        x, y = x_ref[...], y_ref[...]
        a[...] = x // y + x % y + jnp.minimum(x, y) * jnp.maximum(x, y) + (x & y) - (x | y) + (x ^ y) + ~x + jnp.abs(x)
        shifts = (x << y) + (x >> y) + jax.lax.shift_right_logical(x, y)
        b[...] = shifts + jax.lax.population_count(x) + jax.lax.clz(x) + x.astype(I8).astype(I32) + (x < y).astype(I32)

    return pl.pallas_call(kernel, out_shape=(out((16, 128), I32),) * 2)(x, y)


@case("bits", normal(16, 128), normal(16, 128, dtype=BF16), tolerance=0)
def bits(x, y):
    """Casts between widths pair rows."""

    def kernel(x_ref, y_ref, same, narrow, wide):
        same[...] = jax.lax.bitcast_convert_type(x_ref[...], I32) >> 3
        narrow[...] = pltpu.bitcast(x_ref[...], BF16)
        wide[...] = pltpu.bitcast(y_ref[...], I32)

    return pl.pallas_call(kernel, out_shape=(out((16, 128), I32), out((32, 128), BF16), out((8, 128), I32)))(x, y)


# ---- control flow and windows


@case("control", jnp.asarray([5, 40], I32), normal(8, 128))
def control(bounds, x):
    def kernel(bounds_ref, x_ref, o_ref):
        total = jax.lax.fori_loop(0, bounds_ref[0], lambda i, c: c + x_ref[pl.ds(i, 1), :] * (i + 1).astype(F32), jnp.zeros((1, 128)))

        def halve(state):
            n, steps, v = state
            return jax.lax.cond(n % 2 == 0, lambda: n // 2, lambda: 3 * n + 1), steps + 1, v * 0.9

        n, steps, v = jax.lax.while_loop(lambda s: s[0] > 1, halve, (bounds_ref[1], 0, total))
        o_ref[...] = jnp.broadcast_to(v + (n + steps).astype(F32), o_ref.shape)

    return pl.pallas_call(
        kernel,
        in_specs=[pl.BlockSpec(memory_space=SMEM), pl.BlockSpec(memory_space=VMEM)],
        out_shape=out((8, 128)),
    )(bounds, x)


@case("revisited_output", normal(64, 128))
def revisited_output(x):
    """The result block stays in place along the inner grid dimension."""

    def kernel(x_ref, o_ref):
        @pl.when(pl.program_id(1) == 0)
        def _():
            o_ref[...] = jnp.zeros_like(o_ref)

        o_ref[...] += x_ref[...]

    return pl.pallas_call(
        kernel,
        grid=(2, 4),
        in_specs=[pl.BlockSpec((8, 128), lambda i, j: (i * 4 + j, 0))],
        out_specs=pl.BlockSpec((8, 128), lambda i, j: (i, 0)),
        out_shape=out((16, 128)),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
    )(x)


@case("element_windows", normal(32, 128), tolerance=0)
def element_windows(x):
    """Overlapping windows at element offsets."""

    def kernel(x_ref, o_ref):
        o_ref[...] = x_ref[...]

    return pl.pallas_call(
        kernel,
        grid=(3,),
        in_specs=[pl.BlockSpec((pl.Element(16), pl.Element(128)), lambda i: (i * 8, 0))],
        out_specs=pl.BlockSpec((16, 128), lambda i: (i, 0)),
        out_shape=out((48, 128)),
    )(x)


@case("semaphores", normal(8, 128), tolerance=0)
def semaphores(x):
    def kernel(x_ref, o_ref, sem):
        pl.semaphore_signal(sem, 3)
        pl.semaphore_wait(sem, 2)
        o_ref[...] = x_ref[...] * 2
        pl.semaphore_wait(sem, 1)

    return pl.pallas_call(kernel, out_shape=out((8, 128)), scratch_shapes=[pltpu.SemaphoreType.REGULAR])(x)


# ---- kernels that JAX ships


@case("jax_flash_attention", *attention_inputs(1, 2, 256, 128))
def jax_flash(q, k, v):
    from jax.experimental.pallas.ops.tpu import flash_attention as module

    return module.flash_attention(q, k, v, causal=True, sm_scale=0.1)


@case("jax_flash_segments", *attention_inputs(1, 2, 256, 128), jnp.repeat(jnp.arange(4), 64)[None].astype(I32))
def jax_flash_segments(q, k, v, segments):
    from jax.experimental.pallas.ops.tpu import flash_attention as module

    return module.flash_attention(q, k, v, segment_ids=module.SegmentIds(q=segments, kv=segments), sm_scale=0.1)


@case("jax_matmul", normal(256, 256), normal(256, 256))
def jax_matmul(a, b):
    from jax.experimental.pallas.ops.tpu import matmul as module

    return module.matmul(a, b, block_shape=(128, 128), block_k=128)


# It blends rows into a result block that it has not filled yet: right in the end, and worth knowing.
BLENDS = ["output read before written"]
SIZES = jnp.asarray([100, 0, 300, 112], I32)


@case("jax_grouped_matmul", normal(512, 128, dtype=BF16), normal(4, 128, 128, dtype=BF16), SIZES, faults=BLENDS)
def jax_grouped_matmul(lhs, rhs, sizes):
    """A grid bound known only at run time, and blocks that two groups share."""
    from jax.experimental.pallas.ops.tpu.megablox import gmm

    return gmm(lhs, rhs, sizes, tiling=(128, 128, 128))


@case("jax_splash_attention", *attention_inputs(2, 256, 128))
def jax_splash(q, k, v):
    """Block tables of 8-bit integers in SMEM."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as module
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    mask = masks.MultiHeadMask([masks.CausalMask((256, 256)) for _ in range(2)])
    sizes = module.BlockSizes(block_q=128, block_kv=128, block_kv_compute=128)
    return module.make_splash_mha(mask, head_shards=1, q_seq_shards=1, block_sizes=sizes)(q, k, v)


PAGES = integers(0, 16, 2, 8)


@case("jax_paged_attention", normal(2, 8, 128), normal(2, 16, 16, 128), normal(2, 16, 16, 128), jnp.asarray([100, 37], I32), PAGES)
def jax_paged(q, k, v, lengths, pages):
    from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention

    return paged_attention(q, k, v, lengths, pages, pages_per_compute_block=4)


def ragged(dtype, tolerance):
    args = [
        normal(32, 4, 128, dtype=dtype),
        normal(16, 16, 4, 128, dtype=dtype),
        jnp.asarray([20, 61, 0, 0], I32),
        integers(0, 16, 4, 8),
        jnp.asarray([0, 13, 32, 32, 32], I32),
        jnp.asarray([2], I32),
    ]
    name = "jax_ragged_paged_attention_" + jnp.dtype(dtype).name

    def reference(q, kv, lengths, pages, starts, count):
        from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ref_ragged_paged_attention

        return ref_ragged_paged_attention(q, kv, lengths, pages, starts, count, sm_scale=0.1)

    @case(name, *args, tolerance=tolerance, reference=reference)
    def jax_ragged(q, kv, lengths, pages, starts, count):
        from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention

        return ragged_paged_attention(
            q, kv, lengths, pages, starts, count, num_kv_pages_per_block=4, num_queries_per_block=16, sm_scale=0.1
        )


ragged(F32, 1e-5)
ragged(BF16, 2e-2)


def main(folder):
    os.makedirs(folder, exist_ok=True)
    entries, skipped = [], []
    for case in CASES:
        try:
            entries.append(write(case, folder))
        except Exception as e:  # noqa: BLE001: one kernel that this JAX cannot lower must not hide the others.
            skipped.append(dict(name=case["name"], reason=f"{type(e).__name__}: {str(e)[:300]}"))
    with open(os.path.join(folder, "manifest.json"), "w") as f:
        json.dump(dict(jax=jax.__version__, cases=entries, skipped=skipped), f, default=list)
    for s in skipped:
        print("skipped", s["name"], s["reason"])
    print(len(entries), "kernels")


if __name__ == "__main__":
    main(sys.argv[1])
