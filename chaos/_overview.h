/* Blocks of the overview: the lowest and highest sample, and the squares. Not for the RT callback. */
#ifndef CHAOS_OVERVIEW_H
#define CHAOS_OVERVIEW_H

#include <math.h>
#include <stdint.h>

/* One channel's frames of one block so far. `n` are all that were there, `n_finite` those that are a number. */
struct chaos_block {
    float low, high;
    double squares;
    uint32_t n, n_finite;
};

#define CHAOS_LANES 8

/* Takes in the first m of CHAOS_LANES samples; the others must not be lower or higher than these. */
static inline void chaos_take_lanes(const float *v, int m, float *low, float *high, double *squares, uint32_t *odd)
{
    for (int k = 0; k < CHAOS_LANES; k++) {
        const uint32_t is_odd = !(fabsf(v[k]) <= 3.4028234663852886e38f);
        const float under = is_odd ? INFINITY : v[k], over = is_odd ? -INFINITY : v[k];
        const float counted = (is_odd | (k >= m)) ? 0 : v[k];
        low[k] = under < low[k] ? under : low[k];
        high[k] = over > high[k] ? over : high[k];
        squares[k] += (double)counted * (double)counted;
        odd[k] += is_odd & (k < m);
    }
}

/* Full scale is 1.0. What is NaN or infinite counts in `n` alone. Lanes let the compiler take several samples at once. */
#define CHAOS_BLOCK_OF(NAME, T, FULL)                                                                                  \
    static void NAME(const T *src, uint32_t n, struct chaos_block *block)                                              \
    {                                                                                                                  \
        float low[CHAOS_LANES], high[CHAOS_LANES], v[CHAOS_LANES];                                                     \
        double squares[CHAOS_LANES];                                                                                   \
        uint32_t odd[CHAOS_LANES], i = 0, n_odd = 0;                                                                   \
        for (int k = 0; k < CHAOS_LANES; k++) {                                                                        \
            low[k] = INFINITY;                                                                                         \
            high[k] = -INFINITY;                                                                                       \
            squares[k] = 0;                                                                                            \
            odd[k] = 0;                                                                                                \
        }                                                                                                              \
        for (; i + CHAOS_LANES <= n; i += CHAOS_LANES) {                                                               \
            for (int k = 0; k < CHAOS_LANES; k++)                                                                      \
                v[k] = (float)src[i + k] * (float)(1.0 / FULL);                                                        \
            chaos_take_lanes(v, CHAOS_LANES, low, high, squares, odd);                                                 \
        }                                                                                                              \
        if (i < n) {                                                                                                   \
            for (uint32_t k = 0; k < CHAOS_LANES; k++)                                                                 \
                v[k] = (float)src[i + k < n ? i + k : i] * (float)(1.0 / FULL);                                        \
            chaos_take_lanes(v, (int)(n - i), low, high, squares, odd);                                                \
        }                                                                                                              \
        for (int k = 0; k < CHAOS_LANES; k++) {                                                                        \
            block->low = low[k] < block->low ? low[k] : block->low;                                                    \
            block->high = high[k] > block->high ? high[k] : block->high;                                               \
            block->squares += squares[k];                                                                              \
            n_odd += odd[k];                                                                                           \
        }                                                                                                              \
        block->n += n;                                                                                                 \
        block->n_finite += n - n_odd;                                                                                  \
    }

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
