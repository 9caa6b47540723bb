//#Modes: root user newpid leave left
// Lines that were begun and not ended in terminals whose lines the kernel edits: what was typed is
// still there, unseen, to be erased or ended; likewise a key (^V) that quotes the next one.
#include "victim.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

struct line {
	const char *typed, *then, *whole, *echo;
	tcflag_t echoes;
	int packets, master, slave;
	struct termios modes;
};

static char many[3001], many_whole[3003];

static struct line lines[] = {
	{ "", "x\n", "x\n", "x\r\n", ECHO, 0, 0, 0, {} },
	{ "half ", "line\n", "half line\n", "", 0, 0, 0, 0, {} },
	{ "echoed\ttwice", "\x7f\x7f.\n", "echoed\ttwi.\n", "\b \b\b \b.\r\n", ECHO, 0, 0, 0, {} },
	{ "\x16\x03\x16\n\x16\x12\x16\xff\x16\x7f\xc3\xa9", "!\n", "\x03\n\x12\xff\x7f\xc3\xa9!\n", "", 0, 0, 0, 0, {} },
	{ "quotes\x16", "\x03\n", "quotes\x03\n", "", 0, 0, 0, 0, {} },
	{ "in packets", "\n", "in packets\n", "", 0, 1, 0, 0, {} },
	{ many, "?\n", many_whole, "", 0, 0, 0, 0, {} },
};

#define EACH(l) (struct line *l = lines; l < lines + sizeof lines / sizeof *lines; l++)

static int waits(int fd)
{
	struct pollfd asked = { .fd = fd, .events = POLLIN };
	return MUST(poll(&asked, 1, 0));
}

/* What waits at a master, which the poll has brought there. */
static void expect(struct line *l, const char *wanted)
{
	char text[4096];
	size_t n = 0;
	while (waits(l->master)) {
		ssize_t got = read(l->master, text + n, sizeof text - n);
		CHECK(got > 0, "the master gives %zd", got);
		if (l->packets) {
			SAME(text[n], 0);
			memmove(text + n, text + n + 1, --got);
		}
		n += got;
	}
	CHECK(n == strlen(wanted) && !memcmp(text, wanted, n), "the echo of '%s' is '%.*s'", l->then, (int)n, text);
}

int main(void)
{
	int one = 1;
	memset(many, 'm', sizeof many - 1);
	snprintf(many_whole, sizeof many_whole, "%s?\n", many);
	for EACH(l) {
		MUST(openpty(&l->master, &l->slave, NULL, NULL, NULL));
		MUST(tcgetattr(l->slave, &l->modes));
		l->modes.c_lflag = (l->modes.c_lflag & ~ECHO) | l->echoes;
		MUST(tcsetattr(l->slave, TCSANOW, &l->modes));
		MUST(fcntl(l->slave, F_SETFL, O_RDWR | O_NONBLOCK));
		if (l->packets)
			MUST(ioctl(l->master, TIOCPKT, &one));
		SAME(write(l->master, l->typed, strlen(l->typed)), strlen(l->typed));
		SAME(waits(l->slave), 0);
		expect(l, l->echoes ? l->typed : "");
	}

	ready();
	await_verify();

	for EACH(l) {
		char text[4096];
		static struct termios now;
		MUST(tcgetattr(l->slave, &now));
		CHECK(!memcmp(&now, &l->modes, sizeof now), "the modes of '%s' differ", l->typed);
		SAME(waits(l->slave), 0);
		SAME(read(l->slave, text, sizeof text), -1);
		SAME(errno, EAGAIN);
		expect(l, "");
		SAME(write(l->master, l->then, strlen(l->then)), strlen(l->then));
		SAME(waits(l->slave), 1);
		ssize_t n = read(l->slave, text, sizeof text - 1), wanted = strlen(l->whole);
		CHECK(n == wanted && !memcmp(text, l->whole, n), "'%.*s' came, not '%s'", (int)n, text, l->whole);
		expect(l, l->echo);
	}
	ok();
}
