// Named pipes: contents, both ends, a lone reader, made anew where missing.
#include "victim.h"
#include <poll.h>

int main(void)
{
	umask(0);
	unlink("f");
	unlink("lone");
	MUST(mkfifo("f", 0640));
	MUST(mkfifo("lone", 0600));
	int reader = MUST(open("f", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	int writer = MUST(open("f", O_WRONLY));
	int second = MUST(open("f", O_WRONLY | O_NONBLOCK));
	MUST(fcntl(writer, F_SETPIPE_SZ, 1 << 17));
	MUST(write(writer, "inside the pipe", 15));
	int lone = MUST(open("lone", O_RDONLY | O_NONBLOCK));
	ready();
	await_verify();
	SAME(fcntl(reader, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(reader, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
	SAME(fcntl(writer, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY);
	SAME(fcntl(writer, F_GETPIPE_SZ), 1 << 17);
	struct stat s;
	MUST(stat("f", &s));
	SAME(s.st_mode, S_IFIFO | 0640);
	MUST(write(second, "!", 1));
	char text[32] = "";
	SAME(read(reader, text, sizeof text), 16);
	CHECK(!strcmp(text, "inside the pipe!"), "it reads '%s'", text);
	SAME(read(reader, text, sizeof text), -1);
	SAME(errno, EAGAIN);
	MUST(close(writer));
	SAME(read(reader, text, sizeof text), -1);
	MUST(close(second));
	SAME(read(reader, text, sizeof text), 0);
	SAME(read(lone, text, sizeof text), 0);
	int other = MUST(open("lone", O_WRONLY | O_NONBLOCK));
	MUST(write(other, "x", 1));
	SAME(read(lone, text, sizeof text), 1);
	ok();
}
