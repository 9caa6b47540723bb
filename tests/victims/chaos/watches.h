/* What tells of events: inotify, and signalfds. */
#ifndef CHAOS_WATCHES_H
#define CHAOS_WATCHES_H
#include "signals.h"
#include <sys/inotify.h>
#include <sys/signalfd.h>

struct watch {
	int desc, files;
};

static void run_make_watch(const struct step *s)
{
	char name[40];
	snprintf(name, sizeof name, "watched%d", s->object);
	DO(s, mkdir(name, 0777));
	fds[s->a][0] = DO(s, inotify_init1(0));
	control->values[s->object] = DO(s, inotify_add_watch(fds[s->a][0], name, IN_CREATE | IN_DELETE));
}

static void run_touch(const struct step *s)
{
	char name[60];
	snprintf(name, sizeof name, "watched%d/%ld", s->object, s->a);
	DO(s, close(DO(s, open(name, O_CREAT | O_EXCL | O_WRONLY, 0666))));
}

static void run_notice(const struct step *s)
{
	struct { struct inotify_event event; char name[300]; } found;
	struct pollfd p = { .fd = fd_of(s), .events = POLLIN };
	EXPECT(s, "whether an event is there", DO(s, poll(&p, 1, 5000)), 1);
	DO(s, read(fd_of(s), &found, sizeof found));
	EXPECT(s, "what happened", found.event.mask, IN_CREATE);
	EXPECT(s, "the watch", found.event.wd, control->values[s->object]);
	EXPECT(s, "the name", atol(found.event.name), s->a);
	EXPECT(s, "further events", DO(s, poll(&p, 1, 0)), 0);
}

static int watch_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	struct watch *w = o->state = calloc(1, sizeof *w);
	w->desc = new_desc(o, 0, p);
	emit(p, t, run_make_watch, "make", number_of(o))->a = w->desc;
	return 1;
}

/* An event that is not read would be lost by a dump, so it is read at once. */
static void watch_act(struct object *o)
{
	struct watch *w = o->state;
	int reader = some_holder(w->desc), p = some_process();
	if (reader < 0)
		return;
	emit(p, some_thread(p), run_touch, "make a file", number_of(o))->a = ++w->files;
	by(reader, some_thread(reader), w->desc, run_notice, "notice")->a = w->files;
}

struct listening {
	int desc, number;
};

static void run_make_signalfd(const struct step *s)
{
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + s->b);
	fds[s->a][0] = DO(s, signalfd(-1, &mask, 0));
}

static void run_hear(const struct step *s)
{
	struct signalfd_siginfo info;
	struct pollfd p = { .fd = fd_of(s), .events = POLLIN };
	EXPECT(s, "whether a signal waits", DO(s, poll(&p, 1, 0)), s->b >= 0);
	if (s->b < 0)
		return;
	EXPECT(s, "bytes read", DO(s, read(fd_of(s), &info, sizeof info)), sizeof info);
	EXPECT(s, "the signal", info.ssi_signo, SIGRTMIN + s->a);
	EXPECT(s, "its value", info.ssi_int, s->c);
	if (!single)
		EXPECT(s, "its sender", info.ssi_pid, control->tids[s->b][0]);
}

static int listening_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	struct listening *l = o->state = calloc(1, sizeof *l);
	l->desc = new_desc(o, 0, p);
	l->number = rnd(NUMBERS);
	struct step *s = emit(p, t, run_make_signalfd, "make", number_of(o));
	s->a = l->desc;
	s->b = l->number;
	return 1;
}

static void listening_act(struct object *o)
{
	struct listening *l = o->state;
	int p = some_holder(l->desc);
	if (p < 0)
		return;
	int t = some_thread(p);
	next_signal(by(p, t, l->desc, run_hear, "hear"), p, t, l->number);
}

static const struct kind watches = { .name = "inotify", .make = watch_make, .act = watch_act, .finish = watch_act };
static const struct kind signalfds = { .name = "signalfd", .make = listening_make, .act = listening_act, .finish = listening_act };
#endif
