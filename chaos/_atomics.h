/* The atomic loads and stores that Cython has no words for. */
#ifndef CHAOS_ATOMICS_H
#define CHAOS_ATOMICS_H

#include <stdint.h>

static inline uint64_t chaos_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint32_t chaos_peek_32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void chaos_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint64_t chaos_peek(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
/* Orders the loads of a copy before the load that checks whether what was copied still stood. */
static inline void chaos_fence(void) { __atomic_thread_fence(__ATOMIC_ACQ_REL); }

#endif
