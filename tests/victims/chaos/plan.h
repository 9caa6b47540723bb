/* The plan: one ordered list of steps, simulated from the seed before the first fork.
 *
 * All processes inherit it in memory. What a step expects was computed by the simulation, so that
 * whoever executes it needs to ask nobody.
 */
#ifndef CHAOS_PLAN_H
#define CHAOS_PLAN_H
#include "../victim.h"

#define PROCS 10
#define THREADS 3
#define OBJECTS 26
#define DESCS 96
#define STEPS 6000
#define RIGHTS 3
/* Room for the bytes that steps write and expect. */
#define ARENA (24u << 20)

struct step {
	void (*run)(const struct step *);
	const char *name;
	short process, thread, object, desc, copy;
	/* Descriptions in a message, and in which copy the receiver keeps them (2: closes them). */
	signed char rights, right[RIGHTS], kept[RIGHTS];
	long a, b, c;
	const unsigned char *data;
	size_t length;
};

/* A process as the simulation sees it. */
struct process {
	enum { UNBORN, ALIVE, ZOMBIE, COLLECTED } state;
	int parent, group, session, status, reaper, stopped, told;
	unsigned threads;
	/* Which descriptions it holds, each up to twice, with the close-on-exec flags. */
	unsigned char held[DESCS][2], cloexec[DESCS][2];
	/* Descriptors that must stay, as an epoll set knows them by process and number. */
	unsigned char pinned[DESCS];
	unsigned mask_of_files;
};

struct object;

/* A kind of object. All functions but `make` may be missing. */
struct kind {
	const char *name;
	/* Makes it in process p, thread t; 0 if it cannot be had. */
	int (*make)(struct object *, int p, int t);
	/* Something random by somebody. */
	void (*act)(struct object *);
	/* Brings it to where it can be dumped; or says what the dumper will say. */
	const char *(*settle)(struct object *, int may_be_refused);
	/* Verifies all of it, and empties it. */
	void (*finish)(struct object *);
	/* A process (with thread t at work) is about to give its last hold of the last reference. */
	void (*drain)(struct object *, int desc, int p, int t);
	/* Whether p may not give away the last reference. */
	int (*stays)(const struct object *, int desc, int p);
	/* Where there is `stays`: whether the last descriptor may be closed by itself. */
	int (*leaves)(const struct object *, int desc, int p);
	/* Nobody holds the description any more. */
	void (*released)(struct object *, int desc);
	void (*forked)(struct object *, int parent, int child);
	void (*ended)(struct object *, int p);
	/* Whether poll(2) finds something to read: 1, 0, or -1 where epoll does not take it. */
	int (*readable)(const struct object *, int desc);
};

struct object {
	const struct kind *kind;
	int variant;
	void *state;
};

/* An open file description. Some go into no message, some are closed by an end alone. */
struct desc {
	int object, end, flying, nonblock, no_dup, no_close;
};

static uint64_t seed;
/* Much more than by others happens by processes that start, end, and take in orphans. */
static int single, families;
static struct step *steps;
static int step_count;
static struct process procs[PROCS];
static struct object objects[OBJECTS];
static struct desc descs[DESCS];
static int proc_count, object_count, desc_count;
static unsigned char *arena;
static size_t arena_used;

static uint64_t dice;

/* A number below `limit`. */
static unsigned rnd(unsigned limit)
{
	dice = mix(dice);
	return limit ? (dice >> 16) % limit : 0;
}

static int chance(unsigned percent)
{
	return rnd(100) < percent;
}

static void *room(size_t size)
{
	size_t at = (arena_used + 15) & ~(size_t)15;
	if (at + size > ARENA)
		FAIL("seed %llu needs more than %u bytes of plan", (unsigned long long)seed, ARENA);
	arena_used = at + size;
	return arena + at;
}

/* A copy that the steps may point to. */
static const unsigned char *kept(const void *bytes, size_t length)
{
	return memcpy(room(length + 1), bytes, length);
}

/* Fresh random bytes. */
static const unsigned char *fresh(size_t length)
{
	unsigned char *bytes = room(length + 8);
	uint64_t x = dice = mix(dice);
	for (size_t i = 0; i < length; i += 8) {
		x = mix(x);
		memcpy(bytes + i, &x, 8);
	}
	return bytes;
}

static struct step *emit(int p, int t, void (*run)(const struct step *), const char *name, int object)
{
	if (step_count == STEPS)
		FAIL("seed %llu has more than %d steps", (unsigned long long)seed, STEPS);
	struct step *s = &steps[step_count++];
	*s = (struct step){ .run = run, .name = name, .process = p, .thread = t, .object = object, .desc = -1 };
	return s;
}

static int number_of(const struct object *o)
{
	return o - objects;
}

static int able(int p)
{
	return procs[p].state == ALIVE && !procs[p].stopped;
}

static int some_stopped(void)
{
	for (int p = 0; p < proc_count; p++)
		if (procs[p].state == ALIVE && procs[p].stopped)
			return 1;
	return 0;
}

static int some_thread(int p)
{
	int t;
	do
		t = rnd(THREADS);
	while (!(procs[p].threads & 1u << t));
	return t;
}

/* Somebody who can act. */
static int some_process(void)
{
	int p;
	do
		p = rnd(proc_count);
	while (!able(p));
	return p;
}

static int holds(int p, int d)
{
	return procs[p].held[d][0] + procs[p].held[d][1];
}

/* How many descriptors of it there are, those in messages included. */
static int references(int d)
{
	int n = descs[d].flying;
	for (int p = 0; p < proc_count; p++)
		if (procs[p].state == ALIVE)
			n += holds(p, d);
	return n;
}

static int some_copy(int p, int d)
{
	return procs[p].held[d][0] && procs[p].held[d][1] ? (int)rnd(2) : procs[p].held[d][1];
}

/* Somebody able to act who holds the description; -1 if nobody does. */
static int some_holder(int d)
{
	int found[PROCS], n = 0;
	for (int p = 0; p < proc_count; p++)
		if (able(p) && holds(p, d))
			found[n++] = p;
	return n ? found[rnd(n)] : -1;
}

/* A step on a description by somebody who holds it; null if nobody can. */
static struct step *on_desc(int d, void (*run)(const struct step *), const char *name)
{
	int p = some_holder(d);
	if (p < 0)
		return NULL;
	struct step *s = emit(p, some_thread(p), run, name, descs[d].object);
	s->desc = d;
	s->copy = some_copy(p, d);
	return s;
}

/* The same by a process that is known to hold it. */
static struct step *by(int p, int t, int d, void (*run)(const struct step *), const char *name)
{
	struct step *s = emit(p, t, run, name, descs[d].object);
	s->desc = d;
	s->copy = some_copy(p, d);
	return s;
}

static int descs_left(void)
{
	/* Some are kept for connections that wait to be accepted. */
	return DESCS - 16 - desc_count > 0 ? DESCS - 16 - desc_count : 0;
}

/* A new description, held by p. */
static int new_desc(const struct object *o, int end, int p)
{
	int d = desc_count++;
	descs[d] = (struct desc){ .object = number_of(o), .end = end };
	procs[p].held[d][0] = 1;
	return d;
}

static int must_stay(int p, int d)
{
	const struct object *o = &objects[descs[d].object];
	return holds(p, d) && o->kind->stays && o->kind->stays(o, d, p);
}

static void release(int d)
{
	struct object *o = &objects[descs[d].object];
	if (!references(d) && o->kind->released)
		o->kind->released(o, d);
}

/* Before p closes what may be the last descriptor. */
static void before_close(int p, int t, int d)
{
	struct object *o = &objects[descs[d].object];
	if (references(d) == 1 && o->kind->drain)
		o->kind->drain(o, d, p, t);
}
#endif
