"""Borrowed arrays: views that compiled code passes around without counting references.

Numba counts references with atomic instructions at every call that takes an array out of a tuple; in the
kernel that cost more than the simulation itself.  The arrays of a simulator outlive every kernel call (the caller
holds them), so the kernel may borrow them.
"""

from __future__ import annotations

from numba.core import cgutils
from numba.extending import intrinsic

from llmsched_env.compiler.parts import jit_is_off

if jit_is_off():

    def borrow(array):
        """The array itself."""
        return array

else:

    @intrinsic
    def borrow(typing_context, array):
        """The same array without its reference count; its owner must outlive every use."""

        def codegen(context, builder, signature, arguments):
            """A view without the reference-counted owner."""
            view = context.make_array(signature.args[0])(context, builder, arguments[0])
            view.meminfo = cgutils.get_null_value(view.meminfo.type)
            view.parent = cgutils.get_null_value(view.parent.type)
            return view._getvalue()

        return array(array), codegen
