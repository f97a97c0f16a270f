/* numbers: how the number of a frame becomes samples; counting.py writes and reads them too, and both must agree.
 * Channels 2k and 2k + 1 carry its low and its high 15 bits, a last one without partner its low 24 bits.
 */
#include <stdint.h>

#define MAX_CHANNELS 64
#define PAIR_BITS 15
#define LONE_BITS 24

/* What the numbers of a source are XORed with, so that another's frames don't read as numbers of this one. */
static inline uint32_t numbers_mask(uint32_t source_id, uint32_t pair)
{
	uint32_t x = (source_id * (MAX_CHANNELS / 2) + pair + 1) * 0x9E3779B1u;
	x ^= x >> 15;
	x *= 0x85EBCA77u;
	x ^= x >> 13;
	return x & ((1u << 2 * PAIR_BITS) - 1);
}

/* The samples in `channel` of `channels` of n frames, the first of which has the number `first`. */
static inline void numbers_fill(float *to, uint32_t channel, uint32_t channels, uint32_t mask, uint64_t first, uint32_t n)
{
	const uint32_t low_bits = (1u << PAIR_BITS) - 1;
	if (channel % 2 == 0 && channel + 1 == channels)
		for (uint32_t i = 0; i < n; i++) {
			uint32_t v = ((uint32_t)(first + i) ^ mask) & ((1u << LONE_BITS) - 1);
			to[i] = (float)((int32_t)v - (1 << (LONE_BITS - 1))) / 8388608.0f;
		}
	else
		for (uint32_t i = 0; i < n; i++) {
			uint32_t v = (uint32_t)(first + i) ^ mask;
			to[i] = (float)(v >> (channel % 2 ? PAIR_BITS : 0) & low_bits) / 32768.0f;
		}
}
