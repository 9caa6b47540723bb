/* Memory that several processes map, at addresses of their own: anonymous, of a memfd, of a file on
 * disk or in /dev/shm, a System V segment; and private memory, which is each one's own from the fork on. */
#ifndef CHAOS_MEMORY_H
#define CHAOS_MEMORY_H
#include "turn.h"
#include <sys/shm.h>

enum { ANONYMOUS, MEMFD, SHM, MAPPED, OWN, SEGMENT };
#define CELLS 8
#define CELL 64
#define PAGES 40

struct memory {
	int desc, seals;
	int where[CELLS];
	unsigned char now[CELLS][CELL], own[PROCS][CELLS][CELL];
	unsigned char mapped[PROCS], readonly[PROCS];
};

static unsigned char *mapped_at[OBJECTS];
#define EXTENT (PAGES * 4096)

static void memory_name(const struct step *s, char *text, size_t size)
{
	if (s->c == SHM)
		snprintf(text, size, "/dev/shm/chaos-%d-%d", control->tids[0][0], s->object);
	else
		snprintf(text, size, "mapped%d", s->object);
}

static void map(const struct step *s, int fd)
{
	int flags = s->c == OWN ? MAP_PRIVATE | MAP_ANONYMOUS : s->c == ANONYMOUS ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
	void *at = s->c == SEGMENT ? shmat(control->values[s->object], NULL, 0) : mmap(NULL, EXTENT, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (at == MAP_FAILED)
		WRONG(s, "mapping: %s", strerror(errno));
	mapped_at[s->object] = at;
}

static void run_make_memory(const struct step *s)
{
	char name[80];
	int fd = -1;
	memory_name(s, name, sizeof name);
	if (s->c == SEGMENT)
		control->values[s->object] = DO(s, shmget(IPC_PRIVATE, EXTENT, 0600));
	else if (s->c == MEMFD)
		fd = DO(s, memfd_create("chaos", MFD_ALLOW_SEALING));
	else if (s->c == SHM || s->c == MAPPED)
		fd = DO(s, open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
	if (fd >= 0) {
		DO(s, ftruncate(fd, EXTENT));
		fds[s->a][0] = fd;
	}
	map(s, fd);
}

static void run_map(const struct step *s)
{
	map(s, s->c == SEGMENT ? -1 : fd_of(s));
}

static void run_unmap(const struct step *s)
{
	if (s->c == SEGMENT)
		DO(s, shmdt(mapped_at[s->object]));
	else
		DO(s, munmap(mapped_at[s->object], EXTENT));
}

static void run_move(const struct step *s)
{
	unsigned char *to = mmap(NULL, EXTENT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *at = mremap(mapped_at[s->object], EXTENT, EXTENT, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (at == MAP_FAILED)
		WRONG(s, "mremap: %s", strerror(errno));
	mapped_at[s->object] = at;
}

static void run_protect(const struct step *s)
{
	DO(s, mprotect(mapped_at[s->object], EXTENT, s->a ? PROT_READ : PROT_READ | PROT_WRITE));
}

static void run_store(const struct step *s)
{
	memcpy(mapped_at[s->object] + s->a, s->data, s->length);
}

static void run_load(const struct step *s)
{
	same_bytes(s, mapped_at[s->object] + s->a, s->length);
}

static void run_load_file(const struct step *s)
{
	unsigned char found[CELL];
	same_bytes(s, found, DO(s, pread(fd_of(s), found, s->length, s->a)));
}

static void run_store_file(const struct step *s)
{
	EXPECT(s, "pwrite", DO(s, pwrite(fd_of(s), s->data, s->length, s->a)), s->length);
}

static void run_seal(const struct step *s)
{
	EXPECT(s, "seals", DO(s, fcntl(fd_of(s), F_GET_SEALS)), s->a);
	DO(s, fcntl(fd_of(s), F_ADD_SEALS, (int)s->b));
}

static void run_remove_memory(const struct step *s)
{
	char name[80];
	memory_name(s, name, sizeof name);
	if (s->c == SEGMENT)
		DO(s, shmctl(control->values[s->object], IPC_RMID, NULL));
	else
		DO(s, unlink(name));
}

static struct step *at_cell(struct step *s, const struct object *o, int cell)
{
	struct memory *m = o->state;
	s->a = m->where[cell];
	s->c = o->variant;
	s->length = CELL;
	return s;
}

static int memory_make(struct object *o, int p, int t)
{
	int with_file = o->variant >= MEMFD && o->variant <= MAPPED;
	if (with_file && !descs_left())
		return 0;
	struct memory *m = o->state = calloc(1, sizeof *m);
	m->desc = with_file ? new_desc(o, 0, p) : -1;
	if (with_file)
		descs[m->desc].no_dup = 0;
	int page = rnd(4);
	for (int i = 0; i < CELLS; i++) {
		m->where[i] = page * 4096 + rnd(4096 / CELL) * CELL;
		page += rnd(4) + 1;
	}
	m->mapped[p] = 1;
	struct step *s = emit(p, t, run_make_memory, "make", number_of(o));
	s->a = m->desc;
	s->c = o->variant;
	return 1;
}

static unsigned char *cell_of(struct object *o, int p, int cell)
{
	struct memory *m = o->state;
	return o->variant == OWN ? m->own[p][cell] : m->now[cell];
}

static int some_mapper(struct object *o)
{
	struct memory *m = o->state;
	int found[PROCS], n = 0;
	for (int p = 0; p < proc_count; p++)
		if (able(p) && m->mapped[p])
			found[n++] = p;
	return n ? found[rnd(n)] : -1;
}

static void memory_look(struct object *o, int p, int cell)
{
	struct step *s = at_cell(emit(p, some_thread(p), run_load, "load", number_of(o)), o, cell);
	s->data = kept(cell_of(o, p, cell), CELL);
}

static void memory_act(struct object *o)
{
	struct memory *m = o->state;
	int p = some_mapper(o), cell = rnd(CELLS);
	struct step *s;
	if (p < 0)
		return;
	int t = some_thread(p), holder = m->desc < 0 ? -1 : some_holder(m->desc), other = some_process();
	switch (rnd(11)) {
	case 0:
	case 1:
	case 2:
		if (m->readonly[p])
			break;
		s = at_cell(emit(p, t, run_store, "store", number_of(o)), o, cell);
		s->data = fresh(CELL);
		memcpy(cell_of(o, p, cell), s->data, CELL);
		break;
	case 3:
	case 4:
		memory_look(o, p, cell);
		break;
	case 5:
		emit(p, t, run_move, "mremap", number_of(o));
		break;
	case 6:
		s = emit(p, t, run_protect, "mprotect", number_of(o));
		s->a = m->readonly[p] = !m->readonly[p];
		break;
	case 7:
		if ((holder < 0 && o->variant != SEGMENT) || chance(50))
			break;
		emit(p, t, run_unmap, "munmap", number_of(o))->c = o->variant;
		m->mapped[p] = m->readonly[p] = 0;
		break;
	case 8:
		if (o->variant == SEGMENT && !m->mapped[other]) {
			emit(other, some_thread(other), run_map, "shmat", number_of(o))->c = SEGMENT;
			m->mapped[other] = 1;
		}
		if (holder < 0 || m->mapped[holder])
			break;
		s = by(holder, some_thread(holder), m->desc, run_map, "mmap");
		s->c = o->variant;
		m->mapped[holder] = 1;
		break;
	case 9:
		if (holder < 0)
			break;
		if (chance(50)) {
			s = at_cell(by(holder, some_thread(holder), m->desc, run_load_file, "pread"), o, cell);
			s->data = kept(m->now[cell], CELL);
		} else {
			s = at_cell(by(holder, some_thread(holder), m->desc, run_store_file, "pwrite"), o, cell);
			s->data = fresh(CELL);
			memcpy(m->now[cell], s->data, CELL);
		}
		break;
	default:
		if (o->variant == MEMFD && holder >= 0) {
			s = by(holder, some_thread(holder), m->desc, run_seal, "seal");
			s->a = m->seals;
			s->b = (int[]){ F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_GROW | F_SEAL_SHRINK }[rnd(3)];
			m->seals |= s->b;
		}
	}
}

static void memory_finish(struct object *o)
{
	struct memory *m = o->state;
	for (int p = 0; p < proc_count; p++)
		for (int cell = 0; cell < CELLS && procs[p].state == ALIVE && m->mapped[p]; cell++)
			memory_look(o, p, cell);
	if (o->variant == SHM || o->variant == SEGMENT)
		emit(0, some_thread(0), run_remove_memory, "remove", number_of(o))->c = o->variant;
}

static void memory_forked(struct object *o, int parent, int child)
{
	struct memory *m = o->state;
	m->mapped[child] = m->mapped[parent];
	m->readonly[child] = m->readonly[parent];
	memcpy(m->own[child], m->own[parent], sizeof m->own[child]);
}

static void memory_ended(struct object *o, int p)
{
	((struct memory *)o->state)->mapped[p] = 0;
}

#define MEMORY(id, text)                                                                          \
	static const struct kind id = { .name = text, .make = memory_make, .act = memory_act, .finish = memory_finish, .forked = memory_forked, .ended = memory_ended }
MEMORY(anonymous_memory, "shared anonymous memory");
MEMORY(memfds, "memfd");
MEMORY(shm_memory, "memory of /dev/shm");
MEMORY(mapped_files, "mapped file");
MEMORY(own_memory, "private memory");
MEMORY(segments, "System V memory");
#endif
