//#Modes: root user newpid leave
// Terminals with both ends in one process: modes, size, packets, lock, exclusive use, a slave that
// was closed, one never opened, one that was hung up; descriptors that share a description.
#include "victim.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

struct pair {
	int master, slave;
	char name[32];
};

static struct pair make(int open_slave)
{
	struct pair p = { .slave = -1 };
	int zero = 0;
	p.master = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	MUST(ioctl(p.master, TIOCSPTLCK, &zero));
	MUST(ptsname_r(p.master, p.name, sizeof p.name));
	if (open_slave)
		p.slave = MUST(open(p.name, O_RDWR | O_NOCTTY));
	return p;
}

static void read_all(int fd, const char *wanted)
{
	char text[64] = "";
	size_t n = 0, length = strlen(wanted);
	while (n < length) {
		struct pollfd asked = { .fd = fd, .events = POLLIN };
		CHECK(poll(&asked, 1, 5000) == 1, "only '%s' of '%s' came", text, wanted);
		ssize_t got = read(fd, text + n, sizeof text - 1 - n);
		CHECK(got > 0, "after '%s': %s", text, got ? strerror(errno) : "the end");
		n += got;
	}
	CHECK(!strcmp(text, wanted), "'%s' came, not '%s'", text, wanted);
}

static int answers(int fd, int request)
{
	int number = -1;
	MUST(ioctl(fd, request, &number));
	return number;
}

int main(void)
{
	struct pair cooked = make(1), raw = make(1), packets = make(1), locked = make(0);
	struct pair closed = make(1), hung = make(1), fresh = make(0);
	struct termios modes, raw_modes, now;
	struct winsize size = { 31, 99, 5, 7 }, size_now;
	int one = 1;

	/* The line discipline at its usual work, with another key for ^C and no echo. */
	MUST(tcgetattr(cooked.slave, &modes));
	modes.c_lflag &= ~ECHO;
	modes.c_cc[VINTR] = 7;
	MUST(tcsetattr(cooked.slave, TCSANOW, &modes));
	MUST(ioctl(cooked.master, TIOCSWINSZ, &size));
	MUST(fchmod(cooked.slave, 0622));
	int again = MUST(dup(cooked.slave));
	int other = MUST(open(cooked.name, O_RDONLY | O_NOCTTY | O_NONBLOCK));
	/* Opened with O_CLOEXEC, the flag stays in what /proc shows, whatever the descriptor's own is. */
	int kept = MUST(ioctl(cooked.master, 0x5441 /* TIOCGPTPEER */, O_RDWR | O_NOCTTY | O_CLOEXEC));
	MUST(fcntl(kept, F_SETFD, 0));
	int not_kept = MUST(fcntl(kept, F_DUPFD_CLOEXEC, 0));
	MUST(fcntl(cooked.master, F_SETFL, O_RDWR | O_NONBLOCK));

	MUST(tcgetattr(raw.slave, &raw_modes));
	cfmakeraw(&raw_modes);
	cfsetspeed(&raw_modes, B9600);
	MUST(tcsetattr(raw.slave, TCSANOW, &raw_modes));
	MUST(ioctl(raw.slave, TIOCEXCL));

	MUST(ioctl(packets.master, TIOCPKT, &one));
	MUST(ioctl(locked.master, TIOCSPTLCK, &one));
	close(closed.slave);
	close(hung.master);

	ready();
	await_verify();

	char name[32], text[64];
	MUST(tcgetattr(cooked.slave, &now));
	SAME(now.c_lflag, modes.c_lflag);
	SAME(now.c_cc[VINTR], 7);
	MUST(ioctl(cooked.slave, TIOCGWINSZ, &size_now));
	CHECK(!memcmp(&size, &size_now, sizeof size), "the size is %d x %d", size_now.ws_row, size_now.ws_col);
	MUST(ptsname_r(cooked.master, name, sizeof name));
	CHECK(!strcmp(name, ttyname(cooked.slave)), "%s and %s", name, ttyname(cooked.slave));
	struct stat stat;
	MUST(fstat(cooked.slave, &stat));
	SAME(stat.st_mode & 0777, 0622);
	SAME(read(cooked.master, text, 1), -1);
	SAME(errno, EAGAIN);
	SAME(write(cooked.master, "words\n", 6), 6);
	read_all(cooked.slave, "words\n");
	SAME(write(again, "out\n", 4), 4);
	read_all(cooked.master, "out\r\n");
	SAME(fcntl(kept, F_GETFD), 0);
	SAME(fcntl(not_kept, F_GETFD), FD_CLOEXEC);
	SAME(fcntl(other, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
	SAME(fcntl(again, F_GETFL) & O_NONBLOCK, 0);
	MUST(fcntl(again, F_SETFL, O_RDWR | O_NONBLOCK));
	SAME(fcntl(cooked.slave, F_GETFL) & O_NONBLOCK, O_NONBLOCK);

	MUST(tcgetattr(raw.slave, &now));
	SAME(now.c_lflag, raw_modes.c_lflag);
	SAME(cfgetospeed(&now), B9600);
	SAME(answers(raw.slave, 0x80045440 /* TIOCGEXCL */), 1);
	SAME(write(raw.master, "\x03\r\x04", 3), 3);
	read_all(raw.slave, "\x03\r\x04");

	SAME(answers(packets.master, 0x80045438 /* TIOCGPKT */), 1);
	SAME(write(packets.slave, "x", 1), 1);
	/* A packet of data begins with a zero byte. */
	SAME(read(packets.master, text, sizeof text), 2);
	SAME(text[0], 0);
	SAME(text[1], 'x');

	SAME(answers(locked.master, 0x80045439 /* TIOCGPTLCK */), 1);
	MUST(ptsname_r(locked.master, name, sizeof name));
	SAME(open(name, O_RDWR | O_NOCTTY), -1);
	SAME(errno, EIO);

	SAME(read(closed.master, text, 1), -1);
	SAME(errno, EIO);
	MUST(ptsname_r(closed.master, name, sizeof name));
	int back = MUST(open(name, O_RDWR | O_NOCTTY));
	SAME(write(back, "back", 4), 4);
	read_all(closed.master, "back");

	SAME(read(hung.slave, text, 1), 0);
	SAME(tcgetattr(hung.slave, &now), -1);

	struct pollfd asked = { .fd = fresh.master, .events = POLLIN };
	SAME(poll(&asked, 1, 0), 0);
	SAME(asked.revents, 0);
	ok();
}
