/* The atomic loads and stores that Cython has no words for. */
#ifndef CHAOS_ATOMICS_H
#define CHAOS_ATOMICS_H

#include <stdint.h>

static inline uint64_t chaos_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint32_t chaos_peek_32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void chaos_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint64_t chaos_peek(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
/* Makes 0 of *p where it is still `seen`. */
static inline void chaos_clear(uint64_t *p, uint64_t seen)
{
    __atomic_compare_exchange_n(p, &seen, 0, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
/* Orders what was loaded or stored before it against what is after it, but for a store before a load. */
static inline void chaos_fence(void) { __atomic_thread_fence(__ATOMIC_ACQ_REL); }

#endif
