//#Modes: root user newpid leave
// Threads with credentials of their own: ids, groups, capability sets, securebits, no_new_privs, and
// the parent-death signal that a change of credentials clears.
#include "victim.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>

#define THREADS 5

struct state {
	uid_t uids[4];
	gid_t gids[4], groups[32];
	int count, bits, keep, nnp, death;
	uint32_t caps[6];
	uint64_t bounding, ambient;
};

static struct state then[THREADS];
static pthread_barrier_t made, ask;
static int root;

static void look(struct state *s)
{
	memset(s, 0, sizeof *s);
	/* The C library sets ids in all threads, but reads those of one. */
	MUST(getresuid(&s->uids[0], &s->uids[1], &s->uids[2]));
	MUST(getresgid(&s->gids[0], &s->gids[1], &s->gids[2]));
	s->uids[3] = setfsuid(-1);
	s->gids[3] = setfsgid(-1);
	s->count = MUST(getgroups(32, s->groups));
	s->bits = MUST(prctl(PR_GET_SECUREBITS));
	s->keep = MUST(prctl(PR_GET_KEEPCAPS));
	s->nnp = MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	MUST(prctl(PR_GET_PDEATHSIG, &s->death));
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	MUST(syscall(SYS_capget, &h, s->caps));
	for (int cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_READ, cap) == 1)
			s->bounding |= 1ull << cap;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
			s->ambient |= 1ull << cap;
	}
}

static void lower(uint32_t effective, uint32_t permitted, uint32_t inheritable)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	MUST(syscall(SYS_capget, &h, d));
	d[0].effective &= effective;
	d[0].permitted &= permitted;
	d[0].inheritable = inheritable;
	MUST(syscall(SYS_capset, &h, d));
}

/* Raw calls: they concern the calling thread alone. */
static void become(int which)
{
	gid_t groups[] = { 7, 77, 777 };
	switch (which) {
	case 1: /* another user, who keeps some capabilities and has less in his bounding set */
		MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT));
		MUST(prctl(PR_SET_KEEPCAPS, 1));
		MUST(syscall(SYS_setgroups, 3, groups));
		MUST(syscall(SYS_setresgid, 2001, 2002, 2003));
		MUST(syscall(SYS_setresuid, 1001, 1002, 1003));
		lower(0, 1u << CAP_CHOWN | 1u << CAP_NET_RAW, 1u << CAP_NET_RAW);
		MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
		break;
	case 2: /* root by name only */
		MUST(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED));
		lower(1u << CAP_KILL, 1u << CAP_KILL, 0);
		break;
	case 3: /* files are made as another user */
		syscall(SYS_setfsgid, 3002);
		syscall(SYS_setfsuid, 3001);
		break;
	case 4: /* nothing but its securebits tells it from the leader */
		MUST(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP));
		break;
	}
}

static void equal(long i, const char *what, const void *now, const void *then, size_t size)
{
	uint64_t a = 0, b = 0;
	memcpy(&a, now, size < 8 ? size : 8);
	memcpy(&b, then, size < 8 ? size : 8);
	CHECK(!memcmp(now, then, size), "thread %ld: %s is %lx, was %lx", i, what, a, b);
}

static void *thread(void *number)
{
	long i = (long)number;
	struct state now;
	if (root)
		become(i);
	if (i == 1 || i == 3)
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	/* An ordinary user's second differs from the leader in nothing else. */
	if (i == 3 || (i == 2 && !root))
		MUST(prctl(PR_SET_KEEPCAPS, 1));
	MUST(prctl(PR_SET_PDEATHSIG, i ? (int)i + SIGRTMIN : 0));
	look(&then[i]);
	pthread_barrier_wait(&made);
	pthread_barrier_wait(&ask);
	look(&now);
#define EQUAL(field) equal(i, #field, &now.field, &then[i].field, sizeof now.field)
	EQUAL(uids);
	EQUAL(gids);
	EQUAL(count);
	EQUAL(groups);
	EQUAL(bits);
	EQUAL(keep);
	EQUAL(nnp);
	EQUAL(death);
	EQUAL(caps);
	EQUAL(bounding);
	EQUAL(ambient);
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	root = getuid() == 0;
	pthread_barrier_init(&made, NULL, THREADS + 1);
	pthread_barrier_init(&ask, NULL, THREADS + 1);
	for (long i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, thread, (void *)i));
	pthread_barrier_wait(&made);
	/* The change of credentials took it from all. */
	MUST(prctl(PR_SET_DUMPABLE, 1));
	ready();
	await_verify();
	SAME(prctl(PR_GET_DUMPABLE), 1);
	SAME(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
	SAME(getuid(), root ? 0 : getuid());
	pthread_barrier_wait(&ask);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ok();
}
