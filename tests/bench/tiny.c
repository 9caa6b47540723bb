/* One thread and what the C library brings: about 25 mappings. */
#include "bench.h"

int main(int argc, char **argv)
{
	watch(argc, argv);
}
