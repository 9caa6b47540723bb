//#Modes: root user newpid leave left empty
// Working directory, umask, limits, nice, scheduling, affinity and the many small settings.
#include "victim.h"
#include <sys/personality.h>

#ifndef PR_SET_THP_DISABLE
#define PR_SET_THP_DISABLE 41
#define PR_GET_THP_DISABLE 42
#endif

static pthread_t t;
static int ends[2];

static void *other(void *unused)
{
	(void)unused;
	cpu_set_t set, now;
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	MUST(sched_setaffinity(0, sizeof set, &set));
	MUST(setpriority(PRIO_PROCESS, syscall(SYS_gettid), 7));
	MUST(prctl(PR_SET_TIMERSLACK, 123456));
	MUST(write(ends[1], "r", 1));
	char c = 'r';
	while (c != 'd') {
		usleep(1000);
		MUST(read(ends[0], &c, 1));
		if (c != 'd')
			MUST(write(ends[1], &c, 1));
	}
	MUST(sched_getaffinity(0, sizeof now, &now));
	CHECK(CPU_EQUAL(&set, &now), "the thread's affinity differs");
	SAME(getpriority(PRIO_PROCESS, syscall(SYS_gettid)), 7);
	SAME(prctl(PR_GET_TIMERSLACK), 123456);
	return NULL;
}

int main(void)
{
	char cwd[4096], cwd_now[4096];
	struct rlimit limits[16], now;
	MUST(pipe(ends));
	MUST(getcwd(cwd, sizeof cwd) ? 0 : -1);
	if (strcmp(cwd, "/")) {
		mkdir("a directory", 0700);
		MUST(chdir("a directory"));
	} else
		/* To be resumed in an empty root directory. */
		MUST(chdir("/usr"));
	MUST(getcwd(cwd, sizeof cwd) ? 0 : -1);
	umask(0151);
	struct rlimit l = { 100, 500 };
	MUST(setrlimit(RLIMIT_NOFILE, &l));
	l.rlim_cur = 0;
	l.rlim_max = 0;
	MUST(setrlimit(RLIMIT_CORE, &l));
	l.rlim_cur = 4 << 20;
	l.rlim_max = 64 << 20;
	MUST(setrlimit(RLIMIT_STACK, &l));
	for (int i = 0; i < 16; i++)
		MUST(getrlimit(i, &limits[i]));
	MUST(pthread_create(&t, NULL, other, NULL));
	MUST(setpriority(PRIO_PROCESS, 0, 3));
	struct sched_param p = { 0 };
	MUST(sched_setscheduler(0, SCHED_BATCH, &p));
	MUST(personality(ADDR_NO_RANDOMIZE | 0x2000000));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	MUST(prctl(PR_SET_TIMERSLACK, 77777));
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	signal(SIGUSR2, SIG_IGN);
	int dumpable = prctl(PR_GET_DUMPABLE);
	ready();
	await_verify();
	MUST(getcwd(cwd_now, sizeof cwd_now) ? 0 : -1);
	/* In an empty root directory it is not there, which is noted. */
	int is_empty = access("/proc", F_OK) && !strcmp(cwd_now, "/");
	CHECK(is_empty || !strcmp(cwd, cwd_now), "the directory is %s, was %s", cwd_now, cwd);
	SAME(umask(0), 0151);
	for (int i = 0; i < 16; i++) {
		MUST(getrlimit(i, &now));
		CHECK(now.rlim_cur == limits[i].rlim_cur && now.rlim_max == limits[i].rlim_max,
		      "limit %d is %lu of %lu, was %lu of %lu", i, now.rlim_cur, now.rlim_max,
		      limits[i].rlim_cur, limits[i].rlim_max);
	}
	SAME(getpriority(PRIO_PROCESS, 0), 3);
	SAME(sched_getscheduler(0), SCHED_BATCH);
	SAME(personality(-1), ADDR_NO_RANDOMIZE | 0x2000000);
	SAME(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	int value = 0;
	MUST(prctl(PR_GET_PDEATHSIG, &value));
	SAME(value, SIGUSR2);
	SAME(prctl(PR_GET_TIMERSLACK), 77777);
	MUST(prctl(PR_GET_CHILD_SUBREAPER, &value));
	SAME(value, 1);
	SAME(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
	SAME(prctl(PR_GET_DUMPABLE), dumpable);
	MUST(write(ends[1], "d", 1));
	pthread_join(t, NULL);
	ok();
}
