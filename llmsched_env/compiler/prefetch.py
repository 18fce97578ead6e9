"""Reading ahead: with many lanes every step of a lane finds its state in no near cache, unless it was asked for before.

A hint to the processor; nothing depends on it.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from llmsched_env.compiler.parts import jit_is_off, part

LINE = 64
"""Bytes that come at once."""

if jit_is_off():

    def _ask(array, offset):
        """Nothing where nothing is compiled."""

else:

    @intrinsic
    def _ask(typing_context, array, offset):
        """Ask for the line that lies ``offset`` bytes behind the start of ``array``."""

        def codegen(context, builder, signature, arguments):
            """The hint of LLVM for this address."""
            view = context.make_array(signature.args[0])(context, builder, arguments[0])
            byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            place = builder.gep(builder.bitcast(view.data, byte), [arguments[1]])
            kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
            hint = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
            builder.call(hint, [place, number(1), number(3), number(1)])  # to be written too, kept near, data
            return context.get_dummy_value()

        return types.void(array, types.int64), codegen


@part
def ask_for(array, first, last):
    """Ask for the bytes first, ..., last - 1 of an array."""
    for offset in range(first, last, LINE):
        _ask(array, offset)


@part
def ask_for_row(array, i):
    """Ask for row ``i`` of an array, in which rows follow each other."""
    ask_for(array, i * array.strides[0], (i + 1) * array.strides[0])
