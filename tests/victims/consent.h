/* Programs that opted in: two pairs of callbacks that note their runs, and a talk with the test. */
#ifndef CONSENT_H
#define CONSENT_H
#include "victim.h"
#include <poll.h>
#include <semaphore.h>
#include <suspend.h>
#include <sys/wait.h>

static char noted[4096];
static unsigned resumed;
static uint8_t last[16];
static int veto, slow, crash, forks, keeps, lags, execs, abroad;
/* What the last callbacks were told. */
static uint32_t timeout_ms, other_pid, other_machine;
/* Posted when the last callback was told; async-signal-safe. */
static sem_t told;

/* Async-signal-safe: callbacks run in the handler too. */
static void note(const char *name, char what)
{
	size_t at = strlen(noted);
	if (at + 8 < sizeof noted) {
		noted[at] = ' ';
		noted[at + 1] = name[0];
		noted[at + 2] = what;
		noted[at + 3] = 0;
	}
}

static int on_suspend(void *context, struct suspend_request *request)
{
	const char *name = (const char *)context;
	note(name, 's');
	CHECK(request->timeout_ms > 0, "no timeout");
	timeout_ms = request->timeout_ms;
	if (*name == 'B')
		return 0;
	if (crash)
		raise(SIGSEGV);
	if (execs)
		MUST(execl("/proc/self/exe", "consent", "bare", NULL));
	if (keeps && fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	if (forks) {
		pid_t child = fork();
		if (child == 0 && forks == 1)
			_exit(7);
		int status;
		if (child > 0) {
			MUST(waitpid(child, &status, 0));
			SAME(status, forks == 1 ? 7 << 8 : 0);
		}
	}
	if (slow) {
		struct timespec t = {slow / 1000, slow % 1000 * 1000000};
		while (nanosleep(&t, &t) != 0)
			;
	}
	if (veto)
		strcpy(request->reason, "a transaction is open");
	return veto;
}

static void on_resume(void *context, const struct suspend_outcome *outcome)
{
	const char *name = (const char *)context;
	static const uint8_t zero[16] = {0};
	if (lags && *name == 'A') {
		struct timespec t = {lags / 1000, lags % 1000 * 1000000};
		while (nanosleep(&t, &t) != 0)
			;
	}
	note(name, '0' + outcome->event);
	if (*name == 'B')
		MUST(sem_post(&told));
	CHECK(outcome->elapsed_ns < 100000000000ull, "%llu ns passed",
	      (unsigned long long)outcome->elapsed_ns);
	if (outcome->event != SUSPEND_RESUMED) {
		CHECK(!memcmp(outcome->random, zero, 16), "random bits without a resume");
		return;
	}
	CHECK(memcmp(outcome->random, zero, 16), "no random bits");
	CHECK(!outcome->other_machine || abroad, "another machine");
	other_pid = outcome->other_pid;
	other_machine = outcome->other_machine;
	if (*name == 'B') {
		CHECK(!memcmp(outcome->random, last, 16), "two callbacks, two numbers");
		return;
	}
	CHECK(memcmp(outcome->random, last, 16), "the same random bits");
	memcpy(last, outcome->random, 16);
	SAME(outcome->resumes, ++resumed);
}

static UNUSED void opt_in(int suspend, int resume, unsigned flags)
{
	struct suspend_options options = {suspend, resume, flags};
	MUST(sem_init(&told, 0, 0));
	CHECK(suspend_init(&options) == 0, "suspend_init: %s", strerror(errno));
	static char a[] = "A", b[] = "B";
	CHECK(suspend_register(on_suspend, on_resume, a) > 0, "no id");
	CHECK(suspend_register(on_suspend, on_resume, b) > 0, "no id");
}

/* Until all callbacks of the last suspension were told its end: they may run beside this thread. */
static UNUSED void await_told(void)
{
	struct timespec t;
	MUST(clock_gettime(CLOCK_REALTIME, &t));
	t.tv_sec += 20;
	while (strlen(noted) % 12 != 0)
		CHECK(sem_timedwait(&told, &t) == 0 || errno == EINTR, "noted:%s", noted);
}

/* Each suspension that began was told its end, in order. */
static UNUSED void check_notes(void)
{
	for (const char *p = noted; *p; p += 12) {
		CHECK(strlen(p) >= 12 && !strncmp(p, " Bs As A", 8) && p[8] == p[11] && p[10] == 'B',
		      "noted:%s", noted);
	}
}

/* Started with this word it has not opted in, as after exec. */
static UNUSED int is_bare(int argc, char **argv)
{
	return argc == 2 && !strcmp(argv[1], "bare");
}

static void own(const char *file, uint32_t flags)
{
	int side = suspend_self(file, flags);
	say(side < 0 ? "SELF %d %s\n" : "SELF %d%s\n", side, suspend_error());
}

/* Becomes the same program anew every few milliseconds, until there is something to read. */
static UNUSED void restart(void)
{
	struct pollfd in = {0, POLLIN, 0};
	int n;
	while ((n = poll(&in, 1, 3)) < 0)
		SAME(errno, EINTR);
	if (n == 0)
		MUST(execl("/proc/self/exe", "consent", "restarts", "again", NULL));
}

/* Answers until the test asks to verify; other lines go to `other`. */
static UNUSED void talk(void (*other)(const char *line))
{
	for (;;) {
		char line[64];
		read_line(line, sizeof line);
		if (!strcmp(line, "ping"))
			say("PONG\n");
		else if (!strcmp(line, "log"))
			say("LOG%s.\n", noted);
		else if (!strcmp(line, "verify"))
			return;
		else if (!strcmp(line, "random"))
			await_told(), say("RANDOM %llx\n", *(unsigned long long *)last);
		else if (!strcmp(line, "told"))
			await_told(), say("TOLD pid %u machine %u timeout %u.\n", other_pid, other_machine,
					  timeout_ms);
		else if (!strncmp(line, "self ", 5))
			own(line + 5, 0);
		else if (!strcmp(line, "lost"))
			MUST(setenv("DUMPER", "/nonexistent", 1)), say("DONE\n");
		else if (!strncmp(line, "left ", 5))
			own(line + 5, SUSPEND_LEAVE_RUNNING);
		else if (!strcmp(line, "children"))
			say("CHILDREN %d\n", waitpid(-1, NULL, WNOHANG) == -1 ? 0 : 1);
		else if (!strcmp(line, "exec"))
			MUST(execl("/proc/self/exe", "consent", "bare", NULL));
		else if (!strcmp(line, "storm")) {
			for (int i = 0; i < 100000; i++)
				kill(getpid(), i & 1 ? SIGUSR1 : SIGUSR2);
			say("DONE\n");
		}
		else if (other)
			other(line);
		else
			FAIL("asked for '%s'", line);
	}
}
#endif
