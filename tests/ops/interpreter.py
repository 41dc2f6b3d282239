"""Triton's interpreter without what it does over and over: more than half of its time, and no result depends on it."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

REPLACED: list[tuple[Any, str, Any]] = []  # object, name and what Triton had there


def replace(obj: Any, **others: Any) -> None:
    """Set attributes of Triton's and keep what they were."""
    for name, other in others.items():
        REPLACED.append((obj, name, vars(obj)[name] if name in vars(obj) else getattr(obj, name)))
        setattr(obj, name, other)


class PatchOnce:
    """Replace the language's functions once a launch, not at each call of a device function.

    The interpreter looks through the whole of ``triton.language`` at each of them to find it replaced already.
    """

    def __init__(self, patch: Callable[[FunctionType], Any], languages: tuple[Any, ...], nothing: Any) -> None:
        """Stand in for ``patch``, which returns what undoes it, ``nothing`` where nothing was done."""
        self.patch, self.languages, self.nothing = patch, languages, nothing
        self.done: set[int] = set()
        self.seen_by = functools.cache(self._seen_by)

    def _seen_by(self, fn: FunctionType) -> frozenset[int]:
        """Return which of the languages a function's module has a name for, by their place."""
        known = {id(value) for value in fn.__globals__.values()}
        return frozenset(i for i, language in enumerate(self.languages) if id(language) in known)

    def __call__(self, fn: FunctionType) -> Any:
        seen = self.seen_by(fn)
        if seen and seen <= self.done:
            return self.nothing
        scope = self.patch(fn)
        self.done |= seen
        undo = scope.restore

        def restore() -> None:
            self.done.clear()
            undo()

        scope.restore = restore
        return scope


def cached_by_name(numpy_type: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Remember NumPy's type of each of Triton's by its name; not all of those can be hashed."""
    known: dict[str, Any] = {}

    def get(triton_type: Any) -> Any:
        name = triton_type.name
        if name not in known:
            known[name] = numpy_type(triton_type)
        return known[name]

    return get


def quick_types(core: Any) -> None:
    """Make each block type once, and the shape that its tensors carry with it; compare types by their names."""
    make_block, make_tensor, equal_types = core.block_type.__init__, core.tensor.__init__, core.dtype.__eq__
    unwrap, integers = core._unwrap_if_constexpr, frozenset(core.dtype.SINT_TYPES + core.dtype.UINT_TYPES)
    plain = frozenset((int, float, str, bool, type(None), core.dtype, core.tensor, core.block_type))
    blocks: dict[Any, Any] = {}
    shapes: dict[Any, tuple[Any, Any]] = {}

    def unwrap_if_constexpr(value: Any) -> Any:
        if type(value) is core.constexpr:
            return value.value
        return value if type(value) in plain else unwrap(value)

    def block_type(self: Any, element_ty: Any, shape: Any) -> None:
        sides = tuple([side.value if type(side) is core.constexpr else side for side in unwrap_if_constexpr(shape)])
        key = (type(element_ty), element_ty.name, sides)
        if key not in blocks:
            make_block(self, element_ty, shape)
            blocks[key] = self
        self.__dict__ = blocks[key].__dict__

    def with_element_ty(self: Any, scalar_ty: Any) -> Any:
        key = (type(scalar_ty), scalar_ty.name, tuple(self.shape.values))
        return blocks[key] if key in blocks else core.block_type(scalar_ty, self.shape)

    def tensor(self: Any, handle: Any, type: Any) -> None:  # the parameter's name in Triton
        sides = tuple(type.shape.values) if type.is_block() else ()
        if sides not in shapes:
            make_tensor(self, handle, type)
            shapes[sides] = self.shape, self.numel
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = shapes[sides]

    def equal(self: Any, other: Any) -> Any:
        if self is other:
            return True
        return self.name == other.name if type(other) is core.dtype else equal_types(self, other)

    replace(core, _unwrap_if_constexpr=unwrap_if_constexpr)
    replace(core.block_type, __init__=block_type, with_element_ty=with_element_ty)
    replace(core.tensor, __init__=tensor)
    replace(core.dtype, __eq__=equal, is_int=lambda self: self.name in integers)


def quick_operands(semantic: Any, core: Any) -> None:
    """Leave two operands of one type and shape as they are; ask once which type two others are computed in."""
    check, broadcast, promote = (
        getattr(semantic, name)
        for name in ("binary_op_type_checking_impl", "broadcast_impl_value", "computation_type_impl")
    )
    # Of these two the result is a third only in a division.
    usual = frozenset(t.name for t in (core.float32, core.float16, core.int32, core.int64))
    known: dict[Any, Any] = {}

    def binary_op_type_checking_impl(
        self: Any, lhs: Any, rhs: Any, allow_lhs_ptr: bool = False, allow_rhs_ptr: bool = False,
        arithmetic_check: bool = True, div_or_mod: bool = False,
    ) -> tuple[Any, Any]:  # fmt: skip
        of_tensors = type(lhs) is core.tensor and type(rhs) is core.tensor
        if of_tensors and not div_or_mod and lhs.dtype.name == rhs.dtype.name and lhs.dtype.name in usual:
            return self.broadcast_impl_value(lhs, rhs)
        return check(self, lhs, rhs, allow_lhs_ptr, allow_rhs_ptr, arithmetic_check, div_or_mod)

    def computation_type_impl(self: Any, a: Any, a_is_scalar: bool, b: Any, b_is_scalar: bool, division: bool) -> Any:
        key = (a.name, a_is_scalar, b.name, b_is_scalar, division)
        if key not in known:
            known[key] = promote(self, a, a_is_scalar, b, b_is_scalar, division)
        return known[key]

    def broadcast_impl_value(self: Any, lhs: Any, rhs: Any) -> tuple[Any, Any]:
        blocks = lhs.type.is_block(), rhs.type.is_block()
        if not any(blocks):
            return lhs, rhs
        if not all(blocks):
            return broadcast(self, lhs, rhs)
        left, right = lhs.type.shape.values, rhs.type.shape.values
        if left == right:
            return lhs, rhs
        if len(left) != len(right) or any(a != b and a != 1 and b != 1 for a, b in zip(left, right, strict=True)):
            return broadcast(self, lhs, rhs)
        sides = [b if a == 1 else a for a, b in zip(left, right, strict=True)]
        return tuple(
            one
            if one.type.shape.values == sides
            else core.tensor(self.builder.create_broadcast(one.handle, sides), core.block_type(one.dtype, sides))
            for one in (lhs, rhs)
        )

    replace(
        semantic,
        binary_op_type_checking_impl=binary_op_type_checking_impl,
        computation_type_impl=computation_type_impl,
        broadcast_impl_value=broadcast_impl_value,
    )


def quick_scalars(semantic: Any) -> None:
    """Make each constant once; nothing writes into it."""
    make = semantic.scalar_constant
    known: dict[Any, Any] = {}

    def scalar_constant(self: Any, value: Any, dtype: Any) -> Any:
        if type(value) not in (int, float, bool) or dtype is None:
            return make(self, value, dtype)
        key = (type(value), value, dtype.name)
        if key not in known:
            known[key] = make(self, value, dtype)
        return known[key]

    replace(semantic, scalar_constant=scalar_constant)


def quick_handles(interpreter: Any) -> None:
    """Take an array without asking whether its type fits; add up the offsets of a block by its sides."""

    def init(self: Any, data: Any, dtype: Any, attr: Any = None) -> None:
        self.data, self.dtype, self.attr = data, dtype, {} if attr is None else attr

    def materialize_pointers(self: Any, offsets: Any) -> tuple[Any, Any]:
        itemsize = self.base.dtype.element_ty.primitive_bitwidth // 8
        assert len(offsets) == self.ndim
        assert (offsets[-1].data * itemsize) % 16 == 0, "block offset start must be 16-byte aligned"
        pointers, mask = self.base.data, np.True_
        for side, (size, offset) in enumerate(zip(self.block_shape, offsets, strict=True)):
            along = offset.data + np.arange(size)
            shape = [size if other == side else 1 for other in range(self.ndim)]
            pointers = pointers + (itemsize * along * self.strides[side].data).astype(np.uint64).reshape(shape)
            mask = mask & ((along >= 0) & (along < self.shape[side].data)).reshape(shape)
        return interpreter.TensorHandle(pointers, self.base.dtype.scalar), mask

    replace(interpreter.TensorHandle, __init__=init)
    replace(interpreter.TensorDescHandle, materialize_pointers=materialize_pointers)


def patch_attr(obj: Any, name: str, member: Any, builder: Any, scope: Any) -> None:
    """Let a function of the language call its innermost one, and not through a check that it runs in a kernel."""
    from triton.runtime import interpreter

    innermost, semantic = inspect.unwrap(member), interpreter.interpreter_semantic

    def call(*args: Any, **kwargs: Any) -> Any:
        kwargs["_semantic"] = semantic
        return innermost(*args, **kwargs)

    scope.set_attr(obj, name, call)


def speed_up() -> None:
    """Change the interpreter of this process; one of another version that has not these names stays as it is."""
    try:
        from triton import language
        from triton.language.semantic import TritonSemantic
        from triton.runtime import interpreter

        patch, nothing = interpreter._patch_lang, interpreter._LangPatchScope()
        numpy_type, options = interpreter._get_np_dtype, interpreter.InterpreterOptions(sanitize_overflow=False)
        quick_types(language.core)
        quick_operands(TritonSemantic, language.core)
        quick_scalars(TritonSemantic)
        quick_handles(interpreter)
        replace(interpreter, _patch_attr=patch_attr)
    except (ImportError, AttributeError, TypeError):
        for obj, name, before in reversed(REPLACED):
            setattr(obj, name, before)
        REPLACED.clear()
        return
    # It makes a table of NumPy's types, to look up one.
    replace(interpreter, _patch_lang=PatchOnce(patch, (language, language.core), nothing))
    replace(interpreter, _get_np_dtype=cached_by_name(numpy_type))
    # Every sum and product of integers once more in 64 bits: one that overflows gives a wrong result, which tests see.
    replace(interpreter.interpreter_builder, options=options)
