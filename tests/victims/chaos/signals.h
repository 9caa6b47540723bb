/* Pending signals with their values: of processes and of single threads. */
#ifndef CHAOS_SIGNALS_H
#define CHAOS_SIGNALS_H
#include "turn.h"

#define NUMBERS 3
#define WAITING 6

struct waiting {
	int count;
	struct { int from, value; } all[WAITING];
};

/* The last one is the process's own, those before are its threads'. */
static struct waiting signals[PROCS][THREADS + 1][NUMBERS];

static void run_signal(const struct step *s)
{
	int number = SIGRTMIN + s->b;
	siginfo_t info = { .si_signo = number, .si_code = SI_QUEUE };
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = s->c;
	/* Within the process by the library, which has to know the threads' ids after a resume. */
	if (s->a == me && s->length < THREADS)
		EXPECT(s, "pthread_sigqueue", pthread_sigqueue(handles[s->length], number, info.si_value), 0);
	else if (s->length < THREADS)
		DO(s, syscall(SYS_rt_tgsigqueueinfo, control->pids[s->a], control->tids[s->a][s->length], number, &info));
	else
		DO(s, sigqueue(control->pids[s->a], number, info.si_value));
}

static void run_take_signal(const struct step *s)
{
	siginfo_t info;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + s->a);
	int n = sigtimedwait(&set, &info, &(struct timespec){ 0, 0 });
	if (s->b < 0) {
		EXPECT(s, "a signal", n, -1);
		return;
	}
	EXPECT(s, "the signal", n, SIGRTMIN + s->a);
	EXPECT(s, "its value", info.si_value.sival_int, s->c);
	EXPECT(s, "its code", info.si_code, SI_QUEUE);
	if (!single)
		EXPECT(s, "its sender", info.si_pid, control->tids[s->b][0]);
}

/* The signal of this number that thread t of p gets next: its own before the process's. */
static void next_signal(struct step *s, int p, int t, int number)
{
	struct waiting *from = &signals[p][t][number];
	if (!from->count)
		from = &signals[p][THREADS][number];
	s->a = number;
	s->b = -1;
	if (!from->count)
		return;
	s->b = from->all[0].from;
	s->c = from->all[0].value;
	memmove(from->all, from->all + 1, --from->count * sizeof from->all[0]);
}

static void take_signal(int p, int t, int number)
{
	next_signal(emit(p, t, run_take_signal, "take a signal", -1), p, t, number);
}

static void signals_act(void)
{
	int p = some_process(), number = rnd(NUMBERS), q = rnd(proc_count);
	if (chance(50)) {
		take_signal(p, some_thread(p), number);
		return;
	}
	if (procs[q].state != ALIVE || (single && q == p && chance(50)))
		return;
	int t = chance(50) ? THREADS : some_thread(q);
	struct waiting *to = &signals[q][t][number];
	if (to->count == WAITING)
		return;
	struct step *s = emit(p, some_thread(p), run_signal, "signal", -1);
	s->a = q;
	s->b = number;
	s->c = rnd(1 << 30);
	s->length = t;
	to->all[to->count].from = p;
	to->all[to->count++].value = s->c;
}

static void signals_of_ended_thread(int p, int t)
{
	memset(signals[p][t], 0, sizeof signals[p][t]);
}

static void signals_finish(void)
{
	for (int p = 0; p < proc_count; p++)
		for (int t = 0; t < THREADS; t++)
			for (int n = 0; n < NUMBERS && procs[p].state == ALIVE && procs[p].threads & 1u << t; n++)
				do
					take_signal(p, t, n);
				while (steps[step_count - 1].b >= 0);
}
#endif
