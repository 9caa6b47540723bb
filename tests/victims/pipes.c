//#Modes: root user newpid empty leave
// Pipes and eventfds whose ends are all inside the process, with their contents.
#include "victim.h"
#include <sys/eventfd.h>
#include <sys/ioctl.h>

int main(void)
{
	int plain[2], full[2], packet[2], empty[2];
	MUST(pipe(plain));
	MUST(write(plain[1], "hello pipe", 10));
	MUST(pipe2(full, O_NONBLOCK | O_CLOEXEC));
	MUST(fcntl(full[1], F_SETPIPE_SZ, 1 << 20));
	long filled = 0;
	static unsigned char block[1 << 21];
	for (unsigned i = 0; i < sizeof block; i++)
		block[i] = mix(i);
	for (ssize_t n; (n = write(full[1], block + filled, 4096)) > 0;)
		filled += n;
	MUST(pipe2(packet, O_DIRECT));
	MUST(write(packet[1], "one", 3));
	MUST(write(packet[1], "second", 6));
	MUST(write(packet[1], "3", 1));
	MUST(pipe2(empty, O_NONBLOCK));
	int twice = MUST(dup(plain[1]));
	int event = MUST(eventfd(12345, EFD_NONBLOCK)), semaphore = MUST(eventfd(3, EFD_SEMAPHORE | EFD_CLOEXEC));
	int zero = MUST(eventfd(0, EFD_NONBLOCK));
	ready();
	await_verify();
	char text[64];
	SAME(write(twice, "!", 1), 1);
	SAME(read(plain[0], text, sizeof text), 11);
	CHECK(!memcmp(text, "hello pipe!", 11), "the pipe's content differs");
	SAME(fcntl(full[1], F_GETPIPE_SZ), 1 << 20);
	SAME(write(full[1], block, 4096), -1);
	static unsigned char back[1 << 21];
	long got = 0;
	for (ssize_t n; (n = read(full[0], back + got, sizeof back - got)) > 0;)
		got += n;
	SAME(got, filled);
	CHECK(!memcmp(back, block, filled), "the full pipe's content differs");
	SAME(fcntl(full[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	SAME(fcntl(full[0], F_GETFD), FD_CLOEXEC);
	SAME(read(packet[0], text, sizeof text), 3);
	SAME(read(packet[0], text, sizeof text), 6);
	SAME(read(packet[0], text, sizeof text), 1);
	SAME(fcntl(packet[1], F_GETFL) & O_DIRECT, O_DIRECT);
	SAME(read(empty[0], text, sizeof text), -1);
	SAME(errno, EAGAIN);
	uint64_t value = 0;
	SAME(read(event, &value, 8), 8);
	SAME(value, 12345);
	SAME(read(event, &value, 8), -1);
	for (int i = 0; i < 3; i++) {
		SAME(read(semaphore, &value, 8), 8);
		SAME(value, 1);
	}
	SAME(fcntl(semaphore, F_GETFD), FD_CLOEXEC);
	SAME(read(zero, &value, 8), -1);
	int waiting = 1;
	SAME(ioctl(plain[0], FIONREAD, &waiting), 0);
	SAME(waiting, 0);
	ok();
}
