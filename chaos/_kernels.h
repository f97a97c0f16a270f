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

#define CHAOS_INLINE static inline __attribute__((always_inline))

/* Streaming stores write whole lines to memory without reading them first, as other stores do. They keep no order of
 * their own, not even before one that releases, so that a fence must end them. It waits until they have left the
 * processor, about 0.3 us: from so many bytes a cycle on, streaming gains more than that. */
#define CHAOS_STREAM_BYTES 16384
#ifdef __x86_64__
#define CHAOS_AVX2 __attribute__((target("avx2")))
#endif

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

/* Planes side by side, the other way round: n frames of `channels` samples each. Not for the RT callback. Goes through
 * blocks of frames that the first-level cache holds, so that each line of dst is filled before it is driven out. */
#define CHAOS_BLOCK 128   /* frames */
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

/* Planes of f32 as whole numbers of 16 or 32 bits: n samples of each from the sample `at` on, to dst and from there on a
 * `stride` (samples) further for each. Full scale is 2^15 or 2^31; rounded to the nearest, ties to even, and clipped to
 * the greatest value that f32 tells apart from full scale. What came of whole numbers of up to 24 bits (16 for s16) comes
 * out as those. No dither; NaN is the lowest. */
#define CHAOS_TOP_16 32767.0f
#define CHAOS_TOP_32 2147483520.0f
#define CHAOS_FULL_16 32768.0f
#define CHAOS_FULL_32 2147483648.0f

CHAOS_INLINE int32_t chaos_whole(float v, float full, float top)
{
    v *= full;
    v = v > -full ? v : -full;
    return (int32_t)lrintf(v < top ? v : top);
}

#define CHAOS_PLAIN(BITS)                                                                                              \
    static void chaos_plain_##BITS(int##BITS##_t *dst, uint64_t stride, const float *const *planes, uint64_t channels, \
                                   uint64_t at, uint64_t n)                                                            \
    {                                                                                                                  \
        for (uint64_t c = 0; c < channels; c++)                                                                        \
            for (uint64_t i = 0; i < n; i++)                                                                           \
                dst[c * stride + i] = (int##BITS##_t)chaos_whole(planes[c][at + i], CHAOS_FULL_##BITS, CHAOS_TOP_##BITS); \
    }

CHAOS_PLAIN(16)
CHAOS_PLAIN(32)

#ifdef __x86_64__
/* Eight at once. */
CHAOS_INLINE CHAOS_AVX2 __m256i chaos_whole_8(const float *from, float full, float top)
{
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(from), _mm256_set1_ps(full));
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, _mm256_set1_ps(-full)), _mm256_set1_ps(top)));
}

/* What fills half a cache line: 8 samples of 32 bits or 16 of 16. */
CHAOS_INLINE CHAOS_AVX2 __m256i chaos_half_32(const float *from)
{
    return chaos_whole_8(from, CHAOS_FULL_32, CHAOS_TOP_32);
}

CHAOS_INLINE CHAOS_AVX2 __m256i chaos_half_16(const float *from)
{
    const __m256i low = chaos_whole_8(from, CHAOS_FULL_16, CHAOS_TOP_16);
    const __m256i high = chaos_whole_8(from + 8, CHAOS_FULL_16, CHAOS_TOP_16);
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);     /* packs goes by halves of a register */
}

/* The streamed way begins with what comes before the first whole line of a plane's place. */
#define CHAOS_WIDE(NAME, BITS, STORE, LEAD)                                                                            \
    CHAOS_AVX2 static void NAME##_##BITS(int##BITS##_t *dst, uint64_t stride, const float *const *planes,              \
                                         uint64_t channels, uint64_t at, uint64_t n)                                   \
    {                                                                                                                  \
        const uint64_t half = 32 / sizeof(*dst);                                                                       \
        for (uint64_t c = 0; c < channels; c++) {                                                                      \
            int##BITS##_t *to = dst + c * stride;                                                                      \
            const float *from = planes[c] + at;                                                                        \
            const uint64_t to_line = (LEAD) ? (-(uintptr_t)to & 63) / sizeof(*to) : 0;                                 \
            const uint64_t lead = to_line < n ? to_line : n;                                                           \
            uint64_t i = lead;                                                                                         \
            for (uint64_t k = 0; k < lead; k++)                                                                        \
                to[k] = (int##BITS##_t)chaos_whole(from[k], CHAOS_FULL_##BITS, CHAOS_TOP_##BITS);                      \
            if (c + 1 < channels)                                                                                      \
                chaos_ask_for((const uint8_t *)(planes[c + 1] + at), n * sizeof(float));                               \
            for (; i + 2 * half <= n; i += 2 * half) {                                                                 \
                const __m256i first = chaos_half_##BITS(from + i), second = chaos_half_##BITS(from + i + half);        \
                STORE((__m256i *)(to + i), first);                                                                     \
                STORE((__m256i *)(to + i) + 1, second);                                                                \
            }                                                                                                          \
            for (; i < n; i++)                                                                                         \
                to[i] = (int##BITS##_t)chaos_whole(from[i], CHAOS_FULL_##BITS, CHAOS_TOP_##BITS);                      \
        }                                                                                                              \
        if (LEAD)                                                                                                      \
            _mm_sfence();                                                                                              \
    }

CHAOS_WIDE(chaos_wide, 16, _mm256_storeu_si256, 0)
CHAOS_WIDE(chaos_wide, 32, _mm256_storeu_si256, 0)
CHAOS_WIDE(chaos_streamed, 16, _mm256_stream_si256, 1)
CHAOS_WIDE(chaos_streamed, 32, _mm256_stream_si256, 1)

#define CHAOS_BEST(BITS)                                                                                               \
    if (!__builtin_cpu_supports("avx2"))                                                                               \
        chaos_plain_##BITS(dst, stride, planes, channels, at, n);                                                      \
    else if (n * channels * sizeof(*dst) >= CHAOS_STREAM_BYTES)                                                        \
        chaos_streamed_##BITS(dst, stride, planes, channels, at, n);                                                   \
    else                                                                                                               \
        chaos_wide_##BITS(dst, stride, planes, channels, at, n)
#else
#define CHAOS_BEST(BITS) chaos_plain_##BITS(dst, stride, planes, channels, at, n)
#endif

#define CHAOS_CONVERT(BITS)                                                                                            \
    static void chaos_convert_##BITS(int##BITS##_t *dst, uint64_t stride, const float *const *planes,                  \
                                     uint64_t channels, uint64_t at, uint64_t n)                                       \
    {                                                                                                                  \
        CHAOS_BEST(BITS);                                                                                              \
    }

CHAOS_CONVERT(16)
CHAOS_CONVERT(32)

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

/* What n samples of one channel are like, full scale being 1.0; those that are no number are counted and left out. */
struct chaos_measure {
    double peak, squares, sum;
    uint64_t n_clipped, first_clipped, n_odd, first_odd;    /* first_: from the first sample on, n where there is none */
};

#define CHAOS_MEASURE(NAME, T, FULL)                                                                                \
    static void NAME(const T *src, uint64_t n, struct chaos_measure *m) {                                           \
        double top = 0, squares = 0, sum = 0;                                                                       \
        m->n_clipped = m->n_odd = 0;                                                                                \
        m->first_clipped = m->first_odd = n;                                                                        \
        for (uint64_t i = 0; i < n; i++) {                                                                          \
            double v = (double)src[i] / FULL;                                                                       \
            double a = v < 0 ? -v : v;                                                                              \
            if (!(a <= CHAOS_FINITE)) {                                                                             \
                if (m->n_odd++ == 0)                                                                                \
                    m->first_odd = i;                                                                               \
                continue;                                                                                           \
            }                                                                                                       \
            if (a >= CHAOS_CLIPPED && m->n_clipped++ == 0)                                                          \
                m->first_clipped = i;                                                                               \
            if (a > top)                                                                                            \
                top = a;                                                                                            \
            squares += v * v;                                                                                       \
            sum += v;                                                                                               \
        }                                                                                                           \
        m->peak = top;                                                                                              \
        m->squares = squares;                                                                                       \
        m->sum = sum;                                                                                               \
    }

#define CHAOS_FINITE 3.4028234663852886e38  /* the largest float */
#define CHAOS_CLIPPED (32767.0 / 32768.0)   /* the highest sample of a converter of 16 bits, and all above it */

CHAOS_MEASURE(chaos_measure_f32, float, 1.0)
CHAOS_MEASURE(chaos_measure_s16, int16_t, 32768.0)
CHAOS_MEASURE(chaos_measure_s32, int32_t, 2147483648.0)

#endif
