/* Blocks of the overview: the lowest and highest sample, and the squares. Not for the RT callback. */
#ifndef CHAOS_OVERVIEW_H
#define CHAOS_OVERVIEW_H

#include "_kernels.h"

#include <math.h>
#include <stdint.h>

/* One channel's frames of one block so far. `n` are all that were there, `n_finite` those that are a number. */
struct chaos_block {
    float low, high;
    double squares;
    uint32_t n, n_finite;
};

/* The same in lanes: every CHAOS_LANES-th sample is of one. */
struct chaos_lanes {
    float low[CHAOS_LANES], high[CHAOS_LANES];
    double squares[CHAOS_LANES];
    uint32_t n_odd;
};

static inline void chaos_begin_lanes(struct chaos_lanes *lanes)
{
    for (int k = 0; k < CHAOS_LANES; k++) {
        lanes->low[k] = INFINITY;
        lanes->high[k] = -INFINITY;
        lanes->squares[k] = 0;
    }
    lanes->n_odd = 0;
}

/* Takes in the first m of CHAOS_LANES samples; the others must not be lower or higher than these. */
static inline void chaos_take_lanes(const float *v, int m, struct chaos_lanes *lanes)
{
    for (int k = 0; k < CHAOS_LANES; k++) {
        const uint32_t is_odd = !(fabsf(v[k]) <= 3.4028234663852886e38f);
        const float under = is_odd ? INFINITY : v[k], over = is_odd ? -INFINITY : v[k];
        const float counted = (is_odd | (k >= m)) ? 0 : v[k];
        lanes->low[k] = under < lanes->low[k] ? under : lanes->low[k];
        lanes->high[k] = over > lanes->high[k] ? over : lanes->high[k];
        lanes->squares[k] += (double)counted * (double)counted;
        lanes->n_odd += is_odd & (k < m);
    }
}

/* Takes in what lanes have of n samples. */
static inline void chaos_take_block(const struct chaos_lanes *lanes, uint32_t n, struct chaos_block *block)
{
    for (int k = 0; k < CHAOS_LANES; k++) {
        block->low = lanes->low[k] < block->low ? lanes->low[k] : block->low;
        block->high = lanes->high[k] > block->high ? lanes->high[k] : block->high;
        block->squares += lanes->squares[k];
    }
    block->n += n;
    block->n_finite += n - lanes->n_odd;
}

/* Full scale is 1.0. What is NaN or infinite counts in `n` alone.
 *
 * NAME_with goes through samples with care. Where the processor has AVX2, NAME_wide goes through whole lanes as if all were
 * numbers, and tells whether they were. Both make the same sums in the same order, bit for bit: `verify` makes an overview
 * again and compares. */
#define CHAOS_BLOCK_OF(NAME, T, FULL)                                                                                  \
    static void NAME##_with(const T *src, uint32_t n, struct chaos_lanes *lanes)                                       \
    {                                                                                                                  \
        float v[CHAOS_LANES];                                                                                          \
        uint32_t i = 0;                                                                                                \
        for (; i + CHAOS_LANES <= n; i += CHAOS_LANES) {                                                               \
            for (int k = 0; k < CHAOS_LANES; k++)                                                                      \
                v[k] = (float)src[i + k] * (float)(1.0 / FULL);                                                        \
            chaos_take_lanes(v, CHAOS_LANES, lanes);                                                                   \
        }                                                                                                              \
        if (i < n) {                                                                                                   \
            for (uint32_t k = 0; k < CHAOS_LANES; k++)                                                                 \
                v[k] = (float)src[i + k < n ? i + k : i] * (float)(1.0 / FULL);                                        \
            chaos_take_lanes(v, (int)(n - i), lanes);                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static void NAME(const T *src, uint32_t n, struct chaos_block *block)                                              \
    {                                                                                                                  \
        struct chaos_lanes lanes;                                                                                      \
        uint32_t done = 0;                                                                                             \
        chaos_begin_lanes(&lanes);                                                                                     \
        CHAOS_BLOCK_WIDE(NAME)                                                                                         \
        NAME##_with(src + done, n - done, &lanes);                                                                     \
        chaos_take_block(&lanes, n, block);                                                                            \
    }

#ifdef __x86_64__
#define CHAOS_BLOCK_WIDE(NAME)                                                                                         \
    if (__builtin_cpu_supports("avx2")) {                                                                              \
        done = n - n % CHAOS_LANES;                                                                                    \
        if (!NAME##_wide(src, done, &lanes)) {                                                                         \
            chaos_begin_lanes(&lanes);                                                                                 \
            done = 0;                                                                                                  \
        }                                                                                                              \
    }
#define CHAOS_WIDE_OF(NAME, T, LOAD)                                                                                   \
    CHAOS_AVX2 static int NAME##_wide(const T *src, uint32_t n, struct chaos_lanes *lanes)                             \
    {                                                                                                                  \
        const __m256i bare = _mm256_set1_epi32(0x7fffffff), most = _mm256_set1_epi32(0x7f7fffff); /* the largest float */ \
        __m256 low = _mm256_set1_ps(INFINITY), high = _mm256_set1_ps(-INFINITY);                                       \
        __m256d left = _mm256_setzero_pd(), right = left;                                                              \
        __m256i odd = _mm256_setzero_si256();                                                                          \
        for (uint32_t i = 0; i < n; i += CHAOS_LANES) {                                                                \
            __builtin_prefetch((const char *)(src + i) + CHAOS_EARLY);                                                 \
            const __m256 v = LOAD(src + i);                                                                            \
            const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v));                                              \
            const __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));                                            \
            low = _mm256_min_ps(v, low);                                                                               \
            high = _mm256_max_ps(v, high);                                                                             \
            left = _mm256_add_pd(left, _mm256_mul_pd(a, a));                                                           \
            right = _mm256_add_pd(right, _mm256_mul_pd(b, b));                                                         \
            odd = _mm256_or_si256(odd, _mm256_cmpgt_epi32(_mm256_and_si256(_mm256_castps_si256(v), bare), most));      \
        }                                                                                                              \
        _mm256_storeu_ps(lanes->low, low);                                                                             \
        _mm256_storeu_ps(lanes->high, high);                                                                           \
        _mm256_storeu_pd(lanes->squares, left);                                                                        \
        _mm256_storeu_pd(lanes->squares + 4, right);                                                                   \
        return _mm256_testz_si256(odd, odd);                                                                           \
    }
#define CHAOS_LOAD_F32(AT) _mm256_loadu_ps(AT)
#define CHAOS_LOAD_S16(AT)                                                                                             \
    _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(AT)))),                   \
                  _mm256_set1_ps((float)(1.0 / 32768.0)))
#define CHAOS_LOAD_S32(AT)                                                                                             \
    _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(AT))), _mm256_set1_ps((float)(1.0 / 2147483648.0)))
CHAOS_WIDE_OF(chaos_block_f32, float, CHAOS_LOAD_F32)
CHAOS_WIDE_OF(chaos_block_s16, int16_t, CHAOS_LOAD_S16)
CHAOS_WIDE_OF(chaos_block_s32, int32_t, CHAOS_LOAD_S32)
#else
#define CHAOS_BLOCK_WIDE(NAME)
#endif

CHAOS_BLOCK_OF(chaos_block_f32, float, 1.0)
CHAOS_BLOCK_OF(chaos_block_s16, int16_t, 32768.0)
CHAOS_BLOCK_OF(chaos_block_s32, int32_t, 2147483648.0)

static void chaos_block_begin(struct chaos_block *block)
{
    block->low = INFINITY;
    block->high = -INFINITY;
    block->squares = 0;
    block->n = block->n_finite = 0;
}

/* A block of `size` frames as it is stored: low, high, rms, and which share of its frames was there. */
static void chaos_block_end(const struct chaos_block *block, uint32_t size, float *to)
{
    const int is_known = block->n_finite > 0;
    to[0] = is_known ? block->low : NAN;
    to[1] = is_known ? block->high : NAN;
    to[2] = is_known ? (float)sqrt(block->squares / block->n_finite) : NAN;
    to[3] = (float)block->n / (float)size;
}

/* n blocks of one channel as (n + factor - 1) / factor coarser ones; of what is missing of the last nothing was there. */
static void chaos_fold(const float *from, uint32_t n, uint32_t factor, float *to)
{
    for (uint32_t i = 0; i < n; i += factor, to += 4) {
        float low = INFINITY, high = -INFINITY;
        double squares = 0, weight = 0, there = 0;
        for (uint32_t k = i; k < n && k < i + factor; k++) {
            const float *block = from + 4 * k;
            there += block[3];
            if (isnan(block[2]))
                continue;
            low = block[0] < low ? block[0] : low;
            high = block[1] > high ? block[1] : high;
            squares += (double)block[3] * block[2] * block[2];
            weight += block[3];
        }
        to[0] = weight > 0 ? low : NAN;
        to[1] = weight > 0 ? high : NAN;
        to[2] = weight > 0 ? (float)sqrt(squares / weight) : NAN;
        to[3] = (float)(there / factor);
    }
}

#endif
