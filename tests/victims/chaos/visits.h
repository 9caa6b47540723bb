/* Listening sockets, at a path, under an abstract name or at a port, and who comes to them. Unix
 * connections may wait unaccepted, and one end may be closed while the other goes on; TCP's, which a
 * dump would reset, are accepted at once. */
#ifndef CHAOS_VISITS_H
#define CHAOS_VISITS_H
#include "channels.h"
#include "descriptors.h"
#include "queues.h"
#include <stddef.h>

enum { AT_PATH, ABSTRACT, AT_PORT };
#define VISITORS 4

struct visits {
	int desc, count;
	/* Descriptions of the two ends; the second is -1 while the visitor waits. */
	int client[VISITORS], server[VISITORS];
	/* What was said to the client, and to the server, before the other end was closed. */
	struct note last[VISITORS][2];
};

static socklen_t door(const struct step *s, struct sockaddr_storage *address)
{
	memset(address, 0, sizeof *address);
	if (s->c == AT_PORT) {
		struct sockaddr_in *in = (void *)address;
		*in = own_address();
		in->sin_port = htons(control->values[s->object]);
		return sizeof *in;
	}
	struct sockaddr_un *un = (void *)address;
	un->sun_family = AF_UNIX;
	int n = s->c == AT_PATH ? snprintf(un->sun_path, 100, "door%d", s->object) :
				  1 + snprintf(un->sun_path + 1, 99, "chaos-%d-%d", control->tids[0][0], s->object);
	return offsetof(struct sockaddr_un, sun_path) + n;
}

static void run_listen(const struct step *s)
{
	struct sockaddr_storage address;
	socklen_t size = door(s, &address);
	int fd = DO(s, socket(address.ss_family, SOCK_STREAM, 0));
	if (s->c == AT_PORT)
		/* As servers do: without it, the address is in use for a minute after a connection. */
		DO(s, setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	DO(s, bind(fd, (void *)&address, size));
	DO(s, listen(fd, VISITORS));
	if (s->c == AT_PORT) {
		DO(s, getsockname(fd, (void *)&address, &size));
		control->values[s->object] = ntohs(((struct sockaddr_in *)&address)->sin_port);
	}
	fds[s->a][0] = fd;
}

static void run_visit(const struct step *s)
{
	struct sockaddr_storage address;
	socklen_t size = door(s, &address);
	int fd = DO(s, socket(address.ss_family, SOCK_STREAM, 0));
	struct sockaddr_in own = own_address();
	if (s->c == AT_PORT)
		DO(s, bind(fd, (void *)&own, sizeof own));
	DO(s, connect(fd, (void *)&address, size));
	fds[s->a][0] = fd;
}

static void run_let_in(const struct step *s)
{
	must_be_readable(s);
	fds[s->a][0] = DO(s, accept(fd_of(s), NULL, NULL));
}

static int visits_make(struct object *o, int p, int t)
{
	if (!descs_left())
		return 0;
	struct visits *v = o->state = calloc(1, sizeof *v);
	v->desc = new_desc(o, 0, p);
	/* Who waits for a listening socket in a message cannot be seen to belong to the tree. */
	descs[v->desc].no_dup = 1;
	struct step *s = emit(p, t, run_listen, "listen", number_of(o));
	s->a = v->desc;
	s->c = o->variant;
	return 1;
}

/* Whoever has waited longest. */
static int let_in(struct object *o)
{
	struct visits *v = o->state;
	int p = some_holder(v->desc), i = 0;
	while (i < v->count && v->server[i] >= 0)
		i++;
	if (i == v->count || p < 0 || desc_count == DESCS)
		return 0;
	struct step *s = by(p, some_thread(p), v->desc, run_let_in, "accept");
	s->a = v->server[i] = new_desc(o, 2 + 2 * i, p);
	descs[v->client[i]].no_dup = 0;
	return 1;
}

static void visit(struct object *o)
{
	struct visits *v = o->state;
	int p = some_process();
	/* One description more is for the end that is accepted, and for those that wait already. */
	if (v->count == VISITORS || descs_left() < 2 * VISITORS || some_holder(v->desc) < 0)
		return;
	struct step *s = emit(p, some_thread(p), run_visit, "connect", number_of(o));
	s->a = v->client[v->count] = new_desc(o, 1 + 2 * v->count, p);
	s->c = o->variant;
	descs[s->a].no_dup = 1;
	v->server[v->count++] = -1;
	if (o->variant == AT_PORT)
		let_in(o);
}

static void talk(struct object *o, int i, int back)
{
	struct visits *v = o->state;
	if (v->server[i] < 0)
		return;
	int from = back ? v->server[i] : v->client[i], to = back ? v->client[i] : v->server[i];
	int p = some_holder(from), q = some_holder(to);
	if (p < 0 || q < 0)
		return;
	struct step *s = by(p, some_thread(p), from, run_write, "talk");
	s->length = rnd(300) + 1;
	s->data = fresh(s->length);
	struct step *r = by(q, some_thread(q), to, run_read, "listen to");
	r->length = s->length;
	r->data = s->data;
}

/* One end says something and is closed. */
static void part(struct object *o, int i, int back)
{
	struct visits *v = o->state;
	int from = back ? v->server[i] : v->client[i], to = back ? v->client[i] : v->server[i];
	if (o->variant == AT_PORT || from < 0 || to < 0 || references(from) != 1 || !references(to))
		return;
	int p = some_holder(from);
	if (p < 0 || procs[p].pinned[from] || descs[from].no_close)
		return;
	int t = some_thread(p);
	struct note *last = &v->last[i][!back];
	struct step *s = by(p, t, from, run_write, "part");
	s->length = last->length = rnd(300) + 1;
	s->data = last->data = fresh(s->length);
	s = by(p, t, from, run_close, "leave");
	procs[p].held[from][s->copy] = 0;
	release(from);
}

/* Whoever looks at one end finds that the other is closed, or that nothing is there. */
static void look(struct object *o, int i, int back)
{
	struct visits *v = o->state;
	int here = back ? v->server[i] : v->client[i], there = back ? v->client[i] : v->server[i];
	if (here < 0 || there < 0)
		return;
	struct note *last = &v->last[i][back];
	if (references(there))
		on_desc(here, run_nothing, "nothing to hear");
	else if (last->length) {
		struct step *s = on_desc(here, run_read, "last words");
		if (s) {
			s->length = last->length;
			s->data = last->data;
			last->length = 0;
		}
	} else
		on_desc(here, run_end_of_file, "the other has left");
}

static void visits_act(struct object *o)
{
	struct visits *v = o->state;
	int p = some_holder(v->desc);
	switch (rnd(6)) {
	case 3:
		if (v->count)
			part(o, rnd(v->count), rnd(2));
		break;
	case 2:
		if (v->count)
			look(o, rnd(v->count), rnd(2));
		break;
	case 0:
		visit(o);
		break;
	case 1:
		if (!let_in(o) && p >= 0)
			by(p, some_thread(p), v->desc, run_nothing, "nobody waits");
		break;
	default:
		if (v->count)
			talk(o, rnd(v->count), rnd(2));
	}
}

static void visits_finish(struct object *o)
{
	struct visits *v = o->state;
	while (let_in(o))
		;
	for (int i = 0; i < v->count; i++)
		for (int back = 0; back < 2; back++) {
			look(o, i, back);
			talk(o, i, back);
		}
}

/* Who waits must find somebody. TCP connections stay whole: one end alone would come back as reset. */
static int visits_stay(const struct object *o, int d, int p)
{
	const struct visits *v = o->state;
	int end = descs[d].end, i = (end - 1) / 2, waiting = 0;
	for (int k = 0; k < v->count; k++)
		waiting |= v->server[k] < 0 && references(v->client[k]);
	if (!end)
		return o->variant == AT_PORT ? v->count > 0 : waiting;
	int other = end % 2 ? v->server[i] : v->client[i];
	return o->variant == AT_PORT && (other < 0 || references(other) > holds(p, other));
}

/* One end, or the listening socket, may be closed while the rest goes on. */
static int visits_leave(const struct object *o, int d, int p)
{
	return o->variant != AT_PORT && !visits_stay(o, d, p);
}

static const struct kind listeners = { .name = "listening socket", .make = visits_make, .act = visits_act, .finish = visits_finish, .stays = visits_stay, .leaves = visits_leave };
#endif
