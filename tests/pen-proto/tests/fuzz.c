// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random bytes in allocations of exactly their length, so that the address
 * sanitizer sees any read beyond what a stick really sent. Runs for the
 * number of seconds given.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pen_proto.h"

static u64 state = 0x243f6a8885a308d3ull;

static u32 next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 16;
}

static void one(void)
{
	static const u8 starts[] = { 0x70, 0x71, 0x72, 0x73, 0x00, 'U' };
	size_t len = next() % 40;
	u8 *bytes = malloc(len ? len : 1);
	struct pen_geometry geometry;
	struct pen_inquiry inquiry;
	struct pen_sense sense;
	struct pen_span span;
	u32 residue, signature = PEN_CSW_SIGNATURE;
	u32 block = 512u << next() % 4;
	size_t i;

	if (!bytes)
		exit(2);
	for (i = 0; i < len; i++)
		bytes[i] = next() % 3 ? next() : 0;
	if (len)
		bytes[0] = starts[next() % sizeof(starts)];
	if (len == 0) {
		free(bytes);
		bytes = malloc(0);
	}
	pen_csw_decode(bytes, len, signature, next() % 3, next(), &residue);
	pen_csw_learn(bytes, len, next() % 3, next(), &signature);
	pen_data_is_csw(bytes, len, signature, next() % 3);
	pen_sense_decode(bytes, len, &sense);
	pen_sense_action(&sense);
	pen_inquiry_decode(bytes, len, &inquiry);
	pen_capacity10_decode(bytes, len, &geometry);
	pen_capacity16_decode(bytes, len, &geometry);
	pen_mode_sense6_write_protected(bytes, len);
	pen_span((u64)next() << 32 | next(), (u64)next() << 32 | next(),
		 ((u64)next() << 31 | next()) & ~(u64)(block - 1),
		 pen_window_size(next() % 4096, next(), block), block, &span);
	pen_run_limit(next(), next() | 1, (u64)next() << 8, next());
	free(bytes);
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 2);
	unsigned long rounds = 0;

	if (argc > 2)
		state = strtoull(argv[2], NULL, 0) | 1;
	while (time(NULL) < end) {
		int i;

		for (i = 0; i < 10000; i++)
			one();
		rounds += 10000;
	}
	printf("%lu rounds\n", rounds);
	return 0;
}
