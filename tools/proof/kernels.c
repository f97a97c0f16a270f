/* kernels: times chaosd's deinterleave kernels beside memcpy of the same bytes and a plain loop.
 *
 * As in a capture, the source is one buffer of the graph that is used again and again, and what is written walks
 * through a slot, a row of n frames in each plane at a time. */
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "_convert.h"
#include "_kernels.h"
#include "_overview.h"

enum what { KERNEL, MEMCPY, LOOP };

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) static void loop_32(uint32_t *dst, uint64_t stride, const uint32_t *src, uint64_t channels,
					      uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		for (uint64_t c = 0; c < channels; c++)
			dst[c * stride + i] = src[i * channels + c];
}

__attribute__((noinline)) static void loop_16(uint16_t *dst, uint64_t stride, const uint16_t *src, uint64_t channels,
					      uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		for (uint64_t c = 0; c < channels; c++)
			dst[c * stride + i] = src[i * channels + c];
}

/* Fills a slot of channels x stride samples (a multiple of n) once, n frames at a time; returns nanoseconds. */
uint64_t fill_slot(int what, int width, void *slot, const void *src, uint64_t channels, uint64_t stride, uint64_t n)
{
	uint64_t began = now_ns();
	for (uint64_t at = 0; at + n <= stride; at += n) {
		if (what == MEMCPY)
			memcpy((char *)slot + at * channels * width, src, n * channels * width);
		else if (what == KERNEL && width == 4)
			chaos_deinterleave_32((uint32_t *)slot + at, stride, src, channels, n);
		else if (what == KERNEL)
			chaos_deinterleave_16((uint16_t *)slot + at, stride, src, channels, n);
		else if (width == 4)
			loop_32((uint32_t *)slot + at, stride, src, channels, n);
		else
			loop_16((uint16_t *)slot + at, stride, src, channels, n);
	}
	return now_ns() - began;
}

/* Whether the processor lacks a way: the first two are plain C. */
static int lacks(int way)
{
#ifdef __x86_64__
	return way > 1 && !__builtin_cpu_supports("avx2");
#else
	return way > 1;
#endif
}

/* One deinterleave by one of the ways, for tests; streamed needs a stride of whole cache lines. Returns 0, and does
 * nothing, where the processor lacks the way. */
int deinterleave(int way, int width, void *dst, uint64_t stride, const void *src, uint64_t channels, uint64_t n)
{
	static const struct {
		void (*of_32)(uint32_t *, uint64_t, const uint32_t *, uint64_t, uint64_t);
		void (*of_16)(uint16_t *, uint64_t, const uint16_t *, uint64_t, uint64_t);
	} ways[] = {
		{ chaos_deinterleave_32, chaos_deinterleave_16 },
		{ chaos_plain_32, chaos_plain_16 },
#ifdef __x86_64__
		{ chaos_wide_32, chaos_wide_16 },
		{ chaos_streamed_32, chaos_streamed_16 },
#endif
	};
	if (lacks(way))
		return 0;
	if (width == 4)
		ways[way].of_32(dst, stride, src, channels, n);
	else
		ways[way].of_16(dst, stride, src, channels, n);
	return 1;
}

/* The same of the planes of f32 that become whole numbers of `width` bytes. */
int convert(int way, int width, void *dst, uint64_t stride, const float *const *planes, uint64_t channels, uint64_t at,
	    uint64_t n)
{
	static const struct {
		void (*to_32)(int32_t *, uint64_t, const float *const *, uint64_t, uint64_t, uint64_t);
		void (*to_16)(int16_t *, uint64_t, const float *const *, uint64_t, uint64_t, uint64_t);
	} ways[] = {
		{ chaos_convert_32, chaos_convert_16 },
		{ chaos_convert_plain_32, chaos_convert_plain_16 },
#ifdef __x86_64__
		{ chaos_convert_wide_32, chaos_convert_wide_16 },
		{ chaos_convert_streamed_32, chaos_convert_streamed_16 },
#endif
	};
	if (lacks(way))
		return 0;
	if (width == 4)
		ways[way].to_32(dst, stride, planes, channels, at, n);
	else
		ways[way].to_16(dst, stride, planes, channels, at, n);
	return 1;
}

/* The planar copy, for tests. */
void copy_planes(void *dst, uint64_t stride, const uint8_t *const *planes, uint64_t channels, uint64_t at, uint64_t n)
{
	chaos_copy_planes(dst, stride, planes, channels, at, n);
}

/* The measure of n samples by one of two ways, best and plain; `form` is 0 of f32, 1 of s32, 2 of s16. */
void measure(int way, int form, const void *src, uint64_t n, struct chaos_measure *found)
{
	if (form == 0)
		(way ? chaos_measure_f32_plain : chaos_measure_f32)(src, n, found);
	else if (form == 1)
		(way ? chaos_measure_s32_plain : chaos_measure_s32)(src, n, found);
	else
		(way ? chaos_measure_s16_plain : chaos_measure_s16)(src, n, found);
}

/* A block of the overview of n samples by one of two ways, best and plain; `form` as for `measure`. */
void block(int way, int form, const void *src, uint32_t n, struct chaos_block *found)
{
	struct chaos_lanes lanes;
	chaos_block_begin(found);
	chaos_begin_lanes(&lanes);
	if (!way) {
		if (form == 0)
			chaos_block_f32(src, n, found);
		else if (form == 1)
			chaos_block_s32(src, n, found);
		else
			chaos_block_s16(src, n, found);
		return;
	}
	if (form == 0)
		chaos_block_f32_with(src, n, &lanes);
	else if (form == 1)
		chaos_block_s32_with(src, n, &lanes);
	else
		chaos_block_s16_with(src, n, &lanes);
	chaos_take_block(&lanes, n, found);
}
