/* POSIX message queues: what waits is ordered by priority. A dump refuses one in which something waits. */
#ifndef CHAOS_POSTS_H
#define CHAOS_POSTS_H
#include "turn.h"
#include <mqueue.h>

#define POSTS 6
#define POST 100

struct posts {
	int desc, count;
	struct { unsigned priority; const unsigned char *data; size_t length; } all[POSTS];
};

static void post_name(int object, char *text, size_t size)
{
	snprintf(text, size, "/chaos-%d-%d", control->tids[0][0], object);
}

static void run_make_posts(const struct step *s)
{
	char name[60];
	struct mq_attr sizes = { .mq_maxmsg = POSTS, .mq_msgsize = POST };
	post_name(s->object, name, sizeof name);
	/* A test that was ended may have left one, and pids come again. */
	mq_unlink(name);
	fds[s->a][0] = DO(s, mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &sizes));
}

static void run_mq_send(const struct step *s)
{
	DO(s, mq_send(fd_of(s), (const char *)s->data, s->length, s->a));
}

static void run_mq_receive(const struct step *s)
{
	char found[POST];
	unsigned priority;
	struct mq_attr now;
	DO(s, mq_getattr(fd_of(s), &now));
	EXPECT(s, "messages", now.mq_curmsgs, s->b);
	same_bytes(s, found, DO(s, mq_receive(fd_of(s), found, sizeof found, &priority)));
	EXPECT(s, "priority", priority, s->a);
}

static void run_mq_empty(const struct step *s)
{
	struct mq_attr now;
	DO(s, mq_getattr(fd_of(s), &now));
	EXPECT(s, "messages", now.mq_curmsgs, 0);
}

static void run_mq_unlink(const struct step *s)
{
	char name[60];
	post_name(s->object, name, sizeof name);
	DO(s, mq_unlink(name));
}

static int posts_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	struct posts *all = o->state = calloc(1, sizeof *all);
	all->desc = new_desc(o, 0, p);
	descs[all->desc].no_close = 1;
	/* As mq_open makes it. */
	procs[p].cloexec[all->desc][0] = 1;
	emit(p, t, run_make_posts, "make", number_of(o))->a = all->desc;
	return 1;
}

static int receive_post(struct object *o)
{
	struct posts *all = o->state;
	struct step *s = on_desc(all->desc, run_mq_receive, "mq_receive");
	if (!s)
		return 0;
	int best = 0;
	for (int i = 1; i < all->count; i++)
		if (all->all[i].priority > all->all[best].priority)
			best = i;
	s->a = all->all[best].priority;
	s->b = all->count;
	s->data = all->all[best].data;
	s->length = all->all[best].length;
	memmove(all->all + best, all->all + best + 1, (--all->count - best) * sizeof all->all[0]);
	return 1;
}

static void posts_act(struct object *o)
{
	struct posts *all = o->state;
	struct step *s;
	if (all->count && chance(40)) {
		receive_post(o);
		return;
	}
	if (all->count == POSTS || !(s = on_desc(all->desc, run_mq_send, "mq_send")))
		return;
	all->all[all->count].priority = s->a = rnd(3);
	all->all[all->count].length = s->length = rnd(POST) + 1;
	all->all[all->count++].data = s->data = fresh(s->length);
}

static const char *posts_settle(struct object *o, int may_be_refused)
{
	struct posts *all = o->state;
	int keep = may_be_refused && chance(30);
	while (all->count && !keep && receive_post(o))
		;
	return all->count && references(all->desc) ? "is a POSIX message queue in which" : NULL;
}

static void posts_finish(struct object *o)
{
	struct posts *all = o->state;
	while (all->count && receive_post(o))
		;
	if (!all->count)
		on_desc(all->desc, run_mq_empty, "is it empty");
	emit(0, 0, run_mq_unlink, "mq_unlink", number_of(o));
}

static const struct kind posts = { .name = "POSIX messages", .make = posts_make, .act = posts_act, .settle = posts_settle, .finish = posts_finish };
#endif
