// A program with a library of its own, of which a plugin would have another: two control blocks in
// one process.
//#Library: suspend
//#Modes: none
#include "victim.h"
#include <dlfcn.h>
#include <suspend.h>

static volatile int asked[2], told[2];

static int on_suspend(void *which, struct suspend_request *request)
{
	(void)request;
	asked[*(int *)which]++;
	return 0;
}

static void on_resume(void *which, const struct suspend_outcome *outcome)
{
	(void)outcome;
	told[*(int *)which]++;
}

static void *symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);
	CHECK(found, "%s: %s", name, dlerror());
	return found;
}

int main(int argc, char **argv)
{
	static int first = 0, second = 1;
	CHECK(argc == 2, "where is the other library?");
	CHECK(suspend_init(NULL) == 0, "suspend_init: %s", strerror(errno));
	CHECK(suspend_register(on_suspend, on_resume, &first) > 0, "no id");

	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	CHECK(library, "%s", dlerror());
	int (*init)(const struct suspend_options *) = symbol(library, "suspend_init");
	int (*add)(int (*)(void *, struct suspend_request *),
		   void (*)(void *, const struct suspend_outcome *), void *) =
		symbol(library, "suspend_register");
	CHECK(init(NULL) == -1 && errno == EBUSY, "the signals are taken, and it said %s", strerror(errno));
	struct suspend_options options = {SIGRTMIN + 1, SIGRTMIN + 2, 0};
	CHECK(init(&options) == 0, "suspend_init: %s", strerror(errno));
	CHECK(add(on_suspend, on_resume, &second) > 0, "no id");
	ready();
	for (;;) {
		char line[64];
		read_line(line, sizeof line);
		if (!strcmp(line, "ping"))
			say("PONG\n");
		else if (!strcmp(line, "log"))
			say("LOG %d %d %d %d.\n", asked[0], asked[1], told[0], told[1]);
		else if (!strcmp(line, "verify"))
			break;
	}
	ok();
}
