//#Modes: none
//#Flags: -O1 -lutil -lrt
// A random tree of processes with random shared objects, which verify each other. All of it follows
// from a seed: chaos SEED [single | left]. The parts are in chaos/, one subject each.
#include "chaos/plan.h"
#include "chaos/turn.h"
#include "chaos/family.h"
#include "chaos/signals.h"
#include "chaos/descriptors.h"
#include "chaos/channels.h"
#include "chaos/queues.h"
#include "chaos/visits.h"
#include "chaos/files.h"
#include "chaos/memory.h"
#include "chaos/counters.h"
#include "chaos/sets.h"
#include "chaos/locks.h"
#include "chaos/watches.h"
#include "chaos/sysv.h"
#include "chaos/posts.h"

static const struct { const struct kind *kind; int variant; } kinds[] = {
	{ &pipes, PIPE }, { &pipes, PIPE }, { &fifos, FIFO }, { &streams, STREAM }, { &seqpackets, SEQPACKET },
	{ &datagrams, DGRAM }, { &udps, UDP }, { &tcps, TCP }, { &ttys, TTY }, { &files, 0 }, { &files, 0 },
	{ &anonymous_memory, ANONYMOUS }, { &memfds, MEMFD }, { &shm_memory, SHM }, { &mapped_files, MAPPED },
	{ &own_memory, OWN }, { &eventfds, 0 }, { &timerfds, 0 }, { &sets, 0 }, { &sets, 0 },
	{ &segments, SEGMENT }, { &file_locks, 0 }, { &record_locks, 0 }, { &watches, 0 }, { &signalfds, 0 },
	{ &semaphores, 0 }, { &letters, 0 }, { &posts, 0 },
	{ &listeners, AT_PATH }, { &listeners, ABSTRACT }, { &listeners, AT_PORT },
};

static void clean_up(void)
{
	for (int o = 0; o < object_count; o++) {
		const struct kind *kind = objects[o].kind;
		char name[80];
		int id = control->values[o] ? control->values[o] : -1;
		if (kind == &shm_memory) {
			snprintf(name, sizeof name, "/dev/shm/chaos-%d-%d", control->tids[0][0], o);
			unlink(name);
		} else if (kind == &posts) {
			post_name(o, name, sizeof name);
			mq_unlink(name);
		} else if (kind == &segments)
			shmctl(id, IPC_RMID, NULL);
		else if (kind == &semaphores)
			semctl(id, 0, IPC_RMID);
		else if (kind == &letters)
			msgctl(id, IPC_RMID, NULL);
	}
}

static const char *refusal;
/* The tree will be ended by others, who leave the addresses of its connections in use for a while. */
static int left;

static void run_settled(const struct step *s)
{
	if (s->data)
		say("REFUSE %s\n", s->data);
	ready();
	await_verify();
	if (single)
		control->pids[0] = getpid();
}

static void run_over(const struct step *s UNUSED)
{
	clean_up();
	ok();
}

static void make_one(void)
{
	if (object_count == OBJECTS)
		return;
	int p = some_process(), which = rnd(sizeof kinds / sizeof *kinds);
	if (left && (kinds[which].kind == &tcps || (kinds[which].kind == &listeners && kinds[which].variant == AT_PORT)))
		return;
	struct object *o = &objects[object_count];
	o->kind = kinds[which].kind;
	o->variant = kinds[which].variant;
	object_count++;
	if (!o->kind->make(o, p, some_thread(p)))
		object_count--;
}

static void go_on(int actions, int births)
{
	for (int i = 0; i < actions; i++) {
		unsigned what = rnd(100);
		if (what < (families ? 60 : 8))
			family_act();
		else if (what < 12)
			signals_act();
		else if (what < 18)
			descriptors_act();
		else if (object_count && what >= 30) {
			struct object *o = &objects[rnd(object_count)];
			o->kind->act(o);
		} else if (births && rnd(100) < (unsigned)births)
			make_one();
		else if (births && chance(15))
			fork_one();
	}
}

static void settle(int may_be_refused)
{
	refusal = NULL;
	for (int i = 0; i < object_count; i++) {
		struct object *o = &objects[i];
		const char *why = o->kind->settle ? o->kind->settle(o, may_be_refused && !refusal) : NULL;
		if (why)
			refusal = why;
	}
	struct step *s = emit(0, 0, run_settled, "settled", -1);
	if (refusal)
		s->data = kept(refusal, strlen(refusal) + 1);
}

/* The whole life of the tree. */
static void simulate(void)
{
	dice = mix(seed);
	proc_count = 1;
	procs[0] = (struct process){ .state = ALIVE, .threads = 1, .reaper = 1, .group = -1, .session = -1, .mask_of_files = 022 };
	if (chance(20) && !single) {
		emit(0, 0, run_session, "setsid", -1);
		procs[0].group = procs[0].session = 0;
	}
	families = chance(20);
	unsigned busy = 60 + rnd(240);
	go_on(busy, 70);
	settle(1);
	go_on(20 + rnd(busy), 20);
	settle(0);
	go_on(20 + rnd(busy / 2), 10);
	for (int p = 1; p < proc_count; p++)
		if (procs[p].state == ALIVE && procs[p].stopped && able(procs[p].parent)) {
			continue_one(p);
			p = 0;
		}
	for (int i = object_count - 1; i >= 0; i--)
		if (objects[i].kind->finish)
			objects[i].kind->finish(&objects[i]);
	signals_finish();
	family_finish();
	emit(0, 0, run_over, "over", -1);
}

int main(int argc, char **argv)
{
	CHECK(argc > 1, "usage: chaos SEED [single | left]");
	seed = strtoull(argv[1], NULL, 0);
	single = argc > 2 && !strcmp(argv[2], "single");
	left = argc > 2 && !strcmp(argv[2], "left");
	tracing = getenv("CHAOS_TRACE") != NULL;
	int sharing = mix(seed) & 1 ? MAP_SHARED : MAP_PRIVATE;
	arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	steps = mmap(NULL, STEPS * sizeof *steps, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
	CHECK(arena != MAP_FAILED && control != MAP_FAILED && steps != MAP_FAILED, "mmap: %s", strerror(errno));
	simulate();
	make_wakers();
	prepare_signals();
	umask(022);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	control->pids[0] = control->tids[0][0] = getpid();
	handles[0] = pthread_self();
	live(0, 0, 0);
}
