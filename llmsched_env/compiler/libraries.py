"""How parts and entries are compiled: parts are typed and lowered once, and optimised only inside of their entries.

Numba optimises every function together with all that it calls and makes machine code of it, at each level of calls
anew.  Parts melt into their entry, so all of that is done again there, and only what the entry holds ever runs.  A
part is therefore kept as LLVM's intermediate code, and an entry is linked from its own code and that of all parts
below it.  An entry is optimised at level 2: what level 3 adds are copies of loops for every outcome of the conditions
in them, three times the code, and twice the time to compile.  Of the schedulers of ``make bench`` only `static` at its
default load is faster with them (docs/results/benchmarks.md).  The extension point is Numba's own: a function may name
the class of its compiler (``pipeline_class``), and a pass of that class may choose the library that holds the
function's code, and the symbols in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import CPUCodegen, JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.cpu import CPUContext
from numba.core.itanium_mangler import mangle
from numba.core.typed_passes import NopythonTypeInference
from numba.core.untyped_passes import IRProcessing

from llmsched_env.compiler.extremes import UseExtremes

LEVEL = 2
"""Of optimisation.  Level 3 copies a loop for every outcome of a condition in it, with all that is called there."""

UNUSED = frozenset(
    ("WithLifting", "InlineClosureLikes", "RewriteDynamicRaises", "MakeFunctionToJitFunction", "FindLiterallyCalls")
    + ("LiteralUnroll", "LiteralPropagationSubPipelinePass", "InlineOverloads", "NopythonRewrites")
    + ("DumpParforDiagnostics",)
)
"""Passes of Numba for what no part has: functions inside of it, `with`, literals, expressions of whole arrays."""

CAN_CHOOSE = hasattr(CPUCodegen, "_pass_builder")
"""Whether this Numba lets a library choose its level; 0.61 does not, and then it is Numba's, with the same results."""


class _NoMachineCode:
    """What stands for the code generator of a part: there is no address that its environment could be written to."""

    def set_env(self, name: str, env: Any) -> None:
        """Nothing: ``env`` is what Python objects of a compiled function hang on, and parts have none."""


class _AtLevel2(JITCodeLibrary):
    """A library whose functions are optimised at level 2."""

    def _optimize_functions(self, ll_module: llvm.ModuleRef) -> None:
        if not CAN_CHOOSE:
            super()._optimize_functions(ll_module)
            return
        ll_module.data_layout = self._codegen._data_layout
        for function in ll_module.functions:
            if not function.is_declaration:
                passes, builder = self._codegen._function_pass_manager(opt=LEVEL)
                passes.run(function, builder)


class PartLibrary(_AtLevel2):
    """The code of one part, and the libraries that it calls, not yet linked."""

    @property
    def codegen(self) -> _NoMachineCode:
        """What Numba asks for the place of the environment."""
        return _NoMachineCode()

    def finalize(self) -> None:
        """Close the library; nothing is optimised."""
        self._raise_if_finalized()
        for library in self._linking_libraries:
            getattr(self, "_reload_init", set()).update(getattr(library, "_reload_init", ()))
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0: no function of this library can be called from outside."""
        self._ensure_finalized()
        return 0

    def _get_module_for_linking(self) -> llvm.ModuleRef:
        """Its own code and all below it, each library once, in a form of which a program may hold several copies.

        LLVM drops such a copy where nothing refers to it yet.  The parts are therefore linked first, in full, then
        the other libraries, and the form is set at the end.
        """
        self._ensure_finalized()
        if self._shared_module is None:
            module = self._final_module.clone()
            seen, left, others = {self}, list(self._linking_libraries), []
            while left:
                library = left.pop()
                if library in seen:
                    continue
                seen.add(library)
                if isinstance(library, PartLibrary):
                    module.link_in(library._final_module, preserve=True)
                    left.extend(library._linking_libraries)
                else:
                    others.append(library)
            for library in others:
                module.link_in(library._get_module_for_linking(), preserve=True)
            for function in module.functions:
                if not function.is_declaration and function.linkage == llvm.Linkage.external:
                    function.linkage = llvm.Linkage.linkonce_odr
            self._shared_module = module
        return self._shared_module


class EntryLibrary(_AtLevel2):
    """The code of one entry, linked with all parts below it."""

    def _optimize_final_module(self) -> None:
        """Inline the parts, then level 2, where Numba takes level 3."""
        if not CAN_CHOOSE:
            super()._optimize_final_module()
            return
        for level, cost in ((0, "cheap"), (LEVEL, None)):
            passes, builder = self._codegen._module_pass_manager(
                opt=level, cost=cost, loop_vectorize=False, slp_vectorize=False
            )
            passes.run(self._final_module, builder)


def short_name(name: str, types: Any, *, abi_tags: Sequence[str] = (), uid: int | None = None) -> str:
    """The symbol of a function: Numba's, with a digest in place of the names of its argument types.

    The name of a type names every field of every record in it: 20,000 characters for a State.
    """
    digest = hashlib.sha256(repr(tuple(str(kind) for kind in types)).encode()).hexdigest()[:16]
    return mangle(name, (), abi_tags=(*abi_tags, digest), uid=uid)


def with_short_names(context: CPUContext) -> CPUContext:
    """The same target, where functions have short symbols."""
    return context.subtarget(mangler=short_name)


@register_pass(mutates_CFG=False, analysis_only=False)
class UsePartLibrary(FunctionPass):
    """The pass that gives a function a PartLibrary, before its code is written into one."""

    _name = "use_part_library"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Choose the library; nothing of the function changes."""
        state.library = PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.targetctx = with_short_names(state.targetctx)
        return False


@register_pass(mutates_CFG=False, analysis_only=False)
class UseEntryLibrary(FunctionPass):
    """The same with an EntryLibrary."""

    _name = "use_entry_library"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Choose the library; nothing of the function changes."""
        state.library = EntryLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        state.targetctx = with_short_names(state.targetctx)
        return False


class PartCompiler(CompilerBase):
    """Numba's compiler with the library of a part, without the passes that have nothing to do in one."""

    use: type[FunctionPass] = UsePartLibrary
    unused: frozenset[str] = UNUSED

    def define_pipelines(self) -> list[Any]:
        """Numba's passes, with a choice of ``min`` and ``max`` before the types and of the library after them."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [step for step in passes.passes if getattr(step[0], "__name__", "") not in self.unused]
        passes.add_pass_after(UseExtremes, IRProcessing)
        passes.add_pass_after(self.use, NopythonTypeInference)
        passes.finalize()
        return [passes]


class EntryCompiler(PartCompiler):
    """Numba's compiler with the library of an entry."""

    use = UseEntryLibrary
    unused = frozenset()
