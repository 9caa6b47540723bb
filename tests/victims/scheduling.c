//#Modes: root user newpid leave left empty
// Threads that differ in policy, priority, nice value, deadline and affinity. What takes rights that
// this user has not, or a kernel that can do it, is left out.
#include "victim.h"

struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

#define RESET_ON_FORK 1
#define DEADLINE 6
#define THREADS 8

static const struct attributes wanted[THREADS] = {
	{ .policy = SCHED_IDLE },
	{ .policy = SCHED_BATCH, .nice = 4 },
	{ .policy = SCHED_OTHER, .nice = 11, .flags = RESET_ON_FORK },
	{ .policy = SCHED_OTHER, .nice = -5 },
	{ .policy = SCHED_FIFO, .priority = 7 },
	{ .policy = SCHED_RR, .priority = 3, .flags = RESET_ON_FORK },
	{ .policy = DEADLINE, .runtime = 1000000, .deadline = 10000000, .period = 20000000 },
	{ .policy = SCHED_OTHER },
};

struct state {
	struct attributes attributes;
	cpu_set_t cpus;
};

static struct state then[THREADS + 1];
static pthread_barrier_t made, ask;
static cpu_set_t all;

static void look(struct state *s)
{
	memset(s, 0, sizeof *s);
	MUST(syscall(SYS_sched_getattr, 0, &s->attributes, sizeof s->attributes, 0));
	MUST(syscall(SYS_sched_getaffinity, 0, sizeof s->cpus, &s->cpus));
}

/* One processor of those that there are. */
static void settle_on(int which)
{
	cpu_set_t one;
	int cpu = -1;
	for (int n = which % CPU_COUNT(&all); n >= 0; n--)
		while (!CPU_ISSET(++cpu, &all))
			;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	MUST(sched_setaffinity(0, sizeof one, &one));
}

static void compare(int i)
{
	struct state now;
	look(&now);
#define EQUAL(field)                                                                        \
	CHECK(now.attributes.field == then[i].attributes.field, "thread %d: " #field " is %lld, was %lld", \
	      i, (long long)now.attributes.field, (long long)then[i].attributes.field)
	EQUAL(policy);
	EQUAL(flags);
	EQUAL(nice);
	EQUAL(priority);
	EQUAL(runtime);
	EQUAL(deadline);
	EQUAL(period);
	CHECK(CPU_EQUAL(&now.cpus, &then[i].cpus), "thread %d: its affinity differs", i);
}

static void *thread(void *number)
{
	long i = (long)number;
	struct attributes a = wanted[i];
	a.size = sizeof a;
	/* A deadline is only given to who may run everywhere. */
	if (a.policy != DEADLINE)
		settle_on(i);
	int may = getuid() == 0 && a.policy != DEADLINE;
	/* Only root may have more than it was started with. */
	int nice = getpriority(PRIO_PROCESS, 0);
	if (syscall(SYS_sched_setattr, 0, &a, 0)) {
		may |= a.priority == 0 && a.nice >= nice && a.policy != DEADLINE;
		CHECK(!may, "thread %ld: %s", i, strerror(errno));
	}
	look(&then[i]);
	pthread_barrier_wait(&made);
	pthread_barrier_wait(&ask);
	compare(i);
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	MUST(sched_getaffinity(0, sizeof all, &all));
	pthread_barrier_init(&made, NULL, THREADS + 1);
	pthread_barrier_init(&ask, NULL, THREADS + 1);
	for (long i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, thread, (void *)i));
	settle_on(1);
	MUST(setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 2));
	look(&then[THREADS]);
	pthread_barrier_wait(&made);
	ready();
	await_verify();
	compare(THREADS);
	pthread_barrier_wait(&ask);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ok();
}
