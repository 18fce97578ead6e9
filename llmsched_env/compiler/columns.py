"""Sums of the columns of a matrix, eight rows at a time, as vectors of the processor.

LLVM makes vectors of such loops only where they are long; the matrices of a small network are not.  Every number is
the same as in a plain loop: products are added in the order of the columns, and none is fused with its addition.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from llmsched_env.compiler.parts import jit_is_off

ROWS = 8
"""Rows that are added at once."""

if jit_is_off():

    def _sum_rows(matrix, at, stride, inputs, start, out, row):
        """The same, where nothing is compiled."""
        for h in range(row, row + ROWS):
            total = 0.0
            for j in range(len(inputs)):
                total += matrix[at + j * stride + h] * inputs[j]
            out[h] = start[h] + total

else:

    @intrinsic
    def _sum_rows(typing_context, matrix, at, stride, inputs, start, out, row):
        """Write ``out[row : row + ROWS]`` as `add_columns` says; all arrays are contiguous float64."""
        array = types.Array(types.float64, 1, "C")
        if not all(
            isinstance(kind, types.Array) and kind.dtype == types.float64 for kind in (matrix, inputs, start, out)
        ):
            return None

        def codegen(context, builder, signature, arguments):
            """A loop over the columns with ROWS sums in a register."""
            views = [
                context.make_array(signature.args[place])(context, builder, arguments[place]) for place in (0, 3, 4, 5)
            ]
            weights, numbers, starts, sums = (view.data for view in views)
            at, stride, row = (arguments[place] for place in (1, 2, 6))
            double, eight = ir.DoubleType(), ir.VectorType(ir.DoubleType(), ROWS)
            total = cgutils.alloca_once_value(builder, ir.Constant(eight, [0.0] * ROWS))
            first = builder.gep(weights, [builder.add(at, row)])
            with cgutils.for_range(builder, cgutils.unpack_tuple(builder, views[1].shape)[0]) as loop:
                column = builder.gep(first, [builder.mul(loop.index, stride)])
                entries = builder.load(builder.bitcast(column, eight.as_pointer()))
                entries.align = double.get_abi_size(context.target_data)
                number = builder.load(builder.gep(numbers, [loop.index]))
                spread = builder.insert_element(ir.Constant(eight, ir.Undefined), number, ir.IntType(32)(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), ROWS), [0] * ROWS)
                spread = builder.shuffle_vector(spread, ir.Constant(eight, ir.Undefined), zeros)
                builder.store(builder.fadd(builder.load(total), builder.fmul(entries, spread)), total)
            before = builder.load(builder.bitcast(builder.gep(starts, [row]), eight.as_pointer()))
            before.align = 8
            place = builder.bitcast(builder.gep(sums, [row]), eight.as_pointer())
            builder.store(builder.fadd(before, builder.load(total)), place).align = 8
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64, array, array, array, types.int64), codegen


@njit
def add_columns(matrix, at, inputs, start, out):
    """Write ``start`` + a matrix (len(out), len(inputs)), times ``inputs``, into ``out``; returns the place behind it.

    The matrix begins at ``matrix[at]`` and lies column by column.  All arrays are contiguous float64.
    """
    rows, count = len(out), len(inputs)
    whole = rows // ROWS * ROWS
    for row in range(0, whole, ROWS):
        _sum_rows(matrix, at, rows, inputs, start, out, row)
    for row in range(whole, rows):
        total = 0.0
        for j in range(count):
            total += matrix[at + j * rows + row] * inputs[j]
        out[row] = start[row] + total
    return at + rows * count
