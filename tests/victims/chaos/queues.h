/* What one end writes and the other reads: pipes, FIFOs, sockets, pseudo-terminals.
 *
 * One model for all. In a stream the bytes are one sequence; otherwise messages keep their bounds.
 * Both ends may be held by any processes, and Unix sockets carry descriptors of objects made before.
 */
#ifndef CHAOS_QUEUES_H
#define CHAOS_QUEUES_H
#include "channels.h"

#define NOTES 9
#define FLOW 70000

struct note {
	const unsigned char *data;
	size_t length;
	int rights;
	signed char right[RIGHTS];
};

/* What is to be read at one end. */
struct line {
	unsigned char *flow;
	size_t length;
	struct note notes[NOTES];
	int count, parts, shut;
};

struct queue {
	int desc[2];
	struct line at[2];
};

static int in_messages(const struct object *o)
{
	return o->variant >= SEQPACKET && o->variant <= UDP;
}

static int is_unix(const struct object *o)
{
	return o->variant >= STREAM && o->variant <= DGRAM;
}

static int two_ways(const struct object *o)
{
	return o->variant >= STREAM;
}

static int waits(const struct object *o, int end)
{
	const struct queue *q = o->state;
	return in_messages(o) ? q->at[end].count : q->at[end].length > 0;
}

static int queue_make(struct object *o, int p, int t)
{
	if (descs_left() < 2)
		return 0;
	struct queue *q = o->state = calloc(1, sizeof *q);
	for (int end = 0; end < 2; end++) {
		q->desc[end] = new_desc(o, end, p);
		q->at[end].flow = malloc(FLOW);
		descs[q->desc[end]].no_dup = o->variant == TTY;
	}
	struct step *s = emit(p, t, makers[o->variant], "make", number_of(o));
	s->a = q->desc[0];
	s->b = q->desc[1];
	s->c = o->variant;
	return 1;
}

static int closed(const struct object *o, int end)
{
	const struct queue *q = o->state;
	return !references(q->desc[end]);
}

/* Descriptors that p may put into a message of o. */
static int some_right(const struct object *o, int p)
{
	int found[DESCS], n = 0;
	for (int d = 0; d < desc_count; d++)
		if (holds(p, d) && descs[d].object < number_of(o) && !descs[d].no_dup && !descs[d].flying)
			found[n++] = d;
	return n ? found[rnd(n)] : -1;
}

static void queue_write(struct object *o, int end)
{
	struct queue *q = o->state;
	struct line *to = &q->at[1 - end];
	int d = q->desc[end], p = some_holder(d);
	if (p < 0 || (!two_ways(o) && end))
		return;
	int t = some_thread(p);
	if ((q->at[1 - end].shut && o->variant != DGRAM) || closed(o, 1 - end)) {
		/* What a connection over a network does then depends on the moment. */
		if (o->variant == TTY || o->variant == UDP || o->variant == TCP)
			return;
		/* A datagram socket loses, with its dead peer, what it has not read yet. */
		if (o->variant == DGRAM && waits(o, end))
			return;
		int connected = !q->at[end].shut;
		by(p, t, d, run_write_fails, "write in vain")->a = o->variant != DGRAM ? EPIPE : connected ? ECONNREFUSED : ENOTCONN;
		if (o->variant == DGRAM)
			q->at[end].shut = 1;
		return;
	}
	if (in_messages(o)) {
		if (to->count == NOTES)
			return;
		struct note *note = &to->notes[to->count++];
		*note = (struct note){ .length = rnd(1800) + 1 };
		note->data = fresh(note->length);
		struct step *s = by(p, t, d, run_send, "send");
		s->data = note->data;
		s->length = note->length;
		for (int i = rnd(2 * RIGHTS + 1); is_unix(o) && i > RIGHTS; i--) {
			int r = some_right(o, p);
			if (r < 0)
				break;
			s->kept[(int)s->rights] = some_copy(p, r);
			s->right[(int)s->rights++] = note->right[note->rights++] = r;
			descs[r].flying++;
		}
		return;
	}
	/* A part of a pipe's room is taken by each write, however small. */
	size_t length = chance(10) ? rnd(20000) + 1 : rnd(900) + 1;
	int parts = length / 4096 + 2;
	if (o->variant <= FIFO && !to->length && chance(8)) {
		length = 65536;
		parts = 16;
		to->parts = 0;
	}
	if (o->variant == TTY)
		length = length % 200 + 1;
	if (to->parts + parts > 16 || to->length + length > FLOW)
		return;
	to->parts += parts;
	struct step *s = by(p, t, d, run_write, "write");
	s->data = fresh(length);
	s->length = length;
	memcpy(to->flow + to->length, s->data, length);
	to->length += length;
	if (length == 65536) {
		s = by(p, t, d, run_room, "is it full");
		s->a = 0;
	}
}

static void take_rights(struct step *s, const struct note *note, int p)
{
	s->rights = note->rights;
	for (int i = 0; i < note->rights; i++) {
		int r = note->right[i], copy = procs[p].held[r][0] ? procs[p].held[r][1] ? 2 : 1 : 0;
		s->right[i] = r;
		s->kept[i] = copy;
		descs[r].flying--;
		if (copy < 2) {
			procs[p].held[r][copy] = 1;
			procs[p].cloexec[r][copy] = 0;
		} else
			release(r);
	}
}

/* Reads at one end: some of it, or all. */
static void read_by(struct object *o, int end, int p, int t, int all)
{
	struct queue *q = o->state;
	struct line *from = &q->at[end];
	int d = q->desc[end];
	if (in_messages(o)) {
		struct note note = from->notes[0];
		memmove(from->notes, from->notes + 1, --from->count * sizeof note);
		struct step *s = by(p, t, d, run_receive, "receive");
		s->data = note.data;
		s->length = note.length;
		take_rights(s, &note, p);
		return;
	}
	size_t length = all || chance(30) ? from->length : rnd(from->length) + 1;
	struct step *s = by(p, t, d, run_read, "read");
	s->data = kept(from->flow, length);
	s->length = length;
	memmove(from->flow, from->flow + length, from->length -= length);
	if (!from->length)
		from->parts = 0;
}

static void queue_drain(struct object *o, int d, int p, int t)
{
	int end = descs[d].end;
	while (waits(o, end))
		read_by(o, end, p, t, 1);
}

static void queue_look(struct object *o, int end)
{
	struct queue *q = o->state;
	int d = q->desc[end];
	if (!two_ways(o) && !end)
		return;
	if (waits(o, end)) {
		struct step *s = o->variant == TTY || o->variant == SEQPACKET ? NULL : on_desc(d, run_waiting, "how much waits");
		if (s)
			s->a = in_messages(o) ? (long)((struct queue *)o->state)->at[end].notes[0].length : (long)q->at[end].length;
		return;
	}
	if (closed(o, 1 - end) && o->variant != DGRAM && o->variant != UDP && o->variant != TTY)
		on_desc(d, run_end_of_file, "end of file");
	else if (q->at[end].shut && o->variant != DGRAM)
		on_desc(d, run_end_of_file, "end after shutdown");
	else if (!closed(o, 1 - end))
		on_desc(d, run_nothing, "nothing to read");
}

static void queue_act(struct object *o)
{
	struct queue *q = o->state;
	int end = rnd(2), p;
	switch (rnd(10)) {
	default:
		queue_write(o, end);
		break;
	case 5:
	case 6:
	case 7:
		p = some_holder(q->desc[end]);
		if (p >= 0 && waits(o, end))
			read_by(o, end, p, some_thread(p), 0);
		break;
	case 8:
		queue_look(o, end);
		break;
	case 9:
		if ((o->variant == STREAM || o->variant == SEQPACKET) && chance(15) && !q->at[1 - end].shut && !closed(o, 1 - end) &&
		    on_desc(q->desc[end], run_shutdown, "shutdown"))
			q->at[1 - end].shut = 1;
	}
}

static const char *tty_settle(struct object *o, int may_be_refused UNUSED)
{
	struct queue *q = o->state;
	for (int end = 0; end < 2; end++) {
		int p = some_holder(q->desc[end]);
		if (waits(o, end) && p >= 0)
			queue_drain(o, q->desc[end], p, some_thread(p));
		else if (waits(o, end))
			return "a terminal's program that nobody has read yet";
	}
	return NULL;
}

static void queue_finish(struct object *o)
{
	struct queue *q = o->state;
	for (int end = 0; end < 2; end++) {
		int p = some_holder(q->desc[end]);
		if (p < 0)
			continue;
		queue_look(o, end);
		queue_drain(o, q->desc[end], p, some_thread(p));
		queue_look(o, end);
		queue_write(o, end);
		int reader = some_holder(q->desc[1 - end]);
		if (reader >= 0)
			queue_drain(o, q->desc[1 - end], reader, some_thread(reader));
	}
}

static int queue_readable(const struct object *o, int d)
{
	int end = descs[d].end;
	const struct queue *q = o->state;
	if (o->variant == TTY || (!two_ways(o) && !end))
		return -1;
	return waits(o, end) || (q->at[end].shut && o->variant != DGRAM) || (closed(o, 1 - end) && o->variant != DGRAM && o->variant != UDP);
}

/* What a terminal's program has not read is lost with its master. */
static void queue_released(struct object *o, int d)
{
	struct queue *q = o->state;
	if (o->variant == TTY && !descs[d].end)
		q->at[1].length = 0;
}

/* The other end of a TCP connection that was closed at one end comes back as reset. */
static int tcp_stays(const struct object *o, int d, int p)
{
	const struct queue *q = o->state;
	int other = q->desc[1 - descs[d].end];
	return references(other) > holds(p, other);
}

#define QUEUE(id, text, settling, staying)                                                                   \
	static const struct kind id = { .name = text, .make = queue_make, .act = queue_act, .settle = settling, .finish = queue_finish, .drain = queue_drain, .released = queue_released, .stays = staying, .readable = queue_readable }
QUEUE(pipes, "pipe", NULL, NULL);
QUEUE(fifos, "named pipe", NULL, NULL);
QUEUE(streams, "Unix stream sockets", NULL, NULL);
QUEUE(seqpackets, "Unix seqpacket sockets", NULL, NULL);
QUEUE(datagrams, "Unix datagram sockets", NULL, NULL);
QUEUE(udps, "UDP sockets", NULL, NULL);
QUEUE(tcps, "TCP connection", NULL, tcp_stays);
QUEUE(ttys, "pseudo-terminal", tty_settle, NULL);
#endif
