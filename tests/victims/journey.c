//#Flags: -lrt
// What travels: clocks read through the vdso all the time, ids of process and threads, an output
// file that grows, a sleep and timers with what remains of them. The first argument names the file.
// Beside the usual requests it answers `ids` by whether all ids are the ones it was born with.
#include "victim.h"

enum { READERS = 2, LONG = 1000, SLACK = 10 };

static volatile int stop, asked;
static pid_t pid;

struct reader {
	pthread_t thread;
	pid_t tid;
	volatile int answered, differs;
	volatile uint64_t largest;
	volatile long calls;
};

static struct reader readers[READERS];

static void *reading(void *argument)
{
	struct reader *me = argument;
	me->tid = syscall(SYS_gettid);
	uint64_t last = now_ns(CLOCK_MONOTONIC);
	while (!stop) {
		for (int i = 0; i < 100; i++) {
			uint64_t now = now_ns(CLOCK_MONOTONIC);
			CHECK(now >= last, "the monotonic clock went back from %lu to %lu", last, now);
			if (now - last > me->largest)
				me->largest = now - last;
			last = now;
			me->calls++;
		}
		if (me->answered != asked) {
			me->differs = syscall(SYS_gettid) != me->tid;
			me->answered = asked;
		}
	}
	return NULL;
}

static struct timespec rem;
static struct reader sleeper, ticker;
static volatile long ticks;

static void *sleeping(void *unused)
{
	(void)unused;
	sleeper.tid = syscall(SYS_gettid);
	int r = nanosleep(&(struct timespec){ LONG, 0 }, &rem);
	CHECK(r == -1 && errno == EINTR, "nanosleep gave %d: %s", r, strerror(errno));
	return NULL;
}

static void *ticking(void *unused)
{
	(void)unused;
	ticker.tid = syscall(SYS_gettid);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	while (!stop) {
		siginfo_t info;
		int got = sigwaitinfo(&set, &info);
		CHECK(got == SIGRTMIN, "sigwaitinfo gave %d: %s", got, strerror(errno));
		ticks++;
		if (ticker.answered != asked) {
			ticker.differs = syscall(SYS_gettid) != ticker.tid;
			ticker.answered = asked;
		}
	}
	return NULL;
}

static void wake(int signal) { (void)signal; }

static timer_t timer_for(long seconds, long nanoseconds, int again)
{
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	struct itimerspec t = { { 0, 0 }, { seconds, nanoseconds } };
	timer_t timer;
	if (again)
		t.it_interval = t.it_value;
	MUST(timer_create(CLOCK_MONOTONIC, &e, &timer));
	MUST(timer_settime(timer, 0, &t, NULL));
	return timer;
}

static int log_fd;
static int lines;

/* Nothing but this process writes the file, so its lines tell of every journey. */
static void write_line(void)
{
	char line[32];
	int n = snprintf(line, sizeof line, "line %d\n", lines++);
	ssize_t done = write(log_fd, line, n);
	CHECK(done == n, "writing a line gave %zd: %s", done, strerror(errno));
}

static void check_lines(void)
{
	char wanted[4096], found[4096];
	size_t length = 0;
	for (int i = 0; i < lines; i++)
		length += snprintf(wanted + length, sizeof wanted - length, "line %d\n", i);
	ssize_t n = pread(log_fd, found, sizeof found, 0);
	CHECK(n == (ssize_t)length && !memcmp(wanted, found, length), "the file holds %zd bytes, not the %zu written", n, length);
	SAME(lseek(log_fd, 0, SEEK_CUR), length);
}

static void answer_ids(void)
{
	int differ = getpid() != pid;
	asked++;
	for (int i = 0; i < READERS; i++) {
		while (readers[i].answered != asked)
			usleep(1000);
		differ |= readers[i].differs;
	}
	while (ticker.answered != asked)
		usleep(1000);
	differ |= ticker.differs;
	say(differ ? "IDS other\n" : "IDS same\n");
}

static void answer_ping(void)
{
	long before = ticks, calls = readers[0].calls;
	while (ticks < before + 2 || readers[0].calls < calls + 1000)
		usleep(1000);
	write_line();
	say("PONG\n");
}

static void near(const char *what, double is, double wanted)
{
	CHECK(is > wanted - SLACK && is < wanted + SLACK, "%s: %f s, not %f", what, is, wanted);
}

int main(int argc, char **argv)
{
	char name[256];
	snprintf(name, sizeof name, "%s.log", argc > 1 ? argv[1] : "journey");
	log_fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0644));
	write_line();
	pid = getpid();
	MUST(sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = wake }, NULL));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	uint64_t begun = now_ns(CLOCK_MONOTONIC);
	timer_for(0, 50000000, 1);
	timer_t late = timer_for(LONG, 0, 0);
	for (int i = 0; i < READERS; i++)
		MUST(-pthread_create(&readers[i].thread, NULL, reading, &readers[i]));
	MUST(-pthread_create(&sleeper.thread, NULL, sleeping, NULL));
	MUST(-pthread_create(&ticker.thread, NULL, ticking, NULL));
	usleep(30000);
	ready();
	for (;;) {
		char line[64];
		read_line(line, sizeof line);
		if (!strcmp(line, "ping"))
			answer_ping();
		else if (!strcmp(line, "ids"))
			answer_ids();
		else if (!strcmp(line, "verify"))
			break;
		else
			FAIL("asked for '%s'", line);
	}
	check_lines();
	struct itimerspec left;
	MUST(timer_gettime(late, &left));
	near("the late timer", left.it_value.tv_sec, LONG - (now_ns(CLOCK_MONOTONIC) - begun) / 1e9);
	/* A thread that has not run since the resume takes the signal before its call. */
	do {
		pthread_kill(sleeper.thread, SIGUSR1);
		usleep(20000);
	} while (pthread_tryjoin_np(sleeper.thread, NULL) == EBUSY);
	near("the sleep", rem.tv_sec, LONG - (now_ns(CLOCK_MONOTONIC) - begun) / 1e9);
	stop = 1;
	for (int i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		CHECK(readers[i].largest < SLACK * 1000000000ull, "the monotonic clock jumped by %lu ns", readers[i].largest);
	}
	pthread_join(ticker.thread, NULL);
	ok();
}
