/* Locks on files: of descriptions (flock, OFD) and of processes (POSIX). Whoever tries must be let in
 * or kept out as the simulation says. */
#ifndef CHAOS_LOCKS_H
#define CHAOS_LOCKS_H
#include "turn.h"
#include <sys/file.h>

#define LOCK_OPENINGS 3
#define RANGES 3

struct locks {
	int desc[LOCK_OPENINGS], count;
	/* LOCK_SH, LOCK_EX or 0 of each opening; lock types (plus 1) of each range for each opening. */
	int whole[LOCK_OPENINGS], range[RANGES][LOCK_OPENINGS];
};

/* Of processes, all by one opening. */
struct records {
	int desc;
	int range[RANGES][PROCS];
};

static void run_open_lock(const struct step *s)
{
	char name[40];
	snprintf(name, sizeof name, "lock%d", s->object);
	fds[s->a][0] = DO(s, open(name, O_RDWR | O_CREAT, 0666));
}

static void run_flock(const struct step *s)
{
	int n = flock(fd_of(s), (int)s->a | LOCK_NB);
	EXPECT(s, "errno of flock", n ? errno : 0, s->b);
}

static struct flock lock_of(const struct step *s)
{
	return (struct flock){ .l_type = s->a, .l_whence = SEEK_SET, .l_start = s->b * 10, .l_len = 10 };
}

static void run_lock(const struct step *s)
{
	struct flock lock = lock_of(s);
	int n = fcntl(fd_of(s), s->rights ? F_SETLK : F_OFD_SETLK, &lock);
	/* Either of the two errors tells of another's lock. */
	int found = n ? errno == EACCES ? EAGAIN : errno : 0;
	EXPECT(s, "errno of a lock", found, s->c);
}

/* Who stands in the way of a lock for writing. */
static void run_ask_lock(const struct step *s)
{
	struct flock lock = lock_of(s);
	DO(s, fcntl(fd_of(s), s->rights ? F_GETLK : F_OFD_GETLK, &lock));
	EXPECT(s, "type of the lock in the way", lock.l_type, s->c);
	if (s->rights && s->length)
		EXPECT(s, "its owner", lock.l_pid, control->tids[s->length][0]);
}

static void open_lock(struct object *o, int p, int t)
{
	struct locks *l = o->state;
	if (l->count == LOCK_OPENINGS || !descs_left())
		return;
	int end = l->count++;
	l->desc[end] = new_desc(o, end, p);
	emit(p, t, run_open_lock, "open", number_of(o))->a = l->desc[end];
}

static int locks_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	o->state = calloc(1, sizeof(struct locks));
	open_lock(o, p, t);
	return 1;
}

/* The strongest lock of others: 0, F_RDLCK + 1 or F_WRLCK + 1. */
static int others(const int *held, int count, int who, int *one)
{
	int found = 0, n = 0;
	for (int i = 0; i < count; i++)
		if (i != who && held[i]) {
			found = held[i];
			n++;
			*one = i;
		}
	if (n != 1)
		*one = 0;
	return found;
}

static void range_act(struct step *s, int *held, int count, int who, int range, int posix)
{
	int one, in_the_way = others(held, count, who, &one);
	s->b = range;
	s->rights = posix;
	if (s->run == run_ask_lock) {
		s->a = F_WRLCK;
		s->c = in_the_way ? in_the_way - 1 : F_UNLCK;
		s->length = one;
	} else if (held[who]) {
		s->a = F_UNLCK;
		held[who] = 0;
	} else {
		s->a = chance(50) ? F_RDLCK : F_WRLCK;
		if (in_the_way && (s->a == F_WRLCK || in_the_way == F_WRLCK + 1))
			s->c = EAGAIN;
		else
			held[who] = s->a + 1;
	}
}

static void locks_act(struct object *o)
{
	struct locks *l = o->state;
	int end = rnd(l->count), d = l->desc[end], p = some_holder(d), one;
	struct step *s;
	if (p < 0)
		return;
	switch (rnd(6)) {
	case 0:
		open_lock(o, p, some_thread(p));
		break;
	case 1:
	case 2:
		s = by(p, some_thread(p), d, run_flock, "flock");
		if (l->whole[end]) {
			s->a = LOCK_UN;
			l->whole[end] = 0;
			break;
		}
		s->a = chance(50) ? LOCK_SH : LOCK_EX;
		int there = others(l->whole, l->count, end, &one);
		if (there && (s->a == LOCK_EX || there == LOCK_EX))
			s->b = EWOULDBLOCK;
		else
			l->whole[end] = s->a;
		break;
	default:
		one = rnd(RANGES);
		s = by(p, some_thread(p), d, chance(40) ? run_ask_lock : run_lock, "OFD lock");
		range_act(s, l->range[one], l->count, end, one, 0);
	}
}

static void locks_released(struct object *o, int d)
{
	struct locks *l = o->state;
	l->whole[descs[d].end] = 0;
	for (int i = 0; i < RANGES; i++)
		l->range[i][descs[d].end] = 0;
}

static void locks_finish(struct object *o)
{
	for (int i = 0; i < 12; i++)
		locks_act(o);
}

static int records_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	struct records *r = o->state = calloc(1, sizeof *r);
	r->desc = new_desc(o, 0, p);
	/* To close any descriptor of the file is to give up the locks. */
	descs[r->desc].no_dup = descs[r->desc].no_close = 1;
	emit(p, t, run_open_lock, "open", number_of(o))->a = r->desc;
	return 1;
}

static void records_act(struct object *o)
{
	struct records *r = o->state;
	int p = some_holder(r->desc), range = rnd(RANGES);
	if (p < 0)
		return;
	struct step *s = by(p, some_thread(p), r->desc, chance(40) ? run_ask_lock : run_lock, "POSIX lock");
	range_act(s, r->range[range], PROCS, p, range, 1);
}

static void records_ended(struct object *o, int p)
{
	struct records *r = o->state;
	for (int i = 0; i < RANGES; i++)
		r->range[i][p] = 0;
}

static void records_finish(struct object *o)
{
	for (int i = 0; i < 12; i++)
		records_act(o);
}

static const struct kind file_locks = { .name = "locks of descriptions", .make = locks_make, .act = locks_act, .finish = locks_finish, .released = locks_released };
static const struct kind record_locks = { .name = "locks of processes", .make = records_make, .act = records_act, .finish = records_finish, .ended = records_ended };
#endif
