/* Whose turn it is: a page shared by all, and the ways in which threads wait for it. */
#ifndef CHAOS_TURN_H
#define CHAOS_TURN_H
#include "plan.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

/* What all processes share; itself one of the objects under test. */
struct control {
	volatile uint32_t turn;
	volatile uint32_t failed;
	volatile pid_t pids[PROCS];
	volatile pid_t tids[PROCS][THREADS];
	volatile uint32_t words[PROCS][THREADS];
	/* Stopped at some time: the kernel itself interrupts some calls then. */
	volatile int was_stopped[PROCS];
	/* Ids and names that are known only when an object was made. */
	volatile long values[OBJECTS];
};

static struct control *control;
static int me;
static __thread int my_thread;
static pthread_t handles[THREADS];
static int wakers[PROCS][THREADS][2];
/* The descriptors of this process. */
static int fds[DESCS][2];

#define WAKE SIGUSR1

enum way { FUTEX, FUTEX_LIMITED, SLEEP, SIGWAIT, SIGSUSPEND, PIPE_READ, POLLED, PPOLLED, SELECTED, EPOLLED, WAYS };
static const char *const ways[WAYS] = { "futex", "futex with a limit", "nanosleep", "sigwaitinfo", "sigsuspend", "read", "poll", "ppoll", "select", "epoll_wait" };

static enum way way_of(int step)
{
	return mix(seed * 7919 + step) % WAYS;
}

static void clean_up(void);

static void give_up(void)
{
	control->failed = 1;
	clean_up();
	for (int p = 0; p < PROCS; p++)
		if (control->pids[p] > 0 && p != me)
			kill(control->pids[p], SIGKILL);
	_exit(1);
}

#define WRONG(where, ...)                                                                          \
	do {                                                                                      \
		char text_[400];                                                                  \
		snprintf(text_, sizeof text_, __VA_ARGS__);                                       \
		const struct step *s_ = (where);                                                   \
		say("FAIL: seed %llu step %d (%s) process %d thread %d object %d (%s) descriptor %d: %s\n", \
		    (unsigned long long)seed, (int)(s_ - steps), s_->name, s_->process, s_->thread, s_->object, \
		    s_->object >= 0 ? objects[s_->object].kind->name : "none",                    \
		    s_->desc >= 0 ? fds[s_->desc][s_->copy] : -1, text_);                         \
		give_up();                                                                        \
	} while (0)

/* What a step expects, and what was found. */
#define EXPECT(where, what, found, expected)                                                       \
	do {                                                                                      \
		long long found_ = (long long)(found), expected_ = (long long)(expected);         \
		if (found_ != expected_)                                                          \
			WRONG(where, "%s: expected %lld, found %lld", what, expected_, found_);    \
	} while (0)

#define DO(where, call)                                                                            \
	({                                                                                        \
		long r_ = (long)(call);                                                           \
		if (r_ == -1)                                                                     \
			WRONG(where, "%s: %s", #call, strerror(errno));                            \
		r_;                                                                               \
	})

static void same_bytes(const struct step *s, const void *found, size_t length)
{
	const unsigned char *f = found;
	EXPECT(s, "length", length, s->length);
	for (size_t i = 0; i < length; i++)
		if (f[i] != s->data[i])
			WRONG(s, "byte %zu of %zu: expected 0x%02x, found 0x%02x", i, length, s->data[i], f[i]);
}

static int fd_of(const struct step *s)
{
	return fds[s->desc][s->copy];
}

/* A call was interrupted although no handler ran: only a stop excuses that. */
static void interrupted(const struct step *s, const char *call)
{
	if (errno != EINTR || !control->was_stopped[me])
		WRONG(s, "waiting by %s: %s", call, strerror(errno));
}

static void drink(const struct step *s)
{
	char c;
	ssize_t n = read(wakers[me][my_thread][0], &c, 1);
	if (n < 0)
		interrupted(s, "read");
	else if (n != 1)
		WRONG(s, "the waking pipe has ended");
}

/* As C libraries do it inside: with its number before the call. syscall(3) leaves none, so that a call
 * which a refused dump interrupted could not be told when it is dumped again. */
static int wait_for_word(volatile uint32_t *word, uint32_t seen, const struct timespec *limit)
{
	long result;
	register const struct timespec *timeout __asm__("r10") = limit;
	__asm__ volatile("mov %1, %%eax\n\tsyscall"
			 : "=&a"(result)
			 : "i"(SYS_futex), "D"(word), "S"((long)FUTEX_WAIT), "d"((long)seen), "r"(timeout)
			 : "rcx", "r11", "memory");
	errno = result < 0 ? -result : 0;
	return result < 0 && result != -EAGAIN ? -1 : 0;
}

static void await_turn(const struct step *s)
{
	uint32_t index = s - steps;
	enum way way = way_of(index);
	volatile uint32_t *word = &control->words[me][my_thread];
	int pipe = wakers[me][my_thread][0], n = 0, set = -1;
	struct pollfd polled = { .fd = pipe, .events = POLLIN };
	struct timespec quantum = { 0, 4000000 }, limit = { 900, 0 };
	struct timeval long_limit = { 900, 0 };
	struct epoll_event event = { .events = EPOLLIN };
	sigset_t mask;
	fd_set in;
	if (way == EPOLLED) {
		set = DO(s, epoll_create1(EPOLL_CLOEXEC));
		DO(s, epoll_ctl(set, EPOLL_CTL_ADD, pipe, &event));
	}
	for (;;) {
		uint32_t seen = *word;
		if (control->turn == index)
			break;
		switch (way) {
		case FUTEX:
		case FUTEX_LIMITED:
			n = wait_for_word(word, seen, way == FUTEX ? NULL : &limit);
			break;
		case SLEEP:
			n = nanosleep(&quantum, NULL);
			break;
		case SIGWAIT:
			sigemptyset(&mask);
			sigaddset(&mask, WAKE);
			n = sigwaitinfo(&mask, NULL);
			break;
		case SIGSUSPEND:
			pthread_sigmask(SIG_SETMASK, NULL, &mask);
			sigdelset(&mask, WAKE);
			sigsuspend(&mask);
			n = 0;
			break;
		case PIPE_READ:
			drink(s);
			n = 0;
			break;
		case POLLED:
			n = poll(&polled, 1, -1);
			break;
		case PPOLLED:
			n = ppoll(&polled, 1, &limit, NULL);
			break;
		case SELECTED:
			FD_ZERO(&in);
			FD_SET(pipe, &in);
			long_limit.tv_sec = 900;
			n = select(pipe + 1, &in, NULL, NULL, &long_limit);
			break;
		case EPOLLED:
			n = epoll_wait(set, &event, 1, 900000);
			break;
		case WAYS:
			break;
		}
		if (n < 0)
			interrupted(s, ways[way]);
		else if (n == 1 && (way == POLLED || way == PPOLLED || way == SELECTED || way == EPOLLED))
			drink(s);
		n = 0;
	}
	if (set >= 0)
		close(set);
}

/* The next step is due: wakes whoever executes it, in the way that it waits. */
static void pass(int done)
{
	control->turn = done + 1;
	if (done + 1 == step_count)
		return;
	const struct step *next = &steps[done + 1];
	int p = next->process, t = next->thread;
	if (p == me && t == my_thread)
		return;
	switch (way_of(done + 1)) {
	case FUTEX:
	case FUTEX_LIMITED:
		control->words[p][t]++;
		syscall(SYS_futex, &control->words[p][t], FUTEX_WAKE, 1, NULL, NULL, 0);
		break;
	case SIGWAIT:
	case SIGSUSPEND:
		/* With a new pid the library's id has to be the new one as well. Not otherwise: pthread_kill
		 * holds a lock of the woken thread, which a fork by that thread would copy for good. */
		if (single)
			pthread_kill(handles[t], WAKE);
		else if (syscall(SYS_tgkill, control->pids[p], control->tids[p][t], WAKE))
			WRONG(next, "waking process %d: %s", control->pids[p], strerror(errno));
		break;
	case PIPE_READ:
	case POLLED:
	case PPOLLED:
	case SELECTED:
	case EPOLLED:
		if (write(wakers[p][t][1], "", 1) != 1)
			WRONG(next, "waking by a pipe: %s", strerror(errno));
		break;
	case SLEEP:
	case WAYS:
		break;
	}
}

static int tracing;

/* A thread's life: its steps, each when it is due. */
static void live(int process, int thread, int from)
{
	me = process;
	my_thread = thread;
	for (int i = from; i < step_count; i++) {
		const struct step *s = &steps[i];
		if (s->process != process || s->thread != thread)
			continue;
		await_turn(s);
		if (tracing)
			dprintf(2, "%d: %d.%d %s object %d desc %d\n", i, process, thread, s->name, s->object, s->desc);
		s->run(s);
		pass(i);
	}
	for (;;)
		pause();
}

/* Pipes for all who are ever waited for in a way that needs one. */
static void make_wakers(void)
{
	for (int i = 0; i < step_count; i++) {
		int p = steps[i].process, t = steps[i].thread;
		if (way_of(i) >= PIPE_READ && !wakers[p][t][1])
			MUST(pipe2(wakers[p][t], O_CLOEXEC));
	}
}

static void woken(int signal UNUSED)
{
}

static void prepare_signals(void)
{
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, WAKE);
	for (int i = SIGRTMIN; i <= SIGRTMAX; i++)
		sigaddset(&mask, i);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	struct sigaction action = { .sa_handler = woken };
	MUST(sigaction(WAKE, &action, NULL));
	signal(SIGPIPE, SIG_IGN);
}
#endif
