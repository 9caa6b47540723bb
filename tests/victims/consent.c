// A program of several threads that opted in, callbacks on the library's thread; what else it does is
// told by its arguments.
//#Library: suspend
#include "consent.h"
#include <spawn.h>
#include <sys/wait.h>

static volatile int over;

static void *register_much(void *nothing)
{
	while (!over)
		MUST(suspend_unregister(suspend_register(NULL, NULL, nothing)));
	return NULL;
}

static void *hold_much(void *nothing)
{
	while (!over) {
		suspend_hold();
		suspend_hold();
		suspend_release();
		suspend_release();
	}
	return nothing;
}

/* Programs one after the other, each started by vfork; the others hear that all ended well. */
static void *spawn_much(void *nothing)
{
	char *words[] = {"true", NULL};
	while (!over) {
		pid_t child;
		int status;
		SAME(posix_spawnp(&child, words[0], NULL, NULL, words, environ), 0);
		MUST(waitpid(child, &status, 0));
		SAME(status, 0);
	}
	return nothing;
}

static void other(const char *line)
{
	if (!strcmp(line, "hold"))
		suspend_hold();
	else if (!strcmp(line, "refuse"))
		suspend_hold_for(0, "burning a disc");
	else if (!strcmp(line, "short"))
		suspend_hold_for(200, "nearly done");
	else if (!strcmp(line, "release"))
		suspend_release();
	else if (!strcmp(line, "veto"))
		veto = 1;
	else if (!strcmp(line, "agree"))
		veto = slow = 0;
	else
		FAIL("asked for '%s'", line);
	say("DONE\n");
}

/* What the tree's members noted, one after the other, in memory that all share. */
struct order {
	_Atomic int used;
	char text[400];
} *order;

static void put(char who, char what)
{
	int at = order->used++;
	if (at < 390)
		order->text[at * 2] = who, order->text[at * 2 + 1] = what;
}

static int ends;

static int member_suspend(void *who, struct suspend_request *request)
{
	put(*(char *)who, 's');
	if (ends && *(char *)who == 'g')
		_exit(0);
	if (veto && *(char *)who == 'p')
		strcpy(request->reason, "the parent has a say");
	return veto && *(char *)who == 'p';
}

static void member_resume(void *who, const struct suspend_outcome *outcome)
{
	put(*(char *)who, '0' + outcome->event);
}

/* A parent, a child and a grandchild, opted in from the generation `first` on. */
static void grow(int deep, int first)
{
	static char names[] = "pcg";
	if (deep >= first) {
		CHECK(suspend_init(NULL) == 0, "suspend_init: %s", strerror(errno));
		suspend_register(member_suspend, member_resume, &names[deep]);
	}
	if (deep == 2)
		return;
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		grow(deep + 1, first);
		put('+', '+');
		for (;;)
			pause();
	}
}

int main(int argc, char **argv)
{
	pthread_t threads[8];
	int started = 0, tree = 0, rt = 0, first = 0;
	if (is_bare(argc, argv)) {
		ready();
		talk(NULL);
		ok();
	}
	for (int i = 1; i < argc; i++) {
		veto |= !strcmp(argv[i], "veto");
		crash |= !strcmp(argv[i], "crash");
		slow |= !strcmp(argv[i], "slow") ? 2000 : 0;
		lags |= !strcmp(argv[i], "lags") ? 1000 : 0;
		forks |= !strcmp(argv[i], "fork") ? 1 : !strcmp(argv[i], "return") ? 2 : 0;
		execs |= !strcmp(argv[i], "execs");
		keeps |= !strcmp(argv[i], "keeps");
		/* As the journeys between machines name it. */
		abroad |= !strncmp(argv[i], "consent-", 8);
		tree |= !strcmp(argv[i], "tree");
		first |= !strcmp(argv[i], "some");
		ends |= !strcmp(argv[i], "ends");
		if (!strcmp(argv[i], "subreaper"))
			MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
		rt |= !strcmp(argv[i], "rt");
	}
	if (tree) {
		order = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		grow(0, first);
		while (order->used < 2)
			sched_yield();
		order->used = 0;
		memset(order->text, 0, sizeof order->text);
		ready();
		for (;;) {
			char line[64];
			read_line(line, sizeof line);
			if (!strcmp(line, "verify"))
				ok();
			veto = !strcmp(line, "veto");
			say("LOG %s.\n", order->text);
		}
	}
	opt_in(rt ? SIGRTMIN + 5 : 0, rt ? SIGRTMAX : 0, SUSPEND_TRACEABLE);
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "threads")) {
			for (; started < 8; started++)
				pthread_create(&threads[started], NULL,
					       started & 1 ? register_much : hold_much, NULL);
		}
		if (!strcmp(argv[i], "spawns"))
			pthread_create(&threads[started++], NULL, spawn_much, NULL);
	}
	int restarts = argc > 1 && !strcmp(argv[1], "restarts");
	if (!restarts || argc == 2)
		ready();
	if (restarts)
		restart();
	talk(other);
	over = 1;
	while (started > 0)
		pthread_join(threads[--started], NULL);
	if (!veto && !forks)
		await_told(), check_notes();
	ok();
}
