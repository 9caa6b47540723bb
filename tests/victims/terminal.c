//#Modes: none
// Does with its terminal what it is told, line by line.
#include "victim.h"
#include <sys/ioctl.h>
#include <termios.h>

static volatile int sizes, conts;
static void on_size(int s) { (void)s; sizes++; }
static void on_cont(int s) { (void)s; conts++; }

int main(void)
{
	struct sigaction a = { .sa_handler = on_size, .sa_flags = SA_RESTART };
	sigaction(SIGWINCH, &a, NULL);
	a.sa_handler = on_cont;
	sigaction(SIGCONT, &a, NULL);
	ready();
	for (;;) {
		char line[64];
		read_line(line, sizeof line);
		if (!strcmp(line, "ping")) {
			say("PONG\n");
		} else if (!strcmp(line, "size")) {
			struct winsize w;
			MUST(ioctl(0, TIOCGWINSZ, &w));
			say("SIZE %d %d changes %d\n", w.ws_row, w.ws_col, sizes);
		} else if (!strcmp(line, "group")) {
			say("GROUP %s\n", tcgetpgrp(0) == getpgrp() ? "foreground" : "background");
		} else if (!strcmp(line, "raw")) {
			struct termios t;
			MUST(tcgetattr(0, &t));
			cfmakeraw(&t);
			MUST(tcsetattr(0, TCSANOW, &t));
			say("RAW\r\n");
			for (;;) {
				char c;
				SAME(read(0, &c, 1), 1);
				say("<%d>", c);
				/* Ends without putting the modes back, as a crashed program does. */
				if (c == 'q')
					_exit(7);
			}
		} else if (!strncmp(line, "quit ", 5)) {
			exit(atoi(line + 5));
		} else {
			FAIL("asked for '%s'", line);
		}
	}
}
