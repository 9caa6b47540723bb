/* Processes: births, ends, stops, groups, sessions, threads, and what each is asked about itself. */
#ifndef CHAOS_FAMILY_H
#define CHAOS_FAMILY_H
#include "turn.h"
#include <sys/wait.h>

static void run_fork(const struct step *s)
{
	pid_t pid = DO(s, fork());
	if (!pid) {
		memset(handles, 0, sizeof handles);
		handles[0] = pthread_self();
		live(s->a, 0, s - steps + 1);
	}
	control->tids[s->a][0] = pid;
	control->pids[s->a] = pid;
}

static void run_exit(const struct step *s)
{
	pass(s - steps);
	_exit(s->a);
}

/* Waits for an end without collecting it. */
static void run_see_end(const struct step *s)
{
	siginfo_t info;
	if (s->b)
		DO(s, kill(control->pids[s->a], s->b));
	DO(s, waitid(P_PID, control->pids[s->a], &info, WEXITED | WNOWAIT));
	EXPECT(s, "the ended process", info.si_pid, control->pids[s->a]);
}

static void run_collect(const struct step *s)
{
	int status = 0;
	pid_t pid = control->pids[s->a];
	EXPECT(s, "waitpid", waitpid(pid, &status, 0), pid);
	/* The mark of a core dump is not kept, and depends on limits. */
	EXPECT(s, "status", status & ~0x80, s->b);
	control->pids[s->a] = 0;
}

static void run_stop(const struct step *s)
{
	siginfo_t info;
	control->was_stopped[s->a] = 1;
	DO(s, kill(control->pids[s->a], SIGSTOP));
	DO(s, waitid(P_PID, control->pids[s->a], &info, WSTOPPED | (s->b ? 0 : WNOWAIT)));
	EXPECT(s, "the stopped process", info.si_pid, control->pids[s->a]);
	EXPECT(s, "the stopping signal", info.si_status, SIGSTOP);
}

static void run_continue(const struct step *s)
{
	siginfo_t info = { 0 };
	DO(s, waitid(P_PID, control->pids[s->a], &info, WSTOPPED | WNOHANG | WNOWAIT));
	EXPECT(s, "a stop to be told", info.si_pid, s->b ? 0 : control->pids[s->a]);
	DO(s, kill(control->pids[s->a], SIGCONT));
}

static void run_group(const struct step *s)
{
	DO(s, setpgid(0, s->a == s->process ? 0 : control->pids[s->a]));
}

static void run_session(const struct step *s)
{
	/* The first process is started as a shell's job; who leads a group gets no session. */
	if (s->process == 0 && getpgrp() == getpid())
		DO(s, setpgid(0, getpgid(getppid())));
	DO(s, setsid());
}

static void run_reaper(const struct step *s)
{
	DO(s, prctl(PR_SET_CHILD_SUBREAPER, s->a));
}

static void run_identity(const struct step *s)
{
	if (single) {
		control->pids[me] = getpid();
		EXPECT(s, "gettid", pthread_kill(pthread_self(), 0), 0);
		return;
	}
	EXPECT(s, "getpid", getpid(), control->pids[me]);
	EXPECT(s, "gettid", syscall(SYS_gettid), control->tids[me][my_thread]);
	if (me)
		EXPECT(s, "getppid", getppid(), control->pids[s->a]);
	/* The group and the session of the command that started or resumed the tree have no number in a
	 * namespace of its own. */
	EXPECT(s, "getpgrp", getpgrp(), s->b < 0 ? getpgid(control->pids[0]) : control->tids[s->b][0]);
	EXPECT(s, "getsid", getsid(0), s->c < 0 ? getsid(control->pids[0]) : control->tids[s->c][0]);
	int reaper = -1;
	DO(s, prctl(PR_GET_CHILD_SUBREAPER, &reaper));
	EXPECT(s, "child subreaper", !!reaper, s->length);
}

static void *thread_body(void *argument)
{
	const struct step *s = argument;
	control->tids[s->process][s->a] = syscall(SYS_gettid);
	control->words[s->process][s->a]++;
	syscall(SYS_futex, &control->words[s->process][s->a], FUTEX_WAKE, 1, NULL, NULL, 0);
	live(s->process, s->a, s - steps + 1);
	return NULL;
}

static void run_thread(const struct step *s)
{
	volatile uint32_t *word = &control->words[me][s->a];
	uint32_t before = *word;
	EXPECT(s, "pthread_create", pthread_create(&handles[s->a], NULL, thread_body, (void *)s), 0);
	while (*word == before)
		syscall(SYS_futex, word, FUTEX_WAIT, before, NULL, NULL, 0);
}

static void run_thread_end(const struct step *s)
{
	pass(s - steps);
	pthread_exit((void *)s->a);
}

static void run_join(const struct step *s)
{
	void *result;
	EXPECT(s, "pthread_join", pthread_join(handles[s->a], &result), 0);
	EXPECT(s, "the thread's result", (long)result, s->b);
}

static void run_name(const struct step *s)
{
	char name[16];
	DO(s, prctl(PR_SET_NAME, s->data));
	DO(s, prctl(PR_GET_NAME, name));
	EXPECT(s, "the new name", strcmp(name, (const char *)s->data), 0);
}

static void run_umask(const struct step *s)
{
	EXPECT(s, "umask", umask(s->b), s->a);
}

/* Now the simulation. */

static void fork_one(void)
{
	if (proc_count == PROCS || single)
		return;
	int p = some_process(), t = some_thread(p), c = proc_count++;
	struct process *child = &procs[c], *parent = &procs[p];
	*child = *parent;
	child->state = ALIVE;
	child->parent = p;
	child->reaper = 0;
	child->threads = 1;
	memset(child->pinned, 0, sizeof child->pinned);
	emit(p, t, run_fork, "fork", -1)->a = c;
	for (int o = 0; o < object_count; o++)
		if (objects[o].kind->forked)
			objects[o].kind->forked(&objects[o], p, c);
}

/* Who gets the children of p. */
static int heir(int p)
{
	int q = procs[p].parent;
	while (q && !(procs[q].state == ALIVE && procs[q].reaper))
		q = procs[q].parent;
	return q;
}

static int is_there(int p)
{
	return procs[p].state != UNBORN && procs[p].state != COLLECTED;
}

static int is_above(int above, int p)
{
	while (p && procs[p].parent != above)
		p = procs[p].parent;
	return p != 0;
}

/* Whether p is in its session because its parent was when p was born, as far as that shows. */
static int is_heir_of_session(int p)
{
	int q = procs[p].parent;
	while (q && procs[q].session == q && procs[p].session != q)
		q = procs[q].parent;
	return procs[q].session == procs[p].session;
}

/* Where a session has no leader any more, and members who came to others than each other's ancestors,
 * nobody can make it again; that is refused, and never made here. */
static int sessions_are_fine(void)
{
	for (int p = 1; p < proc_count; p++) {
		int leader = procs[p].session;
		if (!is_there(p) || leader == p || leader < 0 || is_there(leader) || is_heir_of_session(p))
			continue;
		for (int q = 1; q < p; q++) {
			int one = procs[p].parent, other = procs[q].parent;
			if (is_there(q) && procs[q].session == leader && !is_heir_of_session(q) && one != other && !is_above(one, other) && !is_above(other, one))
				return 0;
		}
	}
	return 1;
}

static int may_be_collected(int p)
{
	int state = procs[p].state;
	procs[p].state = COLLECTED;
	int fine = sessions_are_fine();
	procs[p].state = state;
	return fine;
}

static int may_end(int p)
{
	int to = heir(p), moved[PROCS] = { 0 };
	for (int q = 0; q < proc_count; q++)
		if (procs[q].parent == p && procs[q].state != UNBORN) {
			moved[q] = 1;
			procs[q].parent = to;
		}
	int fine = sessions_are_fine();
	for (int q = 0; q < proc_count; q++)
		if (moved[q])
			procs[q].parent = p;
	if (!fine)
		return 0;
	for (int d = 0; d < desc_count; d++)
		if (procs[p].pinned[d] || (holds(p, d) == references(d) && must_stay(p, d)))
			return 0;
	return 1;
}

/* Ends p by itself or by a signal; its parent sees that. */
static void end_one(int p, int how)
{
	int t = some_thread(p);
	/* Objects made later may carry those made before, so they go first. */
	for (int d = desc_count - 1; d >= 0; d--)
		for (int c = 0; c < 2; c++)
			if (procs[p].held[d][c]) {
				before_close(p, t, d);
				procs[p].held[d][c] = 0;
				release(d);
			}
	for (int o = 0; o < object_count; o++)
		if (objects[o].kind->ended)
			objects[o].kind->ended(&objects[o], p);
	int to = heir(p), parent = procs[p].parent;
	if (how)
		procs[p].status = how;
	else {
		procs[p].status = rnd(256) << 8;
		emit(p, t, run_exit, "exit", -1)->a = procs[p].status >> 8;
	}
	procs[p].state = ZOMBIE;
	for (int q = 0; q < proc_count; q++)
		if (procs[q].parent == p && procs[q].state != UNBORN)
			procs[q].parent = to;
	struct step *s = emit(parent, some_thread(parent), run_see_end, how ? "kill" : "see an end", -1);
	s->a = p;
	s->b = how;
}

static void collect(int p)
{
	struct step *s = emit(procs[p].parent, some_thread(procs[p].parent), run_collect, "waitpid", -1);
	s->a = p;
	s->b = procs[p].status;
	procs[p].state = COLLECTED;
}

static void identity(int p)
{
	struct step *s = emit(p, some_thread(p), run_identity, "who am I", -1);
	s->a = procs[p].parent;
	s->b = procs[p].group;
	s->c = procs[p].session;
	s->length = procs[p].reaper;
}

/* A group that p may join: its own, or one of its session in which somebody is. */
static void regroup(int p)
{
	/* The root process's group is the one of the command. */
	if (!p || procs[p].session == p || some_stopped())
		return;
	int to = p, q = rnd(proc_count);
	if (chance(60) && (procs[q].state == ALIVE || procs[q].state == ZOMBIE) && procs[q].session == procs[p].session && procs[q].group >= 0)
		to = procs[q].group;
	emit(p, some_thread(p), run_group, "setpgid", -1)->a = to;
	procs[p].group = to;
}

static void new_session(int p)
{
	if (procs[p].group == p || some_stopped() || !p)
		return;
	/* A group keeps its leader's id while anybody is in it, and no session may be led from it. */
	for (int q = 0; q < proc_count; q++)
		if (q != p && procs[q].state != UNBORN && procs[q].state != COLLECTED && procs[q].group == p)
			return;
	int before = procs[p].session;
	procs[p].session = p;
	int fine = sessions_are_fine();
	procs[p].session = before;
	if (!fine)
		return;
	emit(p, some_thread(p), run_session, "setsid", -1);
	procs[p].session = procs[p].group = p;
}

static void new_thread(int p)
{
	for (int t = 1; t < THREADS; t++)
		if (!(procs[p].threads & 1u << t)) {
			emit(p, some_thread(p), run_thread, "thread", -1)->a = t;
			procs[p].threads |= 1u << t;
			return;
		}
}

static void signals_of_ended_thread(int p, int t);

static void end_thread(int p)
{
	int t = some_thread(p);
	if (!t)
		return;
	struct step *s = emit(p, t, run_thread_end, "end of a thread", -1);
	s->a = 1000 + t;
	procs[p].threads &= ~(1u << t);
	signals_of_ended_thread(p, t);
	s = emit(p, some_thread(p), run_join, "join", -1);
	s->a = t;
	s->b = 1000 + t;
}

static void continue_one(int p)
{
	int parent = procs[p].parent;
	struct step *s = emit(parent, some_thread(parent), run_continue, "continue", -1);
	s->a = p;
	s->b = procs[p].told;
	procs[p].stopped = 0;
}

static void stop_one(int p)
{
	int parent = procs[p].parent;
	if (!p || !able(parent))
		return;
	struct step *s = emit(parent, some_thread(parent), run_stop, "stop", -1);
	s->a = p;
	s->b = procs[p].told = rnd(2);
	procs[p].stopped = 1;
}

static void family_act(void)
{
	int p = some_process(), q = rnd(proc_count);
	struct step *s;
	switch (rnd(12)) {
	case 0:
	case 1:
		fork_one();
		break;
	case 2:
		if (p && !some_stopped() && may_end(p))
			end_one(p, 0);
		break;
	case 3:
		if (p && !some_stopped() && may_end(p) && able(procs[p].parent) && chance(50))
			end_one(p, (int[]){ SIGKILL, SIGTERM, SIGALRM, SIGUSR2 }[rnd(4)]);
		break;
	case 4:
		if (procs[q].state == ZOMBIE && able(procs[q].parent) && may_be_collected(q))
			collect(q);
		break;
	case 5:
		identity(p);
		break;
	case 6:
		regroup(p);
		break;
	case 7:
		new_session(p);
		break;
	case 8:
		new_thread(p);
		break;
	case 9:
		end_thread(p);
		break;
	case 10:
		if (procs[q].state == ALIVE && procs[q].stopped) {
			if (able(procs[q].parent))
				continue_one(q);
		} else if (chance(40) && procs[q].state == ALIVE)
			stop_one(q);
		break;
	default:
		if (chance(families ? 70 : 30) && p) {
			procs[p].reaper = !procs[p].reaper;
			emit(p, some_thread(p), run_reaper, "child subreaper", -1)->a = procs[p].reaper;
		} else if (chance(50)) {
			char name[16];
			snprintf(name, sizeof name, "chaos %u", rnd(10000));
			s = emit(p, some_thread(p), run_name, "name", -1);
			s->data = kept(name, sizeof name);
		} else {
			s = emit(p, some_thread(p), run_umask, "umask", -1);
			s->a = procs[p].mask_of_files;
			s->b = procs[p].mask_of_files = rnd(64);
		}
	}
}

static int depth(int p)
{
	int n = 0;
	for (; p; p = procs[p].parent)
		n++;
	return n;
}

/* Ends all but the root process, children before their parents. */
static void family_finish(void)
{
	for (int p = 1; p < proc_count; p++)
		if (procs[p].state == ALIVE)
			identity(p);
	for (int level = PROCS; level > 0; level--)
		for (int p = 1; p < proc_count; p++) {
			if (procs[p].state == ALIVE && depth(p) == level)
				end_one(p, 0);
			if (procs[p].state == ZOMBIE && depth(p) == level)
				collect(p);
		}
}
#endif
