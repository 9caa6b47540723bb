/* epoll sets, of each other too: what they tell must be what the simulation knows of their members. */
#ifndef CHAOS_SETS_H
#define CHAOS_SETS_H
#include "turn.h"

#define MEMBERS 8

struct set {
	int desc, count;
	struct { int process, desc, copy; uint64_t data; } all[MEMBERS];
};

static void run_make_set(const struct step *s)
{
	fds[s->a][0] = DO(s, epoll_create1(0));
}

static void run_enter(const struct step *s)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = s->c };
	DO(s, epoll_ctl(fd_of(s), EPOLL_CTL_ADD, fds[s->a][s->b], &event));
}

static void run_leave(const struct step *s)
{
	DO(s, epoll_ctl(fd_of(s), EPOLL_CTL_DEL, fds[s->a][s->b], NULL));
}

/* Their data, added up: the order is the kernel's. */
static void run_ready(const struct step *s)
{
	struct epoll_event found[MEMBERS + 2];
	int n = DO(s, epoll_wait(fd_of(s), found, MEMBERS + 2, 0));
	uint64_t sum = 0;
	for (int i = 0; i < n; i++) {
		EXPECT(s, "reads on", !!(found[i].events & (EPOLLIN | EPOLLHUP)), 1);
		sum += found[i].data.u64;
	}
	EXPECT(s, "how many are ready", n, s->a);
	EXPECT(s, "the sum of their data", sum, s->c);
}

static int set_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	struct set *set = o->state = calloc(1, sizeof *set);
	set->desc = new_desc(o, 0, p);
	descs[set->desc].no_dup = 1;
	emit(p, t, run_make_set, "make", number_of(o))->a = set->desc;
	return 1;
}

static int is_ready(int d)
{
	struct object *o = &objects[descs[d].object];
	return o->kind->readable(o, d);
}

static int set_readable(const struct object *o, int d UNUSED)
{
	const struct set *set = o->state;
	for (int i = 0; i < set->count; i++)
		if (is_ready(set->all[i].desc))
			return 1;
	return 0;
}

static void set_look(struct object *o)
{
	struct set *set = o->state;
	struct step *s = on_desc(set->desc, run_ready, "epoll_wait");
	if (!s)
		return;
	for (int i = 0; i < set->count; i++)
		if (is_ready(set->all[i].desc)) {
			s->a++;
			s->c += set->all[i].data;
		}
}

static void leave(struct object *o, int i)
{
	struct set *set = o->state;
	int p = set->all[i].process, d = set->all[i].desc;
	struct step *s = by(p, some_thread(p), set->desc, run_leave, "leave");
	s->a = d;
	s->b = set->all[i].copy;
	procs[p].pinned[d]--;
	procs[p].pinned[set->desc]--;
	set->all[i] = set->all[--set->count];
}

static void set_act(struct object *o)
{
	struct set *set = o->state;
	int p = some_holder(set->desc), d = desc_count ? (int)rnd(desc_count) : -1;
	struct step *s;
	if (p < 0)
		return;
	switch (rnd(4)) {
	case 0:
		set_look(o);
		break;
	case 1:
		if (set->count) {
			int i = rnd(set->count);
			if (able(set->all[i].process))
				leave(o, i);
		}
		break;
	default:
		/* Members are older than the set, so no ring can come about. */
		if (!holds(p, d) || descs[d].object >= number_of(o) || set->count == MEMBERS)
			break;
		struct object *member = &objects[descs[d].object];
		if (!member->kind->readable || member->kind->readable(member, d) < 0)
			break;
		int copy = some_copy(p, d);
		for (int i = 0; i < set->count; i++)
			if (set->all[i].desc == d)
				return;
		s = by(p, some_thread(p), set->desc, run_enter, "enter");
		s->a = d;
		s->b = copy;
		s->c = rnd(1 << 30);
		set->all[set->count].process = p;
		set->all[set->count].desc = d;
		set->all[set->count].copy = copy;
		set->all[set->count++].data = s->c;
		procs[p].pinned[d]++;
		procs[p].pinned[set->desc]++;
	}
}

static void set_finish(struct object *o)
{
	struct set *set = o->state;
	set_look(o);
	while (set->count)
		leave(o, 0);
}

static const struct kind sets = { .name = "epoll set", .make = set_make, .act = set_act, .finish = set_finish, .readable = set_readable };
#endif
