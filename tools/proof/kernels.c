/* kernels: times chaosd's copies of planes, as they are and converted, beside memcpy of what is written and a plain loop.
 *
 * As in a capture, the sources are buffers of the graph that are used again and again, and what is written walks
 * through a slot, a row of n frames in each plane at a time. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "_kernels.h"

enum what { KERNEL, MEMCPY, LOOP };
enum form { F32 = 1, S16 = 2, S32 = 3 };

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) static void loop(enum form form, void *slot, uint64_t stride, const float *const *planes,
					   uint64_t channels, uint64_t row, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		for (uint64_t c = 0; c < channels; c++) {
			const uint64_t place = c * stride + row + i;
			const float v = planes[c][i];
			if (form == F32)
				((float *)slot)[place] = v;
			else if (form == S32)
				((int32_t *)slot)[place] = (int32_t)lrintf(fminf(fmaxf(v * 0x1p31f, -0x1p31f), 0x1.fffffep30f));
			else
				((int16_t *)slot)[place] = (int16_t)lrintf(fminf(fmaxf(v * 0x1p15f, -0x1p15f), 32767.0f));
		}
}

/* Fills a slot of channels x stride samples (a multiple of n) once, n frames at a time; returns nanoseconds. */
uint64_t fill_slot(int what, int form, void *slot, const float *const *planes, uint64_t channels, uint64_t stride,
		   uint64_t n)
{
	const uint64_t width = form == S16 ? 2 : 4;
	uint64_t began = now_ns();
	for (uint64_t at = 0; at + n <= stride; at += n) {
		if (what == MEMCPY)
			memcpy((char *)slot + at * channels * width, planes[0], n * channels * width);
		else if (what == LOOP)
			loop(form, slot, stride, planes, channels, at, n);
		else if (form == F32)
			chaos_copy_planes((uint8_t *)slot + at * width, stride * width, (const uint8_t *const *)planes,
					  channels, 0, n * width);
		else if (form == S32)
			chaos_convert_32((int32_t *)slot + at, stride, planes, channels, 0, n);
		else
			chaos_convert_16((int16_t *)slot + at, stride, planes, channels, 0, n);
	}
	return now_ns() - began;
}

/* One conversion by one of the ways, for tests. Returns 0, and does nothing, where the processor lacks the way. */
int convert(int way, int form, void *dst, uint64_t stride, const float *const *planes, uint64_t channels, uint64_t at,
	    uint64_t n)
{
	static const struct {
		void (*of_32)(int32_t *, uint64_t, const float *const *, uint64_t, uint64_t, uint64_t);
		void (*of_16)(int16_t *, uint64_t, const float *const *, uint64_t, uint64_t, uint64_t);
	} ways[] = {
		{ chaos_convert_32, chaos_convert_16 },
		{ chaos_plain_32, chaos_plain_16 },
#ifdef __x86_64__
		{ chaos_wide_32, chaos_wide_16 },
		{ chaos_streamed_32, chaos_streamed_16 },
	};
	if (way > 1 && !__builtin_cpu_supports("avx2"))
		return 0;
#else
	};
	if (way > 1)
		return 0;
#endif
	if (form == S32)
		ways[way].of_32(dst, stride, planes, channels, at, n);
	else
		ways[way].of_16(dst, stride, planes, channels, at, n);
	return 1;
}

/* The planar copy, for tests. */
void copy_planes(void *dst, uint64_t stride, const uint8_t *const *planes, uint64_t channels, uint64_t at, uint64_t n)
{
	chaos_copy_planes(dst, stride, planes, channels, at, n);
}
