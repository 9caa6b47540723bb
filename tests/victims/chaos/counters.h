/* eventfds and timerfds. */
#ifndef CHAOS_COUNTERS_H
#define CHAOS_COUNTERS_H
#include "turn.h"
#include <sys/eventfd.h>
#include <sys/timerfd.h>

struct counter {
	int desc;
	uint64_t value;
	/* Of a timer: seconds it was set to run for, when that is far away; or expired already. */
	long runs, interval;
};

static void run_make_event(const struct step *s)
{
	fds[s->a][0] = DO(s, eventfd(s->b, s->c ? EFD_SEMAPHORE : 0));
}

static void run_add(const struct step *s)
{
	uint64_t value = s->a;
	EXPECT(s, "bytes written", DO(s, write(fd_of(s), &value, 8)), 8);
}

static void run_take(const struct step *s)
{
	struct pollfd p = { .fd = fd_of(s), .events = POLLIN };
	uint64_t value = 0;
	EXPECT(s, "whether something can be taken", DO(s, poll(&p, 1, s->a ? 5000 : 0)), !!s->a);
	if (!s->a)
		return;
	EXPECT(s, "bytes read", DO(s, read(fd_of(s), &value, 8)), 8);
	EXPECT(s, "value", value, s->a);
}

static void run_make_timer(const struct step *s)
{
	fds[s->a][0] = DO(s, timerfd_create(s->b ? CLOCK_REALTIME : CLOCK_MONOTONIC, 0));
}

static void run_set_timer(const struct step *s)
{
	struct itimerspec set = { .it_value = { s->a, s->a ? 0 : s->b }, .it_interval = { s->c, 0 } };
	DO(s, timerfd_settime(fd_of(s), 0, &set, NULL));
	struct pollfd p = { .fd = fd_of(s), .events = POLLIN };
	if (!s->a && s->b)
		EXPECT(s, "expiry at once", DO(s, poll(&p, 1, 5000)), 1);
}

static void run_look_timer(const struct step *s)
{
	struct itimerspec now;
	DO(s, timerfd_gettime(fd_of(s), &now));
	EXPECT(s, "interval", now.it_interval.tv_sec, s->c);
	/* Nothing takes ten minutes here. */
	if (s->a && (now.it_value.tv_sec > s->a || now.it_value.tv_sec < s->a - 600))
		WRONG(s, "expected at most %ld s to remain, found %ld", s->a, (long)now.it_value.tv_sec);
	if (!s->a)
		EXPECT(s, "the time that remains", now.it_value.tv_sec, 0);
}

static int event_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	struct counter *c = o->state = calloc(1, sizeof *c);
	o->variant = rnd(2);
	c->desc = new_desc(o, 0, p);
	c->value = rnd(5);
	struct step *s = emit(p, t, run_make_event, "make", number_of(o));
	s->a = c->desc;
	s->b = c->value;
	s->c = o->variant;
	return 1;
}

static void event_take(struct object *o)
{
	struct counter *c = o->state;
	struct step *s = on_desc(c->desc, run_take, "take");
	if (!s)
		return;
	s->a = c->value && o->variant ? 1 : c->value;
	c->value -= s->a;
}

static void event_act(struct object *o)
{
	struct counter *c = o->state;
	struct step *s = chance(50) ? on_desc(c->desc, run_add, "add") : NULL;
	if (!s)
		event_take(o);
	else
		c->value += s->a = rnd(1000) + 1;
}

static void event_finish(struct object *o)
{
	event_take(o);
}

static int counter_readable(const struct object *o, int d UNUSED)
{
	return ((struct counter *)o->state)->value > 0;
}

static int timer_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	struct counter *c = o->state = calloc(1, sizeof *c);
	c->desc = new_desc(o, 0, p);
	struct step *s = emit(p, t, run_make_timer, "make", number_of(o));
	s->a = c->desc;
	s->b = rnd(2);
	return 1;
}

static void timer_look(struct object *o)
{
	struct counter *c = o->state;
	struct step *s = on_desc(c->desc, run_look_timer, "look");
	if (!s)
		return;
	s->a = c->runs;
	s->c = c->interval;
}

static void timer_act(struct object *o)
{
	struct counter *c = o->state;
	struct step *s;
	switch (rnd(4)) {
	case 0:
		if (!(s = on_desc(c->desc, run_set_timer, "set")))
			return;
		c->runs = c->interval = c->value = 0;
		switch (rnd(3)) {
		case 0:
			s->a = c->runs = 5000 + rnd(5000);
			s->c = c->interval = rnd(2) ? 7000 : 0;
			break;
		case 1:
			s->b = 1;
			c->value = 1;
		}
		break;
	case 1:
	case 2:
		timer_look(o);
		break;
	default:
		if (!(s = on_desc(c->desc, run_take, "take")))
			return;
		s->a = c->value;
		c->value = 0;
	}
}

static void timer_finish(struct object *o)
{
	timer_look(o);
	struct step *s = on_desc(((struct counter *)o->state)->desc, run_take, "take");
	if (s) {
		s->a = ((struct counter *)o->state)->value;
		((struct counter *)o->state)->value = 0;
	}
}

static const struct kind eventfds = { .name = "eventfd", .make = event_make, .act = event_act, .finish = event_finish, .readable = counter_readable };
static const struct kind timerfds = { .name = "timerfd", .make = timer_make, .act = timer_act, .finish = timer_finish, .readable = counter_readable };
#endif
