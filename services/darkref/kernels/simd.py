"""Sixteen pixels side by side in the processor's vector registers: intrinsics for the compiled kernels.

Numba vectorises plain loops by itself, but a loop passes its results to the next one through memory, and
reloads a value that every iteration needs. A kernel written with these intrinsics keeps its working set in
registers: `load` takes `LANES` neighbouring elements of an array at once, and arithmetic acts on all of them.
The names are those of the instruction sets and of LLVM: `splat`, `lt`, `sqrt`, `fabs`, `movemask`.

Values are sorted by a network of comparators: the same comparisons whatever the values are, so that all lanes
take the same path.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model
from numpy.typing import NDArray


@functools.cache
def comparators(n: int) -> NDArray[np.int64]:
    """Return a sorting network for n values: Batcher's merge exchange.

    Source: Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M; the letters are his.

    Returns
    -------
    ndarray of int64, 2D (comparators, 2)
        Rows to compare and exchange, (low, high), in order.

    Examples
    --------
    >>> comparators(3).tolist()
    [[0, 2], [0, 1], [1, 2]]
    """
    pairs: list[tuple[int, int]] = []
    t = max(n - 1, 1).bit_length()
    p = 1 << (t - 1)
    while p > 0 and n > 1:
        q, r, d = 1 << (t - 1), 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return np.array(pairs, np.int64).reshape(-1, 2)


#: Pixels side by side: of float32, one register of AVX-512, two of AVX2, four of NEON.
LANES = 16
#: Up to this many rows are sorted in registers; more would spill to memory.
MOST_IN_REGISTERS = 16


class Lanes(types.Type):  # type: ignore[misc]
    """`LANES` values of one type, as numba knows them."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, of: Lanes) -> None:
        bits = {types.boolean: ir.IntType(1), types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
        element = bits.get(of.dtype) or ir.IntType(of.dtype.bitwidth)
        super().__init__(manager, of, ir.VectorType(element, LANES))


def _place(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """Return a pointer to the lanes that start at an element of a contiguous 1-D array."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = context.get_value_type(Lanes(array_type.dtype))
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


@intrinsic
def load(typing, array, at):  # type: ignore[no-untyped-def]
    """Return `LANES` elements of a 1-D array, from index `at` on; all must exist."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, signature.args[0], *arguments)
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, types.intp), emit


@intrinsic
def store(typing, array, at, lanes):  # type: ignore[no-untyped-def]
    """Write lanes to where `load` would read them."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), emit


@intrinsic
def prefetch(typing, array, at):  # type: ignore[no-untyped-def]
    """Prefetch an element of a 1-D array into the cache; the index may lie beyond the end."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(array)(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # For reading, into all cache levels, data (not instructions).
        builder.call(fetch, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def splat(typing, value):  # type: ignore[no-untyped-def]
    """Return lanes that all hold one value."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        vector = context.get_value_type(signature.return_type)
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[0], ir.IntType(32)(0))
        from_first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), from_first)

    return Lanes(value)(value), emit


def _intrinsic(result: Callable[..., Any], emit: Callable[..., Any], what: str) -> Any:
    """Return an intrinsic that acts on each lane independently.

    Parameters
    ----------
    result : callable
        Gives the type of the result from that of the first argument.
    emit : callable
        Emits the LLVM instruction, from the builder and one, two or three values.
    what : str
        Its docstring.
    """

    def unary(typing, a):  # type: ignore[no-untyped-def]
        return result(a)(a), lambda c, b, s, v: emit(b, *v)

    def binary(typing, a, b):  # type: ignore[no-untyped-def]
        return result(a)(a, b), lambda c, b, s, v: emit(b, *v)

    def ternary(typing, mask, a, b):  # type: ignore[no-untyped-def]
        return a(mask, a, b), lambda c, b, s, v: emit(b, *v)

    function = (unary, binary, ternary)[emit.__code__.co_argcount - 2]
    function.__doc__ = what
    return intrinsic(function)


def _same(lanes: Lanes) -> Lanes:
    return lanes


def _mask(_: Lanes) -> Lanes:
    return Lanes(types.boolean)


def _f64(_: Lanes) -> Lanes:
    return Lanes(types.float64)


def _f32(_: Lanes) -> Lanes:
    return Lanes(types.float32)


def _vector(element: Any) -> Any:
    return ir.VectorType(element, LANES)


def _is_integer(lanes: Any) -> bool:
    return isinstance(lanes.type.element, ir.IntType)


def _add(builder: Any, a: Any, b: Any) -> Any:
    return builder.add(a, b) if _is_integer(a) else builder.fadd(a, b)


def _sub(builder: Any, a: Any, b: Any) -> Any:
    return builder.sub(a, b) if _is_integer(a) else builder.fsub(a, b)


def _lt(builder: Any, a: Any, b: Any) -> Any:
    return builder.icmp_signed("<", a, b) if _is_integer(a) else builder.fcmp_ordered("<", a, b)


def _to_f64(builder: Any, a: Any) -> Any:
    double = _vector(ir.DoubleType())
    return builder.sitofp(a, double) if _is_integer(a) else builder.fpext(a, double)


def _call(name: str, builder: Any, a: Any) -> Any:
    kind = ir.FunctionType(a.type, [a.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a])


def _sqrt(builder: Any, a: Any) -> Any:
    return _call(f"llvm.sqrt.v{LANES}f64", builder, a)


def _fabs(builder: Any, a: Any) -> Any:
    return _call(f"llvm.fabs.v{LANES}f32", builder, a)


def _movemask(builder: Any, a: Any) -> Any:
    return builder.zext(builder.bitcast(a, ir.IntType(LANES)), ir.IntType(64))


add = _intrinsic(_same, _add, "x + y")
sub = _intrinsic(_same, _sub, "x - y")
mul = _intrinsic(_same, lambda b, x, y: b.fmul(x, y), "x * y, of floats")
div = _intrinsic(_same, lambda b, x, y: b.fdiv(x, y), "x / y, of floats")
halved = _intrinsic(_same, lambda b, x: b.ashr(x, x.type([1] * LANES)), "Half of an integer, rounded down")
lt = _intrinsic(_mask, _lt, "Whether x < y; False where either is NaN")
le = _intrinsic(_mask, lambda b, x, y: b.fcmp_ordered("<=", x, y), "Whether x <= y; False where one is NaN")
eq = _intrinsic(_mask, lambda b, x, y: b.icmp_signed("==", x, y), "Whether x == y, of integers")
or_ = _intrinsic(_mask, lambda b, x, y: b.or_(x, y), "Either mask")
and_ = _intrinsic(_mask, lambda b, x, y: b.and_(x, y), "Both masks")
where = _intrinsic(_same, lambda b, mask, x, y: b.select(mask, x, y), "x where the mask is set, else y")
sqrt = _intrinsic(_same, _sqrt, "The square root of float64")
fabs = _intrinsic(_same, _fabs, "The absolute value of float32")
to_f64 = _intrinsic(_f64, _to_f64, "int32 or float32 as float64")
to_f32 = _intrinsic(_f32, lambda b, x: b.fptrunc(x, _vector(ir.FloatType())), "float64 rounded to float32")
movemask = _intrinsic(
    lambda a: types.int64, _movemask, "A mask as an integer; the first lane is the lowest bit"
)


def _overload(operation: Callable[..., Any], lane_by_lane: Any) -> None:
    """Let one of Python's operators act on lanes."""

    @overload(operation)
    def _operation(a, b):  # type: ignore[no-untyped-def]
        return (lambda a, b: lane_by_lane(a, b)) if isinstance(a, Lanes) and a == b else None


_overload(operator.add, add)
_overload(operator.sub, sub)
_overload(operator.mul, mul)
_overload(operator.truediv, div)


@intrinsic
def sort_lanes(typing, rows, at, step, n):  # type: ignore[no-untyped-def]
    """Sort `n` (at most `MOST_IN_REGISTERS`) rows of float32, `step` elements apart, lane by lane."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, start, apart, number = arguments
        done = builder.append_basic_block("sorted")
        choice = builder.switch(number, done)
        for count in range(2, MOST_IN_REGISTERS + 1):
            block = builder.append_basic_block(f"sort_{count}")
            choice.add_case(number.type(count), block)
            with builder.goto_block(block):
                offsets = [builder.add(start, builder.mul(apart, apart.type(i))) for i in range(count)]
                places = [_place(context, builder, rows, array, at) for at in offsets]
                values = [builder.load(place, align=4) for place in places]
                for low, high in comparators(count):
                    a, b = values[low], values[high]
                    ascending = builder.fcmp_ordered("<", a, b)
                    values[low] = builder.select(ascending, a, b)
                    values[high] = builder.select(ascending, b, a)
                for value, place in zip(values, places, strict=True):
                    builder.store(value, place, align=4)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp, types.intp), emit
