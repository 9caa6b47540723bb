/* 1,000 descriptors: pipes, eventfds, sockets and files in equal parts. */
#include "bench.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct rlimit limit;

	demand(!getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	demand(!setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	for (int i = 0; i < 125; i++) {
		int pair[2];

		demand(!pipe(pair), "pipe");
		demand(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
		demand(eventfd(i, 0) >= 0, "eventfd");
		demand(eventfd(0, EFD_NONBLOCK) >= 0, "eventfd");
		demand(open("/dev/null", O_RDWR) >= 0, "/dev/null");
		demand(open(argv[0], O_RDONLY) >= 0, argv[0]);
	}
	watch(argc, argv);
}
