"""Lowers JAX's public ragged paged attention for a batch, for `schedule compare`.

Reads a JSON object on standard input: device_kind, q_heads, kv_heads, head_dim, dtype, scale, soft_cap and sliding_window
(or null), page_size, pool_pages, queries_per_block and kv_pages_per_block (0: JAX's own choice), and sequences, each with new tokens, length with past,
and its pages. Writes module.mlir and operands.npz (scalar-prefetch operands by index) into the folder named by the
first argument. Needs jax and jaxlib from PyPI, and no TPU.
"""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.mesh import AbstractDevice, AbstractMesh
from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention, tuned_block_sizes


def main():
    case = json.load(sys.stdin)
    # JAX's table of tuned block sizes asks what it runs on; here that is the device that is compiled for.
    kind = case["device_kind"].split()
    tuned_block_sizes.get_device_name = lambda: " ".join(kind[:2])
    tuned_block_sizes.get_tpu_version = lambda: int(kind[1][1:]) if len(kind) > 1 else 7
    sequences = case["sequences"]
    lens = np.array([s["length"] for s in sequences], np.int32)
    offsets = np.cumsum([0] + [s["new"] for s in sequences], dtype=np.int32)
    pages = np.zeros((len(sequences), max(len(s["pages"]) for s in sequences)), np.int32)
    for row, s in zip(pages, sequences):
        row[: len(s["pages"])] = s["pages"]
    count = np.array([len(sequences)], np.int32)
    shape = jax.ShapeDtypeStruct
    dtype = {"f32": jnp.float32, "bf16": jnp.bfloat16}[case["dtype"]]
    q = shape((int(offsets[-1]), case["q_heads"], case["head_dim"]), dtype)
    kv = shape((case["pool_pages"], case["page_size"], 2 * case["kv_heads"], case["head_dim"]), dtype)

    def attention(q, kv, lens, pages, offsets, count):
        return ragged_paged_attention(
            q, kv, lens, pages, offsets, count,
            sm_scale=case["scale"],
            soft_cap=case["soft_cap"],
            sliding_window=case["sliding_window"],
            num_kv_pages_per_block=case["kv_pages_per_block"] or None,
            num_queries_per_block=case["queries_per_block"] or None,
            vmem_limit_bytes=60 << 20,
        )

    device = AbstractDevice(device_kind=case["device_kind"], num_cores=1, platform="tpu")
    mesh = AbstractMesh((1,), ("x",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        specs = [shape(a.shape, a.dtype) for a in (lens, pages, offsets, count)]
        lowered = jax.jit(attention).trace(q, kv, *specs).lower(lowering_platforms=("tpu",))
    out = sys.argv[1]
    with open(os.path.join(out, "module.mlir"), "w") as file:
        file.write(lowered.as_text())
    # The kernel's prefetch operands; the fourth is where its double buffer starts.
    operands = [lens, pages, offsets, np.zeros(2, np.int32), count]
    np.savez(os.path.join(out, "operands.npz"), **{f"arg{i}": a for i, a in enumerate(operands)})


main()
