/* System V semaphores and message queues, which everyone may use who knows the id. */
#ifndef CHAOS_SYSV_H
#define CHAOS_SYSV_H
#include "turn.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

#define SEMAPHORES 3
#define LETTERS 8
#define LETTER 200

struct semaphores {
	int value[SEMAPHORES], user[SEMAPHORES];
};

struct letters {
	int count;
	struct { long type; const unsigned char *data; size_t length; } all[LETTERS];
};

static void run_make_semaphores(const struct step *s)
{
	control->values[s->object] = DO(s, semget(IPC_PRIVATE, SEMAPHORES, 0600));
	struct sembuf up = { 0, 1, 0 };
	DO(s, semop(control->values[s->object], &up, 1));
}

static void run_semop(const struct step *s)
{
	struct sembuf change = { s->a, s->b, 0 };
	DO(s, semop(control->values[s->object], &change, 1));
}

static void run_semaphore(const struct step *s)
{
	EXPECT(s, "value", DO(s, semctl(control->values[s->object], s->a, GETVAL)), s->b);
}

static int semaphores_make(struct object *o, int p, int t)
{
	struct semaphores *all = o->state = calloc(1, sizeof *all);
	all->value[0] = 1;
	emit(p, t, run_make_semaphores, "make", number_of(o));
	return 1;
}

static void semaphores_act(struct object *o)
{
	struct semaphores *all = o->state;
	int p = some_process(), t = some_thread(p), which = rnd(SEMAPHORES);
	struct step *s = emit(p, t, chance(50) ? run_semaphore : run_semop, "semaphore", number_of(o));
	s->a = which;
	s->b = all->value[which];
	if (s->run == run_semop)
		all->value[which] += s->b = all->value[which] && chance(50) ? -(int)rnd(all->value[which]) - 1 : (int)rnd(20) + 1;
}

static void run_remove_semaphores(const struct step *s)
{
	DO(s, semctl(control->values[s->object], 0, IPC_RMID));
}

static void semaphores_finish(struct object *o)
{
	for (int i = 0; i < SEMAPHORES; i++) {
		int p = some_process();
		struct step *s = emit(p, some_thread(p), run_semaphore, "semaphore", number_of(o));
		s->a = i;
		s->b = ((struct semaphores *)o->state)->value[i];
	}
	emit(0, 0, run_remove_semaphores, "remove", number_of(o));
}

static void run_make_letters(const struct step *s)
{
	control->values[s->object] = DO(s, msgget(IPC_PRIVATE, 0600));
}

static void run_post(const struct step *s)
{
	struct { long type; unsigned char text[LETTER]; } m = { .type = s->a };
	memcpy(m.text, s->data, s->length);
	DO(s, msgsnd(control->values[s->object], &m, s->length, 0));
}

static void run_fetch(const struct step *s)
{
	struct { long type; unsigned char text[LETTER]; } m;
	same_bytes(s, m.text, DO(s, msgrcv(control->values[s->object], &m, LETTER, s->b, IPC_NOWAIT)));
	EXPECT(s, "type", m.type, s->a);
}

static void post(struct object *o)
{
	struct letters *l = o->state;
	int p = some_process();
	if (l->count == LETTERS)
		return;
	struct step *s = emit(p, some_thread(p), run_post, "msgsnd", number_of(o));
	l->all[l->count].type = s->a = rnd(3) + 1;
	l->all[l->count].length = s->length = rnd(LETTER) + 1;
	l->all[l->count++].data = s->data = fresh(s->length);
}

static void fetch(struct object *o, int i, int by_type)
{
	struct letters *l = o->state;
	int p = some_process();
	struct step *s = emit(p, some_thread(p), run_fetch, "msgrcv", number_of(o));
	s->a = l->all[i].type;
	s->b = by_type ? s->a : 0;
	s->data = l->all[i].data;
	s->length = l->all[i].length;
	memmove(l->all + i, l->all + i + 1, (--l->count - i) * sizeof l->all[0]);
}

static int letters_make(struct object *o, int p, int t)
{
	o->state = calloc(1, sizeof(struct letters));
	emit(p, t, run_make_letters, "make", number_of(o));
	post(o);
	return 1;
}

static void letters_act(struct object *o)
{
	struct letters *l = o->state;
	int i = 0;
	if (!l->count || chance(55)) {
		post(o);
		return;
	}
	int by_type = chance(50);
	long type = l->all[rnd(l->count)].type;
	while (by_type && l->all[i].type != type)
		i++;
	fetch(o, i, by_type);
}

static void run_remove_letters(const struct step *s)
{
	DO(s, msgctl(control->values[s->object], IPC_RMID, NULL));
}

static void letters_finish(struct object *o)
{
	while (((struct letters *)o->state)->count)
		fetch(o, 0, 0);
	emit(0, 0, run_remove_letters, "remove", number_of(o));
}

static const struct kind semaphores = { .name = "System V semaphores", .make = semaphores_make, .act = semaphores_act, .finish = semaphores_finish };
static const struct kind letters = { .name = "System V messages", .make = letters_make, .act = letters_act, .finish = letters_finish };
#endif
