/* The loops that touch every sample, in C so that the compiler can vectorise them; and the atomics that Cython
 * has no words for. Nothing here allocates, locks or calls into the kernel: all of it may run in the RT callback.
 */
#ifndef CHAOS_KERNELS_H
#define CHAOS_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t chaos_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void chaos_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint64_t chaos_peek(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
/* Orders the loads of a copy before the load that checks whether what was copied still stood. */
static inline void chaos_fence(void) { __atomic_thread_fence(__ATOMIC_ACQ_REL); }

/* Interleaved (n frames of `channels` samples) to planar. dst is the first channel's place, `stride` samples lie
 * between one channel's place and the next. Channels are taken eight at a time, frames in blocks that stay in the
 * first-level cache, so that each cache line of src is read once per block and each of dst is written once. */
#define CHAOS_DEINTERLEAVE(NAME, T)                                                                                 \
    static inline void NAME##_pair(T *restrict a, T *restrict b, const T *restrict src, uint64_t n) {               \
        for (uint64_t i = 0; i < n; i++) {                                                                          \
            a[i] = src[2 * i];                                                                                      \
            b[i] = src[2 * i + 1];                                                                                  \
        }                                                                                                           \
    }                                                                                                               \
    static inline void NAME##_four(T *restrict a, T *restrict b, T *restrict c, T *restrict d,                      \
                                   const T *restrict src, uint64_t channels, uint64_t n) {                          \
        for (uint64_t i = 0; i < n; i++) {                                                                          \
            const T *f = src + i * channels;                                                                        \
            a[i] = f[0];                                                                                            \
            b[i] = f[1];                                                                                            \
            c[i] = f[2];                                                                                            \
            d[i] = f[3];                                                                                            \
        }                                                                                                           \
    }                                                                                                               \
    static void NAME(T *dst, uint64_t stride, const T *src, uint64_t channels, uint64_t n) {                        \
        if (channels == 1) {                                                                                        \
            memcpy(dst, src, n * sizeof(T));                                                                        \
            return;                                                                                                 \
        }                                                                                                           \
        if (channels == 2) {                                                                                        \
            NAME##_pair(dst, dst + stride, src, n);                                                                 \
            return;                                                                                                 \
        }                                                                                                           \
        for (uint64_t at = 0; at < n; at += 128) {                                                                  \
            uint64_t m = n - at < 128 ? n - at : 128;                                                               \
            const T *block = src + at * channels;                                                                   \
            uint64_t c = 0;                                                                                         \
            for (; c + 4 <= channels; c += 4) {                                                                     \
                T *out = dst + c * stride + at;                                                                     \
                NAME##_four(out, out + stride, out + 2 * stride, out + 3 * stride, block + c, channels, m);         \
            }                                                                                                       \
            for (; c < channels; c++)                                                                               \
                for (uint64_t i = 0; i < m; i++)                                                                    \
                    dst[c * stride + at + i] = block[i * channels + c];                                             \
        }                                                                                                           \
    }

CHAOS_DEINTERLEAVE(chaos_deinterleave_32, uint32_t)
CHAOS_DEINTERLEAVE(chaos_deinterleave_16, uint16_t)

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

#endif
