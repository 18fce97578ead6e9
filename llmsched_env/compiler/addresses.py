"""Many arrays as one argument: compiled code takes them from a list of addresses.

Numba looks at every array of a call, at about 0.07 us each; an entry that is called for every decision takes some
thirty.  The addresses are looked at once.  Who calls holds the arrays, as for a borrowed one (compiler.borrow).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import as_dtype
from numpy.typing import NDArray

from llmsched_env.compiler.parts import jit_is_off

ADDRESSES = types.int64[::1]
"""The type of what `addresses` returns: for every array the address of its data, then the length of each axis."""


def addresses(arrays: Sequence[NDArray], kinds: Sequence[types.Array]) -> Any:
    """``arrays``, of the types ``kinds``, as one argument for `arrays_at`; ``TypeError`` where one differs.

    Where nothing is compiled, the arrays themselves.
    """
    if jit_is_off():
        return tuple(arrays)
    words: list[int] = []
    for array, kind in zip(arrays, kinds, strict=True):
        alike = array.ndim == kind.ndim and array.flags.c_contiguous and array.flags.aligned and array.flags.writeable
        if not alike or array.dtype.itemsize != _item_size(kind):
            raise TypeError(f"an array of {array.dtype} with {array.ndim} axes is not a {kind}.")
        words += [array.ctypes.data, *array.shape]
    return np.array(words, np.int64)


def _item_size(kind: types.Array) -> int:
    """Bytes of an element."""
    return int(as_dtype(kind.dtype).itemsize)


def _array_from(context: Any, builder: Any, kind: types.Array, words: list[Any]) -> Any:
    """An array of type ``kind`` at the address words[0], with axes of lengths words[1:]; it owns nothing."""
    view = context.make_array(kind)(context, builder)
    size = ir.Constant(words[0].type, _item_size(kind))
    strides = [size]
    for length in reversed(words[2:]):
        strides.insert(0, builder.mul(strides[0], length))
    populate_array(
        view,
        data=builder.inttoptr(words[0], view.data.type),
        shape=cgutils.pack_array(builder, words[1:]),
        strides=cgutils.pack_array(builder, strides),
        itemsize=size,
        meminfo=None,
    )
    return view._getvalue()


def arrays_at(kinds: Sequence[types.Array]) -> Callable:
    """The compiled function that makes the arrays, of the types ``kinds``, of their `addresses`: a tuple."""
    if jit_is_off():
        return tuple

    @intrinsic
    def made(typing_context, words):
        """The tuple of arrays at ``words``."""
        result = types.Tuple(tuple(kinds))

        def codegen(context, builder, signature, arguments):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            found, at = [], 0
            for kind in kinds:
                places = [cgutils.gep_inbounds(builder, data, at + j) for j in range(1 + kind.ndim)]
                found.append(_array_from(context, builder, kind, [builder.load(place) for place in places]))
                at += 1 + kind.ndim
            return context.make_tuple(builder, result, found)

        return result(words), codegen

    return made
