"""Kernels of ``trellis8``: entropy decoding and encoding, and the search for the best path (spec: codings, section 6).

Profiling showed: an element depends on the one before it only within its lane, so the processor works on several lanes
at once, with AVX-512 on 16 in a vector. The lanes share only the position in the stream.
"""

from typing import Any

import numpy as np

from lottapack.codecs.trellis_tables import (
    LOW,
    NEXT_BITS,
    PRECISION,
    SLOTS,
    STATES,
    SYMBOLS,
)
from lottapack.codecs.trellis_vectors import LANES, sixteen
from lottapack.rng.kernels.compiler import jit, space
from lottapack.rng.kernels.machine import processor

i32, i64, u8, u16, u32, u64, f32, f64 = (
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.float32,
    np.float64,
)
_LOW, _NEXT, _SLOTS, _BITS = u64(LOW), u64(NEXT_BITS), u64(SLOTS), u64(PRECISION)
_SYMBOLS, _STATES, _WORD = u64(SYMBOLS), u64(STATES), u64(16)
_END = u64(31)
_VECTORS = processor().has("avx512f")
_FAR = f64(1e300)
_costs, _levels, _sums, _fresh = space(4), space(4), space(STATES), space(STATES)
_0, _1, _2, _3, _4, _16 = u64(0), u64(1), u64(2), u64(3), u64(4), u64(16)


@jit
def _after(state: Any, odd: Any) -> Any:
    """Return the next state of the trellis."""
    return (_NEXT >> (_4 * (_2 * state + odd))) & u64(7)


@jit
def _raw_bits(magnitude: Any) -> Any:
    """Return how many low bits of a magnitude are stored uncoded."""
    raw = _0
    while magnitude >> raw >= u64(16):
        raw += _1
    return raw


@jit
def _decode_run(
    out: Any,
    state: Any,
    words: Any,
    slots: Any,
    buckets: Any,
    lanes: Any,
    table: Any,
    lane: Any,
    done: Any,
    run: Any,
    place: Any,
    raws: Any,
    step: Any,
) -> Any:
    """Decode ``run`` elements of one row, of lanes from ``lane`` on; return the position in the words."""
    begin = _0
    if _VECTORS:
        while begin + LANES <= run:
            place = sixteen(
                out, state, words, slots, buckets, lanes, table, lane + begin, done + begin, place, raws, step
            )
            begin += LANES
    for k in range(begin, run):
        x, trellis = u64(state[lane + k]), u64(state[lanes + lane + k])
        second = trellis & _1
        slot = u64(slots[table + second * _SLOTS + (x & (_SLOTS - _1))])
        x = ((slot & (_SLOTS - _1)) + _1) * (x >> _BITS) + ((slot >> _BITS) & (_SLOTS - _1))
        due = u64(x < _LOW)  # true for half of all elements, so a branch would be mispredicted
        x = (x << (due << _4)) | (u64(words[place]) & (_0 - due))
        place += due
        magnitude = (slot >> u64(24)) & u64(127)
        if raws == _2 or (raws == _1 and magnitude >= _16):
            bucket = u64(buckets[magnitude])
            raw = bucket & u64(15)
            magnitude = (bucket >> _4) + (x & ((_1 << raw) - _1))
            x >>= raw
            due = u64(x < _LOW)
            x = (x << (due << _4)) | (u64(words[place]) & (_0 - due))
            place += due
        state[lane + k] = u32(x)
        state[lanes + lane + k] = u32(_after(trellis, magnitude & _1))
        whole = _2 * magnitude - (second & u64(magnitude != _0))
        value = f32(i32(whole)) * step
        out[done + k] = -value if slot >> _END else value
    return place


@jit
def decode(
    out: Any,
    state: Any,
    words: Any,
    slots: Any,
    buckets: Any,
    classes: Any,
    lanes: Any,
    first: Any,
    row: Any,
    raws: Any,
    step: Any,
) -> Any:
    """Decode elements ``first`` to ``first + out.size - 1``; return 1 if the stream ends early, else 0.

    ``state``: uint32, shape (2 * lanes + 1,): the decoder's and the trellis's state of each lane, then the position in
    the words, which end with two extra words. ``slots``: uint32, shape (classes * 2 * 4096,). ``row``: elements of a
    row. ``raws``: how many elements have raw bits: 0 for none, 1 for few, 2 for many. The compiler makes a loop of
    each: a branch costs less than the steps that it skips only if it is nearly always the same.
    """
    place, size = u64(state[_2 * lanes]), u64(words.size) - _2
    at, lane, done, count = first // row, _0, _0, u64(out.size)
    left = row - first % row
    while done < count:
        if left == _0:
            at += _1
            left = row
        table = u64(classes[at]) * _2 * _SLOTS
        run = min(left, min(count - done, lanes - lane))
        if place + _2 * run > size:  # an element reads two words at most
            run = _1
            if place > size:
                return _1
        if raws == _0:
            place = _decode_run(out, state, words, slots, buckets, lanes, table, lane, done, run, place, _0, step)
        elif raws == _1:
            place = _decode_run(out, state, words, slots, buckets, lanes, table, lane, done, run, place, _1, step)
        else:
            place = _decode_run(out, state, words, slots, buckets, lanes, table, lane, done, run, place, _2, step)
        left -= run
        done += run
        lane += run
        if lane == lanes:
            lane = _0
    state[_2 * lanes] = u32(place)
    return u64(place > size)


@jit
def _candidates(cost: Any, levels: Any, a: Any, costs: Any, table: Any, weight: Any) -> None:
    """Find, for each quantiser, the cheapest even and odd level for a magnitude ``a``, in steps."""
    most = i64(costs.shape[1]) - i64(1)
    for b in range(i64(0), i64(2)):
        rates = costs[table + b]
        cost[2 * b] = a * a + weight * f64(rates[0])
        levels[2 * b] = i32(0)
        cost[2 * b + 1] = _FAR
        levels[2 * b + 1] = i32(0)
        centre = i64((a + f64(b)) * 0.5 + 0.5)
        for k in range(centre - i64(2), centre + i64(2)):
            size = abs(k)
            if size == 0 or size > most:
                continue
            whole = f64(2 * size - b)
            off = a - whole if k > 0 else a + whole
            now = off * off + weight * f64(rates[size])
            place = 2 * b + (size & i64(1))
            if now < cost[place]:
                cost[place] = now
                levels[place] = i32(k)


@jit
def _walk_back(found: Any, survivors: Any, best: Any, count: Any, lane: Any, lanes: Any) -> None:
    """Write the levels of the path that ends in a state, from its end."""
    state, at = best, count
    while at > _0:
        at -= _1
        packed = survivors[_STATES * at + state]
        found[lane + at * lanes] = packed >> i32(3)
        state = u64(packed & i32(7))


@jit
def search(
    values: Any,
    survivors: Any,
    found: Any,
    classes: Any,
    costs: Any,
    lane: Any,
    lanes: Any,
    row: Any,
    step: Any,
    weight: Any,
) -> None:
    """Find the path of one lane with the least squared error plus ``weight`` times its bits (Viterbi).

    ``found``: int32, shape (n,), the levels k. ``survivors``: working space, int32, shape (8 * elements of the lane,).
    ``costs``: float32, the bits of each magnitude, shape (classes * 2, largest magnitude + 1).
    """
    levels, cost = _levels(i32), _costs(f64)
    sums, fresh = _sums(f64), _fresh(f64)
    for s in range(_STATES):
        sums[s] = _FAR
    sums[0] = 0.0
    at = _0
    for i in range(lane, u64(values.size), lanes):
        y = f64(values[i]) / f64(step)
        a = abs(y)
        _candidates(cost, levels, a, costs, i64(classes[i // row]) * i64(2), f64(weight))
        for s in range(_STATES):
            fresh[s] = _FAR
        for s in range(_STATES):
            for odd in range(_0, _2):
                place = _2 * (s & _1) + odd
                after = _after(s, odd)
                total = sums[s] + cost[place]
                if total < fresh[after]:
                    fresh[after] = total
                    level = -levels[place] if y < 0.0 else levels[place]
                    survivors[_STATES * at + after] = i32(level * i32(STATES) + i32(s))
        for s in range(_STATES):
            sums[s] = fresh[s]
        at += _1
    best = _0
    for other in range(_STATES):
        if sums[other] < sums[best]:
            best = u64(other)
    _walk_back(found, survivors, best, at, lane, lanes)


@jit
def count(levels: Any, seconds: Any, counts: Any, trellis: Any, classes: Any, row: Any) -> None:
    """Write the quantiser of each level and count each symbol. ``trellis``: uint32, shape (lanes,), zeros."""
    lanes, lane = u64(trellis.size), _0
    for i in range(_0, u64(levels.size)):
        second = u64(trellis[lane]) & _1
        magnitude = u64(abs(levels[i]))
        raw = _raw_bits(magnitude)
        symbol = u64(8) * raw + (magnitude >> raw)
        seconds[i] = u8(second)
        counts[(_2 * u64(classes[i // row]) + second) * _SYMBOLS + symbol] += u32(1)
        trellis[lane] = u32(_after(u64(trellis[lane]), magnitude & _1))
        lane += _1
        if lane == lanes:
            lane = _0


@jit
def encode(
    words: Any, state: Any, levels: Any, seconds: Any, frequencies: Any, starts: Any, classes: Any, row: Any
) -> Any:
    """Encode the levels from last to first. The words fill the end of ``words``; return the index of the first one.

    ``state``: uint32, shape (lanes,), all LOW. ``frequencies``, ``starts``: uint32, for each symbol of each table; for
    zero twice its share.
    """
    lanes = u64(state.size)
    place = u64(words.size)
    for back in range(_0, u64(levels.size)):
        i = u64(levels.size) - _1 - back
        lane = i % lanes
        x = u64(state[lane])
        magnitude = u64(abs(levels[i]))
        raw = _raw_bits(magnitude)
        if x >= _1 << (_END - raw):
            place -= _1
            words[place] = u16(x & u64(0xFFFF))
            x >>= _WORD
        x = (x << raw) | (magnitude & ((_1 << raw) - _1))
        symbol = (_2 * u64(classes[i // row]) + u64(seconds[i])) * _SYMBOLS + u64(8) * raw + (magnitude >> raw)
        frequency, start = u64(frequencies[symbol]), u64(starts[symbol])
        if levels[i] < 0:
            start += frequency
        if x >= frequency << (_END - _BITS):
            place -= _1
            words[place] = u16(x & u64(0xFFFF))
            x >>= _WORD
        x = ((x // frequency) << _BITS) + start + x % frequency
        state[lane] = u32(x)
    return place
