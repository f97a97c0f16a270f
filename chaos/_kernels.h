/* The loops that touch every sample, in C so that the compiler can vectorise them. Nothing here allocates, locks or
 * calls into the kernel: all of it may run in the RT callback.
 */
#ifndef CHAOS_KERNELS_H
#define CHAOS_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Interleaved (n frames of `channels` samples) to planar: dst is the first channel's place, `stride` samples lie between
 * one channel's place and the next.
 *
 * Tiles of several channels by a cache line's worth of frames are transposed in registers, so that each line of dst is
 * written whole and once, however the planes lie to each other in the cache; the last frames go sample by sample.
 * A tile is made of squares: of 4 x 4 samples of 32 bits or 8 x 8 of 16 bits in 128-bit registers, or, where the
 * processor has AVX2, of two such squares side by side in 256-bit ones; these stream what they write past the caches
 * where that pays. */
#define CHAOS_VECTOR(NAME, T, BYTES) typedef T NAME __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias))
#define CHAOS_BLOCK 128   /* frames */
#define CHAOS_INLINE static inline __attribute__((always_inline))

CHAOS_VECTOR(chaos_4x32, uint32_t, 16);
CHAOS_VECTOR(chaos_8x16, uint16_t, 16);
CHAOS_VECTOR(chaos_8x32, uint32_t, 32);
CHAOS_VECTOR(chaos_16x16, uint16_t, 32);

/* Squares side by side: 4 channels, frames 0-3 (and 4-7). In: each frame's channels; out: each channel's frames. */
#define CHAOS_SQUARE_32(V, LOW, HIGH, LOW2, HIGH2)                                                                      \
    V t0 = __builtin_shufflevector(r[0], r[1], LOW), t1 = __builtin_shufflevector(r[0], r[1], HIGH);                          \
    V t2 = __builtin_shufflevector(r[2], r[3], LOW), t3 = __builtin_shufflevector(r[2], r[3], HIGH);                          \
    r[0] = __builtin_shufflevector(t0, t2, LOW2), r[1] = __builtin_shufflevector(t0, t2, HIGH2);                              \
    r[2] = __builtin_shufflevector(t1, t3, LOW2), r[3] = __builtin_shufflevector(t1, t3, HIGH2)
/* The same for 8 channels of 16 bits, frames 0-7 (and 8-15): three rounds of taking pairs apart. */
#define CHAOS_SQUARE_16(V, LOW, HIGH, LOW2, HIGH2, LOW4, HIGH4)                                                         \
    V t[8];                                                                                                             \
    for (int k = 0; k < 4; k++) {                                                                                       \
        t[2 * k] = __builtin_shufflevector(r[2 * k], r[2 * k + 1], LOW);                                                   \
        t[2 * k + 1] = __builtin_shufflevector(r[2 * k], r[2 * k + 1], HIGH);                                              \
    }                                                                                                                   \
    for (int k = 0; k < 8; k += 4) {                                                                                    \
        r[k] = __builtin_shufflevector(t[k], t[k + 2], LOW2), r[k + 1] = __builtin_shufflevector(t[k], t[k + 2], HIGH2);      \
        r[k + 2] = __builtin_shufflevector(t[k + 1], t[k + 3], LOW2);                                                      \
        r[k + 3] = __builtin_shufflevector(t[k + 1], t[k + 3], HIGH2);                                                     \
    }                                                                                                                   \
    for (int k = 0; k < 4; k++) {                                                                                       \
        t[2 * k] = __builtin_shufflevector(r[k], r[k + 4], LOW4);                                                          \
        t[2 * k + 1] = __builtin_shufflevector(r[k], r[k + 4], HIGH4);                                                     \
    }                                                                                                                   \
    for (int k = 0; k < 8; k++)                                                                                         \
        r[k] = t[k]
#define CHAOS_LIST(...) __VA_ARGS__

CHAOS_INLINE void chaos_square_4x32(chaos_4x32 *r)
{
    CHAOS_SQUARE_32(chaos_4x32, CHAOS_LIST(0, 4, 1, 5), CHAOS_LIST(2, 6, 3, 7), CHAOS_LIST(0, 1, 4, 5),
                    CHAOS_LIST(2, 3, 6, 7));
}

CHAOS_INLINE void chaos_square_8x16(chaos_8x16 *r)
{
    CHAOS_SQUARE_16(chaos_8x16, CHAOS_LIST(0, 8, 1, 9, 2, 10, 3, 11), CHAOS_LIST(4, 12, 5, 13, 6, 14, 7, 15),
                    CHAOS_LIST(0, 1, 8, 9, 2, 3, 10, 11), CHAOS_LIST(4, 5, 12, 13, 6, 7, 14, 15),
                    CHAOS_LIST(0, 1, 2, 3, 8, 9, 10, 11), CHAOS_LIST(4, 5, 6, 7, 12, 13, 14, 15));
}

/* Goes through the channels a cache line of src at a time, in that through blocks of frames whose lines fit the
 * first-level cache, in each through the channels in groups of WIDTH (the last group may overlap the one before), in
 * each through tiles of TILE frames. LOAD(V, from, behind) is a register of the squares that hold SPAN frames (`behind`
 * is the way from one square to the next), STORE(to, v) writes one. Where a frame has fewer channels than a group,
 * registers reach into the frames behind it, and so as many are left over. `tiled` is how many frames were done.
 * CHAOS_STEP hides from the compiler that it could know all frames' places beforehand: it would keep them on the stack,
 * which costs more than to add them up. */
#define CHAOS_STEP(p, by) __asm__("" : "=r"(p) : "0"((p) + (by)))
#define CHAOS_TILES(T, V, SQUARE, LOAD, STORE, WIDTH, SPAN, TILE)                                                      \
    const uint64_t width = channels < WIDTH ? channels : WIDTH, line = 64 / sizeof(T);                                 \
    const uint64_t reach = (WIDTH - 1) / channels, tiled = n < reach ? 0 : (n - reach) / (TILE) * (TILE);              \
    for (uint64_t first = 0; first < channels; first += line)                                                          \
        for (uint64_t begin = 0; begin < tiled; begin += CHAOS_BLOCK)                                                  \
            for (uint64_t group = first; group < channels && group < first + line; group += WIDTH) {                   \
                const uint64_t c = channels < WIDTH ? 0 : group + WIDTH > channels ? channels - WIDTH : group;         \
                const uint64_t end = begin + CHAOS_BLOCK < tiled ? begin + CHAOS_BLOCK : tiled;                        \
                for (uint64_t at = begin; at < end; at += TILE) {                                                      \
                    V r[(TILE) / (SPAN)][WIDTH];                                                                       \
                    const T *from = src + at * channels + c;                                                           \
                    T *to = dst + c * stride + at;                                                                     \
                    for (int s = 0; s < (TILE) / (SPAN); s++) {                                                        \
                        for (int k = 0; k < WIDTH; k++) {                                                              \
                            r[s][k] = LOAD(V, from, WIDTH * channels);                                                 \
                            CHAOS_STEP(from, channels);                                                                \
                        }                                                                                              \
                        CHAOS_STEP(from, (SPAN - WIDTH) * channels);                                                   \
                        SQUARE(r[s]);                                                                                  \
                    }                                                                                                  \
                    for (uint64_t k = 0; k < WIDTH && k < width; k++) {                                                \
                        for (int s = 0; s < (TILE) / (SPAN) && k >= group - c; s++) /* the others are there */         \
                            STORE((V *)(to + s * (SPAN)), r[s][k]);                                                    \
                        to += stride;                                                                                  \
                    }                                                                                                  \
                }                                                                                                      \
            }

#define CHAOS_GET(V, from, behind) (*(const V *)(from))
#define CHAOS_PUT(to, v) (*(to) = (v))

#define CHAOS_PAIR(T)                                                                                                   \
    static void chaos_pair_##T(T *restrict a, T *restrict b, const T *restrict src, uint64_t n)                         \
    {                                                                                                                   \
        for (uint64_t i = 0; i < n; i++) {                                                                              \
            a[i] = src[2 * i];                                                                                          \
            b[i] = src[2 * i + 1];                                                                                      \
        }                                                                                                               \
    }

CHAOS_PAIR(uint32_t)
CHAOS_PAIR(uint16_t)

#define CHAOS_PLAIN(T, BITS, V, SQUARE, WIDTH)                                                                         \
    static void chaos_plain_##BITS(T *dst, uint64_t stride, const T *src, uint64_t channels, uint64_t n)               \
    {                                                                                                                  \
        CHAOS_TILES(T, V, SQUARE, CHAOS_GET, CHAOS_PUT, WIDTH, WIDTH, WIDTH)                                           \
        for (uint64_t c = 0; c < channels; c++)                                                                        \
            for (uint64_t i = tiled; i < n; i++)                                                                       \
                dst[c * stride + i] = src[i * channels + c];                                                           \
    }

CHAOS_PLAIN(uint32_t, 32, chaos_4x32, chaos_square_4x32, 4)
CHAOS_PLAIN(uint16_t, 16, chaos_8x16, chaos_square_8x16, 8)

#ifdef __x86_64__
#define CHAOS_AVX2 __attribute__((target("avx2")))

CHAOS_INLINE CHAOS_AVX2 void chaos_square_8x32(chaos_8x32 *r)
{
    CHAOS_SQUARE_32(chaos_8x32, CHAOS_LIST(0, 8, 1, 9, 4, 12, 5, 13), CHAOS_LIST(2, 10, 3, 11, 6, 14, 7, 15),
                    CHAOS_LIST(0, 1, 8, 9, 4, 5, 12, 13), CHAOS_LIST(2, 3, 10, 11, 6, 7, 14, 15));
}

CHAOS_INLINE CHAOS_AVX2 void chaos_square_16x16(chaos_16x16 *r)
{
    CHAOS_SQUARE_16(chaos_16x16,
                    CHAOS_LIST(0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27),
                    CHAOS_LIST(4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31),
                    CHAOS_LIST(0, 1, 16, 17, 2, 3, 18, 19, 8, 9, 24, 25, 10, 11, 26, 27),
                    CHAOS_LIST(4, 5, 20, 21, 6, 7, 22, 23, 12, 13, 28, 29, 14, 15, 30, 31),
                    CHAOS_LIST(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
                    CHAOS_LIST(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31));
}

/* A frame's channels in the lower half, those of the frame behind the first square in the upper. */
#define CHAOS_GET_TWO(V, from, behind)                                                                                 \
    ((V)_mm256_loadu2_m128i((const __m128i_u *)((from) + (behind)), (const __m128i_u *)(from)))
#define CHAOS_STREAM(to, v) _mm256_stream_si256((__m256i *)(to), (__m256i)(v))
#define CHAOS_WIDE(NAME, T, BITS, V, SQUARE, STORE, WIDTH)                                                             \
    CHAOS_AVX2 static void NAME##_##BITS(T *dst, uint64_t stride, const T *src, uint64_t channels, uint64_t n)         \
    {                                                                                                                  \
        CHAOS_TILES(T, V, SQUARE, CHAOS_GET_TWO, STORE, WIDTH, 2 * WIDTH, 4 * WIDTH)                                   \
        _mm256_zeroupper(); /* gcc leaves it out before a call in tail position; SSE code would be slow from then on */\
        if (tiled < n)                                                                                                 \
            chaos_plain_##BITS(dst + tiled, stride, src + tiled * channels, channels, n - tiled);                      \
    }

CHAOS_WIDE(chaos_wide, uint32_t, 32, chaos_8x32, chaos_square_8x32, CHAOS_PUT, 4)
CHAOS_WIDE(chaos_wide, uint16_t, 16, chaos_16x16, chaos_square_16x16, CHAOS_PUT, 8)
CHAOS_WIDE(chaos_lines, uint32_t, 32, chaos_8x32, chaos_square_8x32, CHAOS_STREAM, 4)
CHAOS_WIDE(chaos_lines, uint16_t, 16, chaos_16x16, chaos_square_16x16, CHAOS_STREAM, 8)

/* Streaming stores write whole lines to memory without reading them first, as other stores do. Each row must begin at
 * the same place in its line: the stride is in whole lines; what comes before the first line goes the plain way. Such
 * stores keep no order of their own, not even before one that releases, so that a fence must end them. It waits until
 * they have left the processor, about 0.3 us: from CHAOS_STREAM_BYTES on, streaming gains more than that. */
#define CHAOS_STREAM_BYTES 16384
#define CHAOS_STREAMED(T, BITS)                                                                                        \
    static void chaos_streamed_##BITS(T *dst, uint64_t stride, const T *src, uint64_t channels, uint64_t n)            \
    {                                                                                                                  \
        const uint64_t to_line = (-(uintptr_t)dst & 63) / sizeof(T), lead = to_line < n ? to_line : n;                 \
        chaos_plain_##BITS(dst, stride, src, channels, lead);                                                          \
        chaos_lines_##BITS(dst + lead, stride, src + lead * channels, channels, n - lead);                             \
        _mm_sfence();                                                                                                  \
    }

CHAOS_STREAMED(uint32_t, 32)
CHAOS_STREAMED(uint16_t, 16)

#define CHAOS_BEST(T, BITS)                                                                                            \
    if (!__builtin_cpu_supports("avx2"))                                                                               \
        chaos_plain_##BITS(dst, stride, src, channels, n);                                                             \
    else if (n * channels * sizeof(T) >= CHAOS_STREAM_BYTES && stride * sizeof(T) % 64 == 0)                           \
        chaos_streamed_##BITS(dst, stride, src, channels, n);                                                          \
    else                                                                                                               \
        chaos_wide_##BITS(dst, stride, src, channels, n)
#else
#define CHAOS_BEST(T, BITS) chaos_plain_##BITS(dst, stride, src, channels, n)
#endif

#define CHAOS_DEINTERLEAVE(T, BITS)                                                                                    \
    static void chaos_deinterleave_##BITS(T *dst, uint64_t stride, const T *src, uint64_t channels, uint64_t n)        \
    {                                                                                                                  \
        if (channels == 1)                                                                                             \
            memcpy(dst, src, n * sizeof(T));                                                                           \
        else if (channels == 2)                                                                                        \
            chaos_pair_##T(dst, dst + stride, src, n);                                                                 \
        else                                                                                                           \
            CHAOS_BEST(T, BITS);                                                                                       \
    }

CHAOS_DEINTERLEAVE(uint32_t, 32)
CHAOS_DEINTERLEAVE(uint16_t, 16)

/* Copies planes: n bytes of each, to dst and from there on a `stride` (bytes) further for each.
 *
 * Between two cycles other work has taken the caches, and the processor does not look ahead from one plane, a page of
 * its own, into the next: so the next one's first lines are asked for while this one is copied. */
#define CHAOS_AHEAD 256     /* bytes; then the processor has seen which way it goes */
static inline void chaos_ask_for(const uint8_t *from, uint64_t n)
{
    for (uint64_t ahead = 0; ahead < n && ahead < CHAOS_AHEAD; ahead += 64)
        __builtin_prefetch(from + ahead);
}

static inline void chaos_plain_planes(uint8_t *dst, uint64_t stride, const uint8_t *const *planes, uint64_t channels,
                                      uint64_t at, uint64_t n)
{
    for (uint64_t c = 0; c < channels; c++) {
        if (c + 1 < channels) {
            chaos_ask_for(planes[c + 1] + at, n);
            chaos_ask_for(dst + (c + 1) * stride, n);
        }
        memcpy(dst + c * stride, planes[c] + at, n);
    }
}

#ifdef __x86_64__
/* The same by streaming stores: dst, stride and n are in whole lines. */
CHAOS_AVX2 static void chaos_streamed_planes(uint8_t *dst, uint64_t stride, const uint8_t *const *planes,
                                             uint64_t channels, uint64_t at, uint64_t n)
{
    for (uint64_t c = 0; c < channels; c++) {
        const __m256i_u *from = (const __m256i_u *)(planes[c] + at), *end = (const __m256i_u *)(planes[c] + at + n);
        __m256i *to = (__m256i *)(dst + c * stride);
        if (c + 1 < channels)
            chaos_ask_for(planes[c + 1] + at, n);
        for (; from < end; from += 2, to += 2) {
            const __m256i low = from[0], high = from[1];
            _mm256_stream_si256(to, low);
            _mm256_stream_si256(to + 1, high);
        }
    }
    _mm_sfence();
}
#endif

static void chaos_copy_planes(uint8_t *dst, uint64_t stride, const uint8_t *const *planes, uint64_t channels,
                              uint64_t at, uint64_t n)
{
#ifdef __x86_64__
    const int in_lines = (((uintptr_t)dst | stride | n) & 63) == 0;
    if (in_lines && n * channels >= CHAOS_STREAM_BYTES && __builtin_cpu_supports("avx2")) {
        chaos_streamed_planes(dst, stride, planes, channels, at, n);
        return;
    }
#endif
    chaos_plain_planes(dst, stride, planes, channels, at, n);
}

/* Zeros, for a slot that the callback comes back to after all others: past the caches, which other work needs, and
 * without reading first what is overwritten. Not for the RT callback. */
#ifdef __x86_64__
CHAOS_AVX2 static void chaos_zero_lines(uint8_t *dst, uint64_t n)
{
    const __m256i zero = _mm256_setzero_si256();
    for (uint64_t at = 0; at < n; at += 64) {
        _mm256_stream_si256((__m256i *)(dst + at), zero);
        _mm256_stream_si256((__m256i *)(dst + at + 32), zero);
    }
    _mm_sfence();
}
#endif

static void chaos_zero(uint8_t *dst, uint64_t n)
{
#ifdef __x86_64__
    if ((((uintptr_t)dst | n) & 63) == 0 && __builtin_cpu_supports("avx2")) {
        chaos_zero_lines(dst, n);
        return;
    }
#endif
    memset(dst, 0, n);
}

/* Planes side by side, the other way round: n frames of `channels` samples each. Not for the RT callback. Goes through
 * blocks of frames that the first-level cache holds, so that each line of dst is filled before it is driven out. */
#define CHAOS_INTERLEAVE(T, BITS)                                                                                      \
    static void chaos_interleave_##BITS(T *restrict dst, const T *const *planes, uint64_t channels, uint64_t n)        \
    {                                                                                                                  \
        const uint64_t block = channels < 32 ? CHAOS_BLOCK : 4096 / channels + 1;                                      \
        if (channels == 2)                                                                                             \
            for (uint64_t i = 0; i < n; i++) {                                                                         \
                dst[2 * i] = planes[0][i];                                                                             \
                dst[2 * i + 1] = planes[1][i];                                                                         \
            }                                                                                                          \
        else                                                                                                           \
            for (uint64_t begin = 0; begin < n; begin += block)                                                        \
                for (uint64_t c = 0; c < channels; c++)                                                                \
                    for (uint64_t i = begin; i < n && i < begin + block; i++)                                          \
                        dst[i * channels + c] = planes[c][i];                                                          \
    }

CHAOS_INTERLEAVE(uint32_t, 32)
CHAOS_INTERLEAVE(uint16_t, 16)

/* Which of at most 64 interleaved channels are zeros alone, as bits: looks no further than until each was heard. */
#define CHAOS_SILENT(NAME, T)                                                                                           \
    static uint64_t NAME(const T *src, uint64_t channels, uint64_t n) {                                                 \
        T seen[64] = {0};                                                                                               \
        uint64_t silent = ~0ull >> (64 - channels);                                                                     \
        for (uint64_t from = 0; from < n && silent; from += 16) {                                                       \
            uint64_t end = from + 16 < n ? from + 16 : n;                                                               \
            for (uint64_t i = from; i < end; i++)                                                                       \
                for (uint64_t k = 0; k < channels; k++)                                                                 \
                    seen[k] |= src[i * channels + k];                                                                   \
            for (uint64_t k = 0; k < channels; k++)                                                                     \
                silent &= ~((uint64_t)(seen[k] != 0) << k);                                                             \
        }                                                                                                               \
        return silent;                                                                                                  \
    }
CHAOS_SILENT(chaos_silent_32, uint32_t)
CHAOS_SILENT(chaos_silent_16, uint16_t)

/* Peak and mean square of n samples, full scale being 1.0. Not for the RT callback: it reads a whole window. */
#define CHAOS_LEVEL(NAME, T, FULL)                                                                                  \
    static void NAME(const T *src, uint64_t n, double *peak, double *mean_square) {                                 \
        double top = 0, sum = 0;                                                                                    \
        for (uint64_t i = 0; i < n; i++) {                                                                          \
            double v = (double)src[i] / FULL;                                                                       \
            double a = v < 0 ? -v : v;                                                                              \
            if (a > top)                                                                                            \
                top = a;                                                                                            \
            sum += v * v;                                                                                           \
        }                                                                                                           \
        *peak = top;                                                                                                \
        *mean_square = n ? sum / (double)n : 0;                                                                     \
    }

CHAOS_LEVEL(chaos_level_f32, float, 1.0)
CHAOS_LEVEL(chaos_level_s16, int16_t, 32768.0)
CHAOS_LEVEL(chaos_level_s32, int32_t, 2147483648.0)

/* What n samples of one channel are like, full scale being 1.0; those that are no number are counted and left out. Not
 * for the RT callback.
 *
 * Goes block by block: the highest sample of a block tells whether any is no number, and only then each is looked at.
 * Else the sums are made in lanes, since a single one would wait for each addition before the next. */
struct chaos_measure {
    double peak, squares, sum;
    uint64_t n_clipped, first_clipped, n_odd, first_odd;    /* first_: from the first sample on, n where there is none */
};

#define CHAOS_FINITE 3.4028234663852886e38  /* the largest float */
#define CHAOS_CLIPPED (32767.0 / 32768.0)   /* the highest sample of a converter of 16 bits, and all above it */
#define CHAOS_MEASURED 1024                 /* samples of a block, which is gone through twice: the L1 cache holds it */
#define CHAOS_LANES 8

/* A sample's magnitude as a whole number that grows with it, and back: infinite ones and NaN are above all others. */
CHAOS_INLINE uint32_t chaos_size_float(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits & 0x7fffffff;
}

CHAOS_INLINE double chaos_sized_float(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

CHAOS_INLINE uint32_t chaos_size_int32_t(int32_t v) { return v < 0 ? -(uint32_t)v : (uint32_t)v; }
CHAOS_INLINE double chaos_sized_int32_t(uint32_t size) { return size; }
CHAOS_INLINE uint32_t chaos_size_int16_t(int16_t v) { return chaos_size_int32_t(v); }
CHAOS_INLINE double chaos_sized_int16_t(uint32_t size) { return size; }

#define CHAOS_MEASURE(NAME, T, FULL, MOST, WIDE)                                                                       \
    static void NAME##_each(const T *src, uint64_t at, uint64_t end, struct chaos_measure *m)                          \
    {                                                                                                                  \
        for (uint64_t i = at; i < end; i++) {                                                                          \
            const double v = (double)src[i] / FULL, a = v < 0 ? -v : v;                                                \
            if (!(a <= CHAOS_FINITE)) {                                                                                \
                if (m->n_odd++ == 0)                                                                                   \
                    m->first_odd = i;                                                                                  \
                continue;                                                                                              \
            }                                                                                                          \
            if (a >= CHAOS_CLIPPED && m->n_clipped++ == 0)                                                             \
                m->first_clipped = i;                                                                                  \
            m->peak = a > m->peak ? a : m->peak;                                                                       \
            m->squares += v * v;                                                                                       \
            m->sum += v;                                                                                               \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    CHAOS_INLINE void NAME##_blocks(const T *src, uint64_t n, struct chaos_measure *m)                                 \
    {                                                                                                                  \
        const uint32_t clipped = chaos_size_##T((T)(CHAOS_CLIPPED * FULL)), most = chaos_size_##T(MOST);               \
        double squares[CHAOS_LANES] = {0}, sum[CHAOS_LANES] = {0}, peak;                                               \
        uint32_t highest = 0;                                                                                          \
        uint64_t at = 0;                                                                                               \
        *m = (struct chaos_measure){.first_clipped = n, .first_odd = n};                                               \
        for (; at + CHAOS_MEASURED <= n; at += CHAOS_MEASURED) {                                                       \
            const T *block = src + at;                                                                                 \
            uint32_t top = 0, n_clipped = 0;                                                                           \
            for (int i = 0; i < CHAOS_MEASURED; i++) {                                                                 \
                const uint32_t size = chaos_size_##T(block[i]);                                                        \
                top = size > top ? size : top;                                                                         \
                n_clipped += size >= clipped;                                                                          \
            }                                                                                                          \
            if (top > most) {                                                                                          \
                NAME##_each(src, at, at + CHAOS_MEASURED, m);                                                          \
                continue;                                                                                              \
            }                                                                                                          \
            highest = top > highest ? top : highest;                                                                   \
            for (uint64_t i = at; n_clipped > 0 && m->first_clipped == n; i++)                                         \
                m->first_clipped = chaos_size_##T(src[i]) >= clipped ? i : n;                                          \
            m->n_clipped += n_clipped;                                                                                 \
            for (int i = 0; i < CHAOS_MEASURED; i += CHAOS_LANES) {                                                    \
                __builtin_prefetch(block + i + CHAOS_MEASURED);                                                        \
                for (int k = 0; k < CHAOS_LANES; k++) {                                                                \
                    const double v = (double)block[i + k];                                                             \
                    squares[k] += v * v;                                                                               \
                    sum[k] += v;                                                                                       \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        NAME##_each(src, at, n, m);                                                                                    \
        for (int k = 0; k < CHAOS_LANES; k++) {                                                                        \
            m->squares += squares[k] / (FULL * FULL);                                                                  \
            m->sum += sum[k] / FULL;                                                                                   \
        }                                                                                                              \
        peak = chaos_sized_##T(highest) / FULL;                                                                        \
        m->peak = peak > m->peak ? peak : m->peak;                                                                     \
    }                                                                                                                  \
                                                                                                                       \
    static void NAME##_plain(const T *src, uint64_t n, struct chaos_measure *m) { NAME##_blocks(src, n, m); }          \
    WIDE(NAME, T)                                                                                                      \
    static void NAME(const T *src, uint64_t n, struct chaos_measure *m)                                                \
    {                                                                                                                  \
        CHAOS_IF_AVX2(NAME##_wide(src, n, m))                                                                          \
        NAME##_plain(src, n, m);                                                                                       \
    }

#ifdef __x86_64__
#define CHAOS_MEASURE_WIDE(NAME, T)                                                                                    \
    CHAOS_AVX2 static void NAME##_wide(const T *src, uint64_t n, struct chaos_measure *m) { NAME##_blocks(src, n, m); }
/* Of f32, which most recordings have, by hand: each block once, and what lies ahead is asked for early, since by itself
 * the processor stops at each page of 4096 bytes. */
#define CHAOS_EARLY 2048
#define CHAOS_MEASURE_F32(NAME, T)                                                                                     \
    CHAOS_AVX2 static void NAME##_wide(const float *src, uint64_t n, struct chaos_measure *m)                          \
    {                                                                                                                  \
        const uint32_t clipped = chaos_size_float((float)CHAOS_CLIPPED), most = chaos_size_float((float)CHAOS_FINITE); \
        const __m256i bare = _mm256_set1_epi32(0x7fffffff), below = _mm256_set1_epi32((int32_t)clipped - 1);           \
        __m256d squares = _mm256_setzero_pd(), sum = squares;                                                          \
        double each[4], peak;                                                                                          \
        uint32_t tops[CHAOS_LANES], clips[CHAOS_LANES], highest = 0;                                                   \
        uint64_t at = 0;                                                                                               \
        *m = (struct chaos_measure){.first_clipped = n, .first_odd = n};                                               \
        for (; at + CHAOS_MEASURED <= n; at += CHAOS_MEASURED) {                                                       \
            __m256d left = _mm256_setzero_pd(), right = left, to_left = left, to_right = left;                         \
            __m256i top = _mm256_setzero_si256(), n_clipped = top;                                                     \
            for (int i = 0; i < CHAOS_MEASURED; i += CHAOS_LANES) {                                                    \
                __builtin_prefetch((const char *)(src + at + i) + CHAOS_EARLY);                                        \
                const __m256 v = _mm256_loadu_ps(src + at + i);                                                        \
                const __m256i size = _mm256_and_si256(_mm256_castps_si256(v), bare);                                   \
                const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v));                                          \
                const __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));                                        \
                top = _mm256_max_epu32(top, size);                                                                     \
                n_clipped = _mm256_sub_epi32(n_clipped, _mm256_cmpgt_epi32(size, below));                              \
                left = _mm256_add_pd(left, _mm256_mul_pd(a, a));                                                       \
                right = _mm256_add_pd(right, _mm256_mul_pd(b, b));                                                     \
                to_left = _mm256_add_pd(to_left, a);                                                                   \
                to_right = _mm256_add_pd(to_right, b);                                                                 \
            }                                                                                                          \
            _mm256_storeu_si256((__m256i *)tops, top);                                                                 \
            _mm256_storeu_si256((__m256i *)clips, n_clipped);                                                          \
            for (int k = 1; k < CHAOS_LANES; k++) {                                                                    \
                tops[0] = tops[k] > tops[0] ? tops[k] : tops[0];                                                       \
                clips[0] += clips[k];                                                                                  \
            }                                                                                                          \
            if (tops[0] > most) {                                                                                      \
                NAME##_each(src, at, at + CHAOS_MEASURED, m);                                                          \
                continue;                                                                                              \
            }                                                                                                          \
            highest = tops[0] > highest ? tops[0] : highest;                                                           \
            for (uint64_t i = at; clips[0] > 0 && m->first_clipped == n; i++)                                          \
                m->first_clipped = chaos_size_float(src[i]) >= clipped ? i : n;                                        \
            m->n_clipped += clips[0];                                                                                  \
            squares = _mm256_add_pd(squares, _mm256_add_pd(left, right));                                              \
            sum = _mm256_add_pd(sum, _mm256_add_pd(to_left, to_right));                                                \
        }                                                                                                              \
        NAME##_each(src, at, n, m);                                                                                    \
        _mm256_storeu_pd(each, squares);                                                                               \
        m->squares += each[0] + each[1] + each[2] + each[3];                                                           \
        _mm256_storeu_pd(each, sum);                                                                                   \
        m->sum += each[0] + each[1] + each[2] + each[3];                                                               \
        peak = chaos_sized_float(highest);                                                                             \
        m->peak = peak > m->peak ? peak : m->peak;                                                                     \
    }
#define CHAOS_IF_AVX2(DO)                                                                                              \
    if (__builtin_cpu_supports("avx2")) {                                                                              \
        DO;                                                                                                            \
        return;                                                                                                        \
    }
#else
#define CHAOS_MEASURE_WIDE(NAME, T)
#define CHAOS_MEASURE_F32(NAME, T)
#define CHAOS_IF_AVX2(DO)
#endif

CHAOS_MEASURE(chaos_measure_f32, float, 1.0, (float)CHAOS_FINITE, CHAOS_MEASURE_F32)
CHAOS_MEASURE(chaos_measure_s16, int16_t, 32768.0, INT16_MIN, CHAOS_MEASURE_WIDE)
CHAOS_MEASURE(chaos_measure_s32, int32_t, 2147483648.0, INT32_MIN, CHAOS_MEASURE_WIDE)

#endif
