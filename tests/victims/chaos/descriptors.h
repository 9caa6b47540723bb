/* What can be done to a descriptor of any kind: doubled, closed, its flags changed and looked at. */
#ifndef CHAOS_DESCRIPTORS_H
#define CHAOS_DESCRIPTORS_H
#include "turn.h"

static void run_double(const struct step *s)
{
	fds[s->desc][s->a] = DO(s, fcntl(fd_of(s), F_DUPFD, (int)s->b));
}

static int may_leave(int p, int d)
{
	const struct object *o = &objects[descs[d].object];
	return !o->kind->stays || (o->kind->leaves && o->kind->leaves(o, d, p));
}

static void run_close(const struct step *s)
{
	DO(s, close(fd_of(s)));
}

static void run_close_on_exec(const struct step *s)
{
	EXPECT(s, "close-on-exec", DO(s, fcntl(fd_of(s), F_GETFD)), s->a);
	DO(s, fcntl(fd_of(s), F_SETFD, (int)s->b));
}

static void run_nonblock(const struct step *s)
{
	int flags = DO(s, fcntl(fd_of(s), F_GETFL));
	EXPECT(s, "O_NONBLOCK", !!(flags & O_NONBLOCK), s->a);
	DO(s, fcntl(fd_of(s), F_SETFL, s->b ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

static void descriptors_act(void)
{
	if (!desc_count)
		return;
	int d = rnd(desc_count), p = some_holder(d);
	if (p < 0)
		return;
	int t = some_thread(p), copy = some_copy(p, d);
	struct step *s;
	switch (rnd(5)) {
	case 0:
		if (holds(p, d) == 2)
			break;
		s = by(p, t, d, run_double, "dup");
		s->a = !s->copy;
		s->b = rnd(300);
		procs[p].held[d][s->a] = 1;
		procs[p].cloexec[d][s->a] = 0;
		break;
	case 1:
	case 2:
		if (procs[p].pinned[d] || descs[d].no_close || (references(d) == 1 && (!may_leave(p, d) || !chance(40))))
			break;
		before_close(p, t, d);
		s = by(p, t, d, run_close, "close");
		procs[p].held[d][s->copy] = 0;
		release(d);
		break;
	case 3:
		s = by(p, t, d, run_close_on_exec, "close-on-exec");
		s->copy = copy;
		s->a = procs[p].cloexec[d][copy];
		s->b = procs[p].cloexec[d][copy] = rnd(2);
		break;
	default:
		s = by(p, t, d, run_nonblock, "O_NONBLOCK");
		s->a = descs[d].nonblock;
		s->b = descs[d].nonblock = rnd(2);
	}
}
#endif
