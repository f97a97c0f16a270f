/* From the graph's samples, which are f32, to those that are recorded where these are s16 or s32. Plain C, as
 * _kernels.h. */
#ifndef CHAOS_CONVERT_H
#define CHAOS_CONVERT_H

#include <math.h>

#include "_kernels.h"

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

#define CHAOS_CONVERT_PLAIN(BITS)                                                                                      \
    static void chaos_convert_plain_##BITS(int##BITS##_t *dst, uint64_t stride, const float *const *planes,            \
                                           uint64_t channels, uint64_t at, uint64_t n)                                                            \
    {                                                                                                                  \
        for (uint64_t c = 0; c < channels; c++)                                                                        \
            for (uint64_t i = 0; i < n; i++)                                                                           \
                dst[c * stride + i] =                                                                                  \
                    (int##BITS##_t)chaos_whole(planes[c][at + i], CHAOS_FULL_##BITS, CHAOS_TOP_##BITS);                \
    }

CHAOS_CONVERT_PLAIN(16)
CHAOS_CONVERT_PLAIN(32)

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
#define CHAOS_CONVERT_WIDE(NAME, BITS, STORE, LEAD)                                                                    \
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

CHAOS_CONVERT_WIDE(chaos_convert_wide, 16, _mm256_storeu_si256, 0)
CHAOS_CONVERT_WIDE(chaos_convert_wide, 32, _mm256_storeu_si256, 0)
CHAOS_CONVERT_WIDE(chaos_convert_streamed, 16, _mm256_stream_si256, 1)
CHAOS_CONVERT_WIDE(chaos_convert_streamed, 32, _mm256_stream_si256, 1)

#define CHAOS_CONVERT_BEST(BITS)                                                                                       \
    if (!__builtin_cpu_supports("avx2"))                                                                               \
        chaos_convert_plain_##BITS(dst, stride, planes, channels, at, n);                                              \
    else if (n * channels * sizeof(*dst) >= CHAOS_STREAM_BYTES)                                                        \
        chaos_convert_streamed_##BITS(dst, stride, planes, channels, at, n);                                           \
    else                                                                                                               \
        chaos_convert_wide_##BITS(dst, stride, planes, channels, at, n)
#else
#define CHAOS_CONVERT_BEST(BITS) chaos_convert_plain_##BITS(dst, stride, planes, channels, at, n)
#endif

#define CHAOS_CONVERT(BITS)                                                                                            \
    static void chaos_convert_##BITS(int##BITS##_t *dst, uint64_t stride, const float *const *planes,                  \
                                     uint64_t channels, uint64_t at, uint64_t n)                                       \
    {                                                                                                                  \
        CHAOS_CONVERT_BEST(BITS);                                                                                      \
    }

CHAOS_CONVERT(16)
CHAOS_CONVERT(32)

#endif
